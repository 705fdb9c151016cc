"""Who may do what: tokens, looked up by their digests, and the scope that each address asks for.

How far a token that is limited to a space reaches is decided in sql/repeatable/10_core/20_plan/reach.sql.
"""

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from headcount.database import calls
from headcount.http.admission import TrackedRequest
from headcount.http.answers import prefers_html
from headcount.http.rate_limits import Limiter
from headcount.http.requests import AnyConnection, HttpRequest, header_of
from headcount.http.services import services
from headcount.settings import is_loopback
from headcount.wire.access import EVERYTHING, SCOPES, Access, Share
from headcount.wire.messages.tokens import TokenRow
from headcount.wire.problems import Problem, problem_of

OPEN = None  # instead of a scope, for what anybody may see

TOKEN = re.compile(r"hc_[A-Za-z0-9_-]{43}")
PORT = re.compile(r":[0-9]*\Z")
BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)

# How long an answer of the database is good for. A revoked token is refused everywhere this much later.
FRESH_SECONDS = 2.0
# How long while the database is away, for what shows only how the process is doing.
AWAY_SECONDS = 3600.0
# Tokens that are remembered, and unknown ones that may wait for one look into the database.
MAX_KNOWN = 10_000
MAX_UNKNOWN = 1_000
# Between the beginnings of two looks.
PAUSE_SECONDS = 0.02


def make_token() -> str:
    """A new one: 256 random bits, behind a prefix by which secret scanners know it."""
    return f"hc_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> bytes:
    """What is stored of a token. It is random, so there is nothing that a slow hash or a salt would protect."""
    return hashlib.sha256(token.encode()).digest()


class Known(msgspec.Struct, frozen=True):
    access: Access
    looked_up: float


class Look(msgspec.Struct, eq=False):
    """One statement that looks several tokens up; found by digest, once the task has ended."""

    digests: dict[bytes, None]
    unknown: int = 0
    task: asyncio.Task[dict[bytes, Access]] | None = None


class Tokens:
    """Looks tokens up and remembers the good ones for FRESH_SECONDS.

    Whoever asks meanwhile waits for the same look, and there is one at a time: however many tokens are made up,
    the database sees at most one statement every PAUSE_SECONDS, and nothing of them is kept.
    """

    def __init__(self, session: calls.Session) -> None:
        self.session = session
        self.known: OrderedDict[bytes, Known] = OrderedDict()
        self.next: Look | None = None
        self.looks: set[asyncio.Task[dict[bytes, Access]]] = set()
        self.turn = asyncio.Lock()
        self.last_look = 0.0

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """No look outlives the service."""
        try:
            yield
        finally:
            for look in self.looks:
                look.cancel()
            await asyncio.gather(*self.looks, return_exceptions=True)

    async def find(self, digest: bytes, *, away_seconds: float = 0.0) -> Access | None:
        """The access of the token with this digest; None unless it is good.

        Raises Problem (503) if nobody knows. While the database is away it may have been good `away_seconds` ago.
        """
        known = self.known.get(digest)
        if known and time.monotonic() - known.looked_up < FRESH_SECONDS:
            access: Access | None = known.access
        else:
            try:
                access = await self._look_up(digest, is_unknown=known is None)
            except Exception as error:
                is_away = problem_of(error).kind.code == "unavailable"
                if known is None or not is_away or time.monotonic() - known.looked_up > away_seconds:
                    raise
                access = known.access
        # The digest decides, in constant time; which one it is was found by an index over digests.
        if access is None or not hmac.compare_digest(access.digest, digest):
            return None
        return None if access.expires_at and access.expires_at <= datetime.now(UTC) else access

    def doubt(self) -> None:
        """All that are remembered are to be looked up again before they are taken."""
        self.known = OrderedDict((digest, Known(known.access, -math.inf)) for digest, known in self.known.items())

    async def _look_up(self, digest: bytes, is_unknown: bool) -> Access | None:
        look = self.next
        if look is None or look.task is None:
            look = self.next = Look({})
            look.task = asyncio.create_task(self._run(look))
            self.looks.add(look.task)
            look.task.add_done_callback(self._end)
        if digest not in look.digests:
            if is_unknown and look.unknown >= MAX_UNKNOWN:
                raise Problem(
                    "unavailable", "Too many unknown tokens wait to be looked up. Nothing was stored; try again."
                )
            look.unknown += is_unknown
            look.digests[digest] = None
        # Whoever goes away does not take the look away from the others.
        return (await asyncio.shield(look.task)).get(digest)

    def _end(self, done: asyncio.Task[dict[bytes, Access]]) -> None:
        self.looks.discard(done)
        if not done.cancelled():
            done.exception()  # whoever waited for it may have left

    async def _run(self, look: Look) -> dict[bytes, Access]:
        async with self.turn:
            await asyncio.sleep(self.last_look + PAUSE_SECONDS - time.monotonic())
            if self.next is look:
                self.next = None
            begun = self.last_look = time.monotonic()
            found = {row.digest: _access(row) for row in await calls.find_tokens(self.session, list(look.digests))}
            for digest in look.digests:
                self.known.pop(digest, None)
            self.known |= {digest: Known(access, begun) for digest, access in found.items()}
            while len(self.known) > MAX_KNOWN:
                self.known.popitem(last=False)
            return found


