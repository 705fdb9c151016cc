"""A client of the HTTP API in Python: counts, series, events with retries, the live stream.

    from headcount.client import Client

    with Client("http://127.0.0.1:8000", token="hc_...") as headcount:
        print(headcount.count("cafe").count)

`Client` is for plain code, `AsyncClient` for asyncio; both have the same methods, and `AsyncClient` also `live`.
Answers are the structs of `headcount.wire.messages`, whose fields GET /schema describes. Instants are datetimes with a
time zone: in any zone on the way in, in UTC on the way out.

Every method tries again while the service is away (no connection, 502, 503, 504) or busy (429), until `patience`
seconds have passed. That is safe, also for events: what was stored counts once, however often it is sent.
Between two tries it waits 0.2 s, then twice as long each time up to 10 s, less a random part; and never less than
`Retry-After` says.

Errors, all of them `HeadcountError`:

- `ProblemError`: the service refused. `problem` is its answer; `problem.code` is for programs (docs/errors.md).
- `Unavailable`: nobody answered, or only to say "later", for `patience` seconds.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from headcount.wire.messages.base import Page, ProblemItem, ProblemOut
from headcount.wire.messages.counts import (
    LIVE_EVENTS,
    BucketOut,
    CountOut,
    CountsOut,
    DpuChangeOut,
    DpusOut,
    ListAgainOut,
    SpaceChangeOut,
    SpaceCountsOut,
)
from headcount.wire.messages.events import EventIn, EventOut, EventsRecordedOut, Rejection

if TYPE_CHECKING:
    import pandas

__all__ = [
    "AsyncClient",
    "BucketOut",
    "Client",
    "CountOut",
    "CountsOut",
    "DpuChangeOut",
    "DpusOut",
    "EventIn",
    "EventOut",
    "EventsRecordedOut",
    "HeadcountError",
    "ListAgainOut",
    "Live",
    "ProblemError",
    "ProblemItem",
    "ProblemOut",
    "Rejection",
    "SpaceChangeOut",
    "SpaceCountsOut",
    "Unavailable",
    "frame",
]

PATIENCE_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
BATCH_EVENTS = 5_000
PAGE_EVENTS = 1_000
# The stream is never silent for longer than 15 s: after twice that the connection is dead.
SILENT_SECONDS = 30.0
BUSY = frozenset({429, 502, 503, 504})

Change = CountOut | SpaceChangeOut | DpuChangeOut | ListAgainOut

# As httpx has it.
Params = list[tuple[str, str | int | float | bool | None]]
T = TypeVar("T")


class HeadcountError(Exception):
    """Whatever goes wrong between a client and the service."""


class ProblemError(HeadcountError):
    """The service refused. `request_id` is what its log names the request by; None if no service answered."""

    def __init__(self, problem: ProblemOut, request_id: str | None) -> None:
        super().__init__(f"{problem.status} {problem.code or problem.title}: {problem.detail}")
        self.problem = problem
        self.request_id = request_id


class Unavailable(HeadcountError):
    """The service did not answer in time. What was to be stored may be stored: send it again, it counts once."""


class Retries:
    """How long to wait after each try of one request, until patience is at an end."""

    def __init__(self, patience: float) -> None:
        self.ends_at = time.monotonic() + patience
        self.patience = patience
        self.pause = FIRST_PAUSE

    def after(self, reason: httpx.Response | httpx.TransportError) -> float:
        """Seconds to wait before the next try. Raises Unavailable if that would be too late."""
        seconds = self.pause * random.uniform(0.5, 1.0)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        if isinstance(reason, httpx.Response):
            # and a little more, so that not all whom the service sends away come back at once
            seconds += seconds_of(reason.headers.get("Retry-After", ""))
        if time.monotonic() + seconds > self.ends_at:
            raise _unavailable(reason, self.patience)
        return seconds


def _unavailable(reason: httpx.Response | httpx.TransportError, patience: float) -> Unavailable:
    if isinstance(reason, httpx.Response):
        words = str(ProblemError(_problem_of(reason), None))
    else:
        words = str(reason) or type(reason).__name__
    error = Unavailable(f"{_shown(reason.request.url)} did not answer within {patience:g} s: {words}")
    error.__cause__ = reason if isinstance(reason, Exception) else None
    return error


def _shown(url: httpx.URL) -> httpx.URL:
    """Without what may be a secret."""
    return url.copy_with(query=None, userinfo=b"")


def seconds_of(retry_after: str) -> float:
    """How long to wait by a Retry-After, in seconds or as a date (RFC 9110, section 10.2.3); 0 where it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


