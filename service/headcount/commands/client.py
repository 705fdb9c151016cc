"""The service as commands speak to it: at a URL, with the token in HEADCOUNT_TOKEN."""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import click
import httpx
import msgspec

from headcount import client
from headcount.addresses import show_server
from headcount.demo.simulation import Report, to_datetime
from headcount.ingest.formats import printable
from headcount.ingest.sites import halves_of, parts_of
from headcount.settings import SettingsRefused, check_names, read_variable
from headcount.wire.instants import encoded
from headcount.wire.messages.base import ProblemOut
from headcount.wire.messages.events import EventsRecordedOut
from headcount.wire.messages.plan import SiteChange, SiteIn, SiteOut
from headcount.wire.problems import TOO_LARGE

BATCH_EVENTS = 5_000
GIVE_UP_SECONDS = 300.0
LONGEST_PAUSE = 10.0
# A server that wants us to wait for longer is given up after that.
MOST_SECONDS = GIVE_UP_SECONDS
HEARTBEAT_SECONDS = 60.0
# Not in the words of others: they quote what they cannot read, and that may be a password.
UNREADABLE = "--url cannot be read. It must be http://HOST:PORT or https://HOST:PORT."


class TooLarge(Exception):
    """It would be answered in smaller parts."""


class Client:
    """Sends to the service, again and again while it is away or busy. Nothing is lost and nothing counts twice."""

    def __init__(self, url: str) -> None:
        try:
            check_names()
            headers = client.bearer(read_variable("HEADCOUNT_TOKEN"))
        except SettingsRefused as refused:
            raise click.ClickException(str(refused)) from None
        except ValueError as error:
            raise click.ClickException(f"HEADCOUNT_TOKEN: {error}") from None
        self.shown = show_server(url, "https?")
        if self.shown is None:
            raise click.UsageError(UNREADABLE)
        try:
            self.client = httpx.Client(base_url=url, timeout=60, headers=headers)
        except httpx.InvalidURL:
            raise click.UsageError(UNREADABLE) from None
        self.received = self.accepted = self.duplicates = self.rejected = 0
        self.beat_at = 0.0  # when heartbeats are due, by the monotonic clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    def apply_site(self, site: SiteIn) -> Iterator[SiteChange]:
        """In parts, where it is a large one or takes too long: what each of them has changed comes when it is done."""
        parts = deque(parts_of(site))
        while parts:
            part = parts.popleft()
            halves = halves_of(part)
            try:
                answer = self._request(
                    "PUT", "/v1/site", msgspec.json.encode(part, enc_hook=encoded), can_be_smaller=bool(halves)
                )
            except TooLarge:
                parts.extendleft(reversed(halves))
                continue
            yield from msgspec.json.decode(answer, type=SiteOut).changes

    def preview_site(self, site: SiteIn) -> SiteOut:
        answer = self._request("PUT", "/v1/site?dry_run=true", msgspec.json.encode(site, enc_hook=encoded), 0)
        return msgspec.json.decode(answer, type=SiteOut)

    def send(self, deliveries: Iterator[tuple[int, Report]], live: bool) -> None:
        """In batches; live, a batch ends with what is due."""
        batch: list[Report] = []
        for due, report in deliveries:
            wait = due / 1000 - datetime.now(UTC).timestamp() if live else 0.0
            if wait > 0 and batch:
                self._send(batch, live)
                batch = []
                wait = due / 1000 - datetime.now(UTC).timestamp()
            if wait > 0:
                sleep(wait)
            batch.append(report)
            if len(batch) == BATCH_EVENTS:
                self._send(batch, live)
                batch = []
        if batch:
            self._send(batch, live)

    def beat(self, dpus: Sequence[str]) -> None:
        """Heartbeats of all DPUs, once a minute."""
        if monotonic() >= self.beat_at:
            self.beat_at = monotonic() + HEARTBEAT_SECONDS
            for first in range(0, len(dpus), BATCH_EVENTS):
                heartbeats = [{"dpu": dpu} for dpu in dpus[first : first + BATCH_EVENTS]]
                self._request("POST", "/v1/heartbeats", msgspec.json.encode({"heartbeats": heartbeats}))

    def _send(self, batch: list[Report], live: bool) -> None:
        """What is not live is history: that it is received now says nothing of the DPUs."""
        events = [{"dpu": r.dpu, "timestamp": to_datetime(r.at), "direction": r.direction} for r in batch]
        answer = self._request(
            "POST", "/v1/events" if live else "/v1/events?backfill=true", msgspec.json.encode({"events": events})
        )
        result = msgspec.json.decode(answer, type=EventsRecordedOut)
        self.received += result.received
        self.accepted += result.accepted
        self.duplicates += result.duplicates
        self.rejected += len(result.rejected)

    def print_summary(self) -> None:
        click.echo(
            f"sent {self.received}, accepted {self.accepted}, duplicates {self.duplicates}, rejected {self.rejected}"
        )

    def _request(
        self,
        method: str,
        path: str,
        body: bytes,
        give_up_seconds: float = GIVE_UP_SECONDS,
        *,
        can_be_smaller: bool = False,
    ) -> bytes:
        """Raises TooLarge, where it can be smaller, if it should be."""
        pause, waited = 0.2, 0.0
        while True:
            try:
                answer = self.client.request(method, path, content=body, headers={"Content-Type": "application/json"})
                if answer.status_code not in (429, 503):
                    break
                if can_be_smaller and is_too_large(answer):
                    raise TooLarge
                problem = f"{answer.status_code} {words_of(answer)}"
                pause = max(pause, seconds_of(answer.headers.get("Retry-After", "")))
            except UnicodeError:  # the host
                raise click.UsageError(UNREADABLE) from None
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            if waited >= give_up_seconds:
                raise click.ClickException(f"{self.shown} does not answer: {problem}")
            sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE)
        if answer.is_redirect:
            where = printable(answer.headers.get("Location", "")[:500])
            raise click.ClickException(
                f"{method} {path} was answered {answer.status_code}: it leads to {where or 'another address'}. "
                "Redirects are not followed; give the service's own address with --url."
            )
        if not answer.is_success:
            raise click.ClickException(f"{method} {path} was refused: {answer.status_code} {words_of(answer)}")
        return answer.content


def seconds_of(retry_after: str) -> float:
    """How long to wait by a Retry-After, and no longer than a command waits."""
    return min(client.seconds_of(retry_after), MOST_SECONDS)


def is_too_large(answer: httpx.Response) -> bool:
    """Whether the same would be answered in smaller parts."""
    try:
        problem = msgspec.json.decode(answer.content, type=ProblemOut)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return any(item.code == TOO_LARGE for item in problem.errors)


def words_of(answer: httpx.Response) -> str:
    """What went wrong and where, in a line, without anything that a terminal would obey."""
    try:
        problem = msgspec.json.decode(answer.content, type=ProblemOut)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return printable(answer.text[:500])
    where = problem.errors[0].where if problem.errors else ""
    return printable(f"{where}: {problem.detail}" if where and where not in problem.detail else problem.detail)