def _access(row: TokenRow) -> Access:
    return Access(
        token=row.id,
        digest=row.digest,
        scopes=frozenset(row.scopes),
        is_limited=row.is_limited,
        expires_at=row.expires_at,
        shares=tuple(map(Share, row.family, row.family_events, row.family_requests))
        or (Share(row.id, row.events_per_second, row.requests_per_second),),
    )


class Authenticator:
    """What stands before every address; `tokens` is None where the service asks for none (HEADCOUNT_AUTH=off)."""

    def __init__(self, tokens: Tokens | None, limiter: Limiter) -> None:
        self.tokens = tokens
        self.limiter = limiter

    async def identify(self, authorization: str, scope: str, *, away_seconds: float = 0.0) -> Access:
        """The access of a request. Raises Problem: 401 without a good token, 503. `scope`: it needs that."""
        tokens = self.tokens
        if tokens is None:
            return EVERYTHING
        given = BEARER.fullmatch(authorization)
        if given is None:
            raise _unauthorized(
                f"A token is required. Send it in the header Authorization: Bearer hc_... {how_to_get(scope)}", ""
            )
        # What cannot be a token is not worth a look.
        is_token = TOKEN.fullmatch(given[1]) is not None
        access = await tokens.find(digest_of(given[1]), away_seconds=away_seconds) if is_token else None
        if access is None:
            raise _invalid_token(how_to_get(scope))
        return access

    async def check_again(self, access: Access, result: str = "Nothing was stored.") -> None:
        """For a request whose body took a while, or whose answer does. Raises Problem: 401 if the token is no longer
        valid, 503."""
        if not await self.is_still_good(access):
            raise _invalid_token(result)

    async def is_still_good(self, access: Access) -> bool:
        """For answers that last longer than a look: ask this every few seconds. Raises Problem (503)."""
        return self.tokens is None or await self.tokens.find(access.digest) is not None


def how_to_get(scope: str) -> str:
    """The command that makes a token with this scope."""
    return f"To make a token that can do this, run: headcount token create --scope {scope}"


def _forbidden(access: Access, scope: str) -> Problem:
    has = ", ".join(f"`{has}`" for has in SCOPES if has in access.scopes)
    return Problem(
        "forbidden",
        f"The token is valid but lacks the scope `{scope}`; it has {has}. {how_to_get(scope)}",
        headers={"WWW-Authenticate": f'Bearer realm="headcount", error="insufficient_scope", scope="{scope}"'},
    )


def _invalid_token(remedy: str) -> Problem:
    return _unauthorized(f"The token is unknown, has expired or was revoked. {remedy}", ', error="invalid_token"')