class Ask(msgspec.Struct, Generic[T], frozen=True):
    """A request, and what its answer is."""

    method: str
    path: str
    answer: Any
    params: Params = []
    content: bytes | None = None

    def build(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        headers = {"Content-Type": "application/json"} if self.content is not None else None
        return http.build_request(self.method, self.path, params=self.params, content=self.content, headers=headers)

    def read(self, response: httpx.Response) -> T:
        """The answer. Raises ProblemError for a refusal, and for what is none of the service's answers."""
        if not response.is_success:
            raise ProblemError(_problem_of(response), response.headers.get("X-Request-Id"))
        try:
            found: T = msgspec.json.decode(response.content, type=self.answer)
            return found
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = _strange(response, "The answer is not one of Headcount. Is the address that of the service?")
            raise ProblemError(problem, response.headers.get("X-Request-Id")) from None


def _problem_of(response: httpx.Response) -> ProblemOut:
    try:
        return msgspec.json.decode(response.content, type=ProblemOut)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    if response.has_redirect_location:
        return _strange(response, f"It leads to {response.headers['Location']}; redirects are not followed.")
    return _strange(response, response.text[:500] or "The answer has no body.")


def _strange(response: httpx.Response, detail: str) -> ProblemOut:
    """What somebody between the client and the service says, in the service's shape."""
    return ProblemOut(
        type="about:blank", title=response.reason_phrase, status=response.status_code, detail=detail, code=""
    )


def _params(**given: object) -> Params:
    """A query string: what is None is left out, `from_` is called `from`, lists give a parameter several times."""
    return [
        (name.rstrip("_"), _text(name.rstrip("_"), one))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


def _text(name: str, value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name}: {value} has no time zone; use datetime(..., tzinfo=UTC) or one with zoneinfo")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _space(space: str, what: str) -> str:
    return f"/v1/spaces/{quote(space, safe='')}/{what}"


def ask_count(space: str, at: datetime | None, known_at: datetime | None, max_staleness: int | None) -> Ask[CountOut]:
    params = _params(at=at, known_at=known_at, max_staleness=max_staleness)
    return Ask("GET", _space(space, "count"), CountOut, params)


def ask_counts(
    spaces: Sequence[str] | None,
    under: str | None,
    at: datetime | None,
    known_at: datetime | None,
    max_staleness: int | None,
) -> Ask[CountsOut]:
    params = _params(space=_listed(spaces), under=under, at=at, known_at=known_at, max_staleness=max_staleness)
    return Ask("GET", "/v1/counts", CountsOut, params)


def ask_series(
    space: str,
    from_: datetime | None,
    to: datetime | None,
    interval: str,
    time_zone: str | None,
    max_staleness: int | None,
) -> Ask[SpaceCountsOut]:
    params = _params(from_=from_, to=to, interval=interval, time_zone=time_zone, max_staleness=max_staleness)
    return Ask("GET", _space(space, "counts"), SpaceCountsOut, params)


def ask_events(
    dpu: str | None, space: str | None, from_: datetime | None, to: datetime | None, after: str | None
) -> Ask[Page[EventOut]]:
    params = _params(dpu=dpu, space=space, from_=from_, to=to, after=after, limit=PAGE_EVENTS)
    return Ask("GET", "/v1/events", Page[EventOut], params)


def ask_to_record(events: Sequence[EventIn], backfill: bool, first: int) -> Ask[EventsRecordedOut]:
    for index, event in enumerate(events, first):
        if event.timestamp.tzinfo is None:
            raise ValueError(f"events[{index}].timestamp: {event.timestamp} has no time zone")
    content = msgspec.json.encode({"events": events})
    return Ask("POST", "/v1/events", EventsRecordedOut, _params(backfill=backfill or None), content)


def _listed(spaces: Sequence[str] | None) -> list[str] | None:
    if isinstance(spaces, str):
        raise TypeError(f"spaces: expected a list of ids, got the text {spaces!r}")
    return None if spaces is None else list(spaces)


class Tally:
    """The sum of several answers to POST /v1/events, as one."""

    def __init__(self) -> None:
        self.received = self.accepted = self.duplicates = 0
        self.rejected: list[Rejection] = []

    def add(self, part: EventsRecordedOut) -> None:
        for one in part.rejected:
            self.rejected.append(Rejection(self.received + one.index, one.code, one.detail))
        self.received += part.received
        self.accepted += part.accepted
        self.duplicates += part.duplicates

    def sum(self) -> EventsRecordedOut:
        return EventsRecordedOut(self.received, self.accepted, self.duplicates, self.rejected)


def _batches(events: Iterable[EventIn]) -> Iterator[list[EventIn]]:
    left = iter(events)
    while batch := list(islice(left, BATCH_EVENTS)):
        yield batch


def bearer(token: str | None) -> dict[str, str]:
    """The header with a token. Raises ValueError for what is none: httpx would quote it in its errors."""
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("The token has a character that no token has: a space, a line break or the like.")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _options(token: str | None, options: dict[str, Any]) -> dict[str, Any]:
    headers = bearer(token)
    return {"timeout": TIMEOUT_SECONDS, **options, "headers": {**headers, **(options.get("headers") or {})}}


class Client:
    """The service at `url`, for plain code. Close it, or use it with `with`.

    `token`: `hc_...`, if the service asks for tokens. `patience`: for how many seconds a request is tried again;
    0: once only. Other options go to httpx.Client, such as `verify` or `proxy`. It may be shared by threads.
    """

    def __init__(
        self, url: str, *, token: str | None = None, patience: float = PATIENCE_SECONDS, **options: Any
    ) -> None:
        self.patience = patience
        self.http = httpx.Client(base_url=url, **_options(token, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self.http.close()

    def count(
        self,
        space: str,
        *,
        at: datetime | None = None,
        known_at: datetime | None = None,
        max_staleness: int | None = None,
    ) -> CountOut:
        """How many people are in a space (`count`, never below 0), or were at `at`.

        `known_at`: from what was known then. `max_staleness`: seconds that the answer may be old (0).
        Raises ProblemError: `not_found` for an unknown space, `invalid` for an instant in the future.
        """
        return self._ask(ask_count(space, at, known_at, max_staleness))

    def counts(
        self,
        spaces: Sequence[str] | None = None,
        *,
        under: str | None = None,
        at: datetime | None = None,
        known_at: datetime | None = None,
        max_staleness: int | None = None,
    ) -> CountsOut:
        """The counts of these spaces, or of `under` and everything below, or of all; from one snapshot.

        `counts` is a list of CountOut, all at the instant `at`. Raises ProblemError: `not_found`, `invalid`.
        """
        return self._ask(ask_counts(spaces, under, at, known_at, max_staleness))

    def series(
        self,
        space: str,
        from_: datetime | None = None,
        to: datetime | None = None,
        *,
        interval: str = "1h",
        time_zone: str | None = None,
        max_staleness: int | None = None,
    ) -> SpaceCountsOut:
        """How the count of a space went in [from_, to): one bucket for each `interval` of local time.

        `to`: now, if absent; `from_`: 24 hours before. `interval`: 15m, 30m, 1h, 1d, 1w or 1mo. `time_zone`: an IANA
        name; the space's own, if absent. `buckets` are in time order, at most 10,000; `frame` makes a DataFrame of
        them. Raises ProblemError: `not_found`, `invalid`.
        """
        return self._ask(ask_series(space, from_, to, interval, time_zone, max_staleness))

    def record_events(self, events: Iterable[EventIn], *, backfill: bool = False) -> EventsRecordedOut:
        """Stores events and tells what became of them: received = accepted + duplicates + len(rejected).

        They go out in batches of 5,000, each committed before the next; `rejected[].index` counts over all of them.
        A bad event costs none of the good ones. `backfill`: they are old, so no sign that their DPUs are alive.
        After any error send all of them again: what was stored is a duplicate then, and counts once.
        Raises ProblemError, Unavailable; ValueError for a timestamp without a time zone.
        """
        tally = Tally()
        for batch in _batches(events):
            tally.add(self._ask(ask_to_record(batch, backfill, tally.received)))
        return tally.sum()

    def events(
        self,
        *,
        dpu: str | None = None,
        space: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
    ) -> Iterator[EventOut]:
        """The stored events of a DPU, or those that counted for a space (with `sign`), in [from_, to), in time order.

        Asked for page by page as you go on. Raises ProblemError: `not_found`, `invalid`.
        """
        after: str | None = None
        while True:
            page = self._ask(ask_events(dpu, space, from_, to, after))
            yield from page.items
            if (after := page.next) is None:
                return

    def _ask(self, ask: Ask[T]) -> T:
        retries = Retries(self.patience)
        while True:
            try:
                response = self.http.send(ask.build(self.http))
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as error:
                pause = retries.after(error)
            else:
                if response.status_code not in BUSY:
                    return ask.read(response)
                pause = retries.after(response)
            time.sleep(pause)


class AsyncClient:
    """The service at `url`, for asyncio. Close it, or use it with `async with`. Its methods are those of `Client`."""

    def __init__(
        self, url: str, *, token: str | None = None, patience: float = PATIENCE_SECONDS, **options: Any
    ) -> None:
        self.patience = patience
        self.http = httpx.AsyncClient(base_url=url, **_options(token, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self.http.aclose()

    async def count(
        self,
        space: str,
        *,
        at: datetime | None = None,
        known_at: datetime | None = None,
        max_staleness: int | None = None,
    ) -> CountOut:
        """As Client.count."""
        return await self._ask(ask_count(space, at, known_at, max_staleness))

    async def counts(
        self,
        spaces: Sequence[str] | None = None,
        *,
        under: str | None = None,
        at: datetime | None = None,
        known_at: datetime | None = None,
        max_staleness: int | None = None,
    ) -> CountsOut:
        """As Client.counts."""
        return await self._ask(ask_counts(spaces, under, at, known_at, max_staleness))

    async def series(
        self,
        space: str,
        from_: datetime | None = None,
        to: datetime | None = None,
        *,
        interval: str = "1h",
        time_zone: str | None = None,
        max_staleness: int | None = None,
    ) -> SpaceCountsOut:
        """As Client.series."""
        return await self._ask(ask_series(space, from_, to, interval, time_zone, max_staleness))

    async def record_events(self, events: Iterable[EventIn], *, backfill: bool = False) -> EventsRecordedOut:
        """As Client.record_events."""
        tally = Tally()
        for batch in _batches(events):
            tally.add(await self._ask(ask_to_record(batch, backfill, tally.received)))
        return tally.sum()

    async def events(
        self,
        *,
        dpu: str | None = None,
        space: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
    ) -> AsyncIterator[EventOut]:
        """As Client.events; an async iterator."""
        after: str | None = None
        while True:
            page = await self._ask(ask_events(dpu, space, from_, to, after))
            for event in page.items:
                yield event
            if (after := page.next) is None:
                return

    def live(
        self, spaces: Sequence[str] | None = None, *, under: str | None = None, last_id: str | None = None
    ) -> "Live":
        """The counts of these spaces, or of `under` and everything below, or of all: now and whenever they change.

        `last_id`: only what changed since; the `last_id` of a stream that ended. See `Live`.
        """
        return Live(self, _params(space=_listed(spaces), under=under), last_id)

    async def _ask(self, ask: Ask[T]) -> T:
        retries = Retries(self.patience)
        while True:
            try:
                response = await self.http.send(ask.build(self.http))
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as error:
                pause = retries.after(error)
            else:
                if response.status_code not in BUSY:
                    return ask.read(response)
                pause = retries.after(response)
            await asyncio.sleep(pause)


class Live:
    """A live stream, to be read with `async for`. Each item is one of

    - CountOut: the count of a space, for each space once at the beginning and then within a second of every change,
    - SpaceChangeOut: a space itself was created or changed, or is gone (`deleted`),
    - DpuChangeOut: a sensor went offline, came back or is new,
    - ListAgainOut: spaces and sensors may have changed unnoticed, so list them again.

    When the connection is cut, or silent for 30 s, it connects again and goes on where it was: no count is left out,
    but an item may come twice. It ends only with an error: ProblemError, such as `unauthorized` for a token that was
    revoked, or Unavailable once the service has been away for the client's `patience`.
    `last_id`: how far it has come; give it to `AsyncClient.live` to go on there, within 2 minutes.
    """

    def __init__(self, client: AsyncClient, params: Params, last_id: str | None) -> None:
        self.client = client
        self.params = params
        self.last_id = last_id

    async def __aiter__(self) -> AsyncIterator[Change]:
        retries = Retries(self.client.patience)
        while True:
            try:
                async with aclosing(self._connect()) as blocks:
                    async for block in blocks:
                        if block is None:  # the service has answered, so patience begins anew
                            retries = Retries(self.client.patience)
                        elif (change := self._take(block)) is not None:
                            yield change
                pause = retries.after(httpx.RemoteProtocolError("the stream ended", request=self._request()))
            except Busy as busy:
                pause = retries.after(busy.response)
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as error:
                pause = retries.after(error)
            await asyncio.sleep(pause)

    def _request(self) -> httpx.Request:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=SILENT_SECONDS)
        return self.client.http.build_request("GET", "/v1/live", params=self.params, headers=headers, timeout=timeout)

    async def _connect(self) -> AsyncGenerator[bytes | None, None]:
        """One connection: None when it is open, and each time that something comes; and every event as it came."""
        response = await self.client.http.send(self._request(), stream=True)
        try:
            if response.status_code in BUSY:
                await response.aread()
                raise Busy(response)
            if not response.is_success:
                await response.aread()
                raise ProblemError(_problem_of(response), response.headers.get("X-Request-Id"))
            rest = b""
            async for piece in response.aiter_bytes():
                yield None
                *blocks, rest = (rest + piece).split(b"\n\n")
                for block in blocks:
                    yield block
        finally:
            await response.aclose()

    def _take(self, block: bytes) -> Change | None:
        """The change that an event tells; None for one of a kind that is not known here."""
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and line[:1] != b":")
        kind = LIVE_EVENTS.get(fields.get(b"event", b"").decode())
        change = msgspec.json.decode(fields[b"data"], type=kind) if kind and b"data" in fields else None
        if b"id" in fields:
            self.last_id = fields[b"id"].decode()
        return change


class Busy(Exception):
    """The stream was refused for now."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def frame(series: SpaceCountsOut) -> "pandas.DataFrame":
    """A series as a pandas DataFrame: one row for each bucket.

    The index `start` is in the series' time zone. Columns: `end`, `count` and `raw_count` at the bucket's end, `min`,
    `max`, `average`, `entries`, `exits` (people) and `utilization` (share of the capacity; NaN where none is known).
    Raises ImportError without pandas, which headcount itself does not need.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("frame() needs pandas: pip install pandas") from error
    names = BucketOut.__struct_fields__
    table = pandas.DataFrame([msgspec.structs.astuple(bucket) for bucket in series.buckets], columns=list(names))
    for name in ("start", "end"):
        table[name] = pandas.to_datetime(table[name], utc=True).dt.tz_convert(series.time_zone)
    numbers = dict.fromkeys(("count", "raw_count", "min", "max", "entries", "exits"), "int64")
    return table.astype({**numbers, "average": "float64", "utilization": "float64"}).set_index("start")