def _unauthorized(detail: str, error: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": f'Bearer realm="headcount"{error}'})


async def authorize(request: HttpRequest) -> None:
    """Before every handler: its `opt` says which scope it asks for; one that says nothing asks for admin.

    It is no guard, since Litestar copies a handler for each guard that it calls (docs/explanation/decisions.md).
    """
    if request.method == "OPTIONS":
        return
    opt = request.route_handler.opt
    scope = opt.get("scope", "admin")
    # A page is files; what it shows it asks for with a token, as soon as it has one.
    if scope is OPEN or (opt.get("page") and prefers_html(request)):
        request.scope["auth"] = None
        return
    authenticator = services(request).authenticator
    if authenticator.tokens is None and (request.method != "GET" or scope != "read" or opt.get("triggers")):
        _refuse_other_sites(request)
    away_seconds = AWAY_SECONDS if opt.get("is_probe") else 0.0
    tracked: TrackedRequest | None = request.scope["state"].get("tracked")
    try:
        access = await authenticator.identify(
            header_of(request.scope, b"authorization"), scope, away_seconds=away_seconds
        )
    except Problem as problem:
        if tracked is not None and problem.kind.code == "unauthorized":
            tracked.forget()
        raise
    request.scope["auth"] = access
    if tracked is not None:
        await tracked.identify(access.client)
    if scope not in access.scopes:
        raise _forbidden(access, scope)
    authenticator.limiter.admit(access.shares, is_ingest=scope == "ingest")


def end_admission(connection: AnyConnection) -> None:
    """For answers that go on and on: they have bounds of their own."""
    tracked: TrackedRequest | None = connection.scope["state"].get("tracked")
    if tracked is not None:
        tracked.leave()


def charge(connection: AnyConnection, events: int) -> None:
    """Counts the events of a request against its token's limit. Raises Problem (429) if that is used up."""
    access: Access = connection.auth
    authenticator = services(connection).authenticator
    authenticator.limiter.charge(access.shares, events)


def _refuse_other_sites(connection: AnyConnection) -> None:
    """Without tokens any page that is open in a browser of this machine could write; browsers say whose it is."""
    headers = connection.headers
    # one that is there several times has to be right each time
    sites = set(headers.getall("sec-fetch-site", []))
    if not sites:
        # a browser of before 2023 says less
        own = f"{connection.scope.get('scheme', 'http')}://{headers.get('host', '')}".lower()
        askings = headers.getall("origin", []) or headers.getall("referer", [])
        sites = {
            "same-origin" if "/".join(asking.split("/", 3)[:3]).lower() == own else "cross-site" for asking in askings
        }
    if not sites <= {"none", "same-origin"}:
        raise Problem("forbidden", "A page of another site asks for this, and HEADCOUNT_AUTH is off.")


def refuse_foreign_host(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Without tokens a page could reach us by a name of its own that its owner has made stand for this machine.

    Raises Problem (421) where the request asks for another host than a loopback one, or for none.
    """
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if not hosts or not all(is_loopback(PORT.sub("", host)) for host in hosts):
        raise Problem(
            "misdirected",
            "HEADCOUNT_AUTH is off, so this service answers only as localhost, 127.0.0.1 or [::1]. "
            "To reach it by another name, have it ask for tokens.",
        )


def refuse_without_tokens(connection: AnyConnection) -> None:
    """A token made while nobody is asked for one would be good later, when tokens are asked for: 403."""
    authenticator = services(connection).authenticator
    if authenticator.tokens is None:
        raise Problem(
            "forbidden",
            "HEADCOUNT_AUTH is off: tokens are made on this machine, with `headcount token create --scope ...`.",
        )


def scopes_of(text: str) -> Sequence[str]:
    """`ingest,read` as a list. Raises ValueError for anything else."""
    found = [scope.strip() for scope in text.split(",")]
    for scope in found:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is not a scope; there are {', '.join(SCOPES)}")
    return found
