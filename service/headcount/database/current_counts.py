"""How counts get out of the database: requests that arrive together are answered by one call."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from headcount.database import calls
from headcount.database.batching import Batcher, Costly
from headcount.database.pool import Database, is_whole, name_of
from headcount.metrics import Metrics
from headcount.wire.messages.counts import CountOut
from headcount.wire.problems import Problem, problem_in_words
from headcount.wire.shares import ClientQuota

# Spaces in one call; more than one request can name.
GROUP_SPACES = 250
MAX_WAITING = 2_000
# Of one client: requests, and spaces that they name. Who asks for more spaces at once asks by itself.
MAX_WAITING_OF_A_CLIENT = 500
MAX_SPACES_OF_A_CLIENT = 5_000
FEW_SPACES = 100
# Current counts of more spaces than that are a slow read (headcount.wire.shares).
MANY_SPACES = 300
CALLERS = 2
# Counts at an instant in one call: more of them save nothing that could be measured.
GROUP_INSTANTS = 20
# A group is given up after so long, and each of its requests asks by itself. 250 usual spaces take a tenth of that.
GROUP_SECONDS = 0.3
# Spaces that take so long by themselves are asked for alone for so long, as a slow read: they can be cheap a moment
# later, and costly again after that.
LONG_SECONDS = 0.1
COSTLY_FOR_SECONDS = 300.0
# A client that asks for what cannot be answered asks by itself for so long: each such request divides a group.
REFUSED_FOR_SECONDS = 60.0

Instant = tuple[str, datetime]


class Reader:
    """Counts of now are asked for together, and so are those of a space at an instant.

    The call begins after each of its requests arrived, so no answer is older than its request. Sessions that are
    limited to a space ask by themselves, as those do that need not come from the primary, or ask for a `known_at` or
    for many spaces at an instant.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self.database = database
        self.metrics = metrics
        self.groups = Batcher(self._count_together, callers=CALLERS, max_weight=GROUP_SPACES, weigh=len)
        self.instants = Batcher(self._count_instants, callers=CALLERS, max_weight=GROUP_INSTANTS, weigh=lambda _: 1)
        self.requests_of = ClientQuota(MAX_WAITING_OF_A_CLIENT, "requests")
        self.spaces_of = ClientQuota(MAX_SPACES_OF_A_CLIENT, "spaces")
        # Tokens that limit what is reached (None: nothing does), and below what (None: all) they found many last time.
        self.many: set[tuple[str | None, str | None]] = set()
        self.costly = Costly(COSTLY_FOR_SECONDS)  # spaces with very many sensors or moves
        self.costly_before = Costly(COSTLY_FOR_SECONDS)  # the same, for earlier instants
        self.refused = Costly(REFUSED_FOR_SECONDS)  # clients

    async def get_count(
        self, session: calls.Session, space: str, at: datetime | None, known_at: datetime | None
    ) -> CountOut:
        if known_at is not None or not is_whole(session):
            return await calls.get_count(session, space, at, known_at)
        if at is not None:
            return await self._get_count_at(name_of(session), space, at)
        return (await self._ask([space], name_of(session)))[0]

    async def _get_count_at(self, client: str | None, space: str, at: datetime) -> CountOut:
        found = None if self._goes_alone(space, at, client) else await self._ask_at(space, at, client)
        if found is not None:
            return found
        is_slow = self.costly_before.has_one_of([space])
        async with self.database.shares.turn(client, is_slow=is_slow), self.database.connection() as connection:
            begun = time.monotonic()
            try:
                return await calls.get_count(connection, space, at)
            finally:
                if time.monotonic() - begun > LONG_SECONDS:
                    self.costly_before.note([space])

    def _goes_alone(self, space: str, at: datetime, client: str | None) -> bool:
        """Whether the others of a group could wait for it, or the group be divided."""
        return (
            at > datetime.now(UTC)
            or self.costly_before.has_one_of([space])
            or self.refused.has_one_of([client or ""])
            or self.instants.is_costly(client)
        )

    async def _ask_at(self, space: str, at: datetime, client: str | None) -> CountOut | None:
        refuse_surplus(self.instants)
        with self.requests_of.hold(client):
            try:
                return await self.instants.ask((space, at), client)
            except asyncpg.PostgresError:
                self.refused.note([client or ""])
                raise

    async def list_counts(
        self,
        session: calls.Session,
        spaces: Sequence[str] | None,
        under: str | None,
        at: datetime | None,
        known_at: datetime | None,
    ) -> list[CountOut]:
        is_plain = under is None and at is None and known_at is None
        if spaces is None or len(spaces) > FEW_SPACES or not is_plain or not is_whole(session):
            return await calls.list_counts(session, spaces, under, at, known_at)
        return await self._ask(spaces, name_of(session))

    def is_slow(self, token: str | None, spaces: Sequence[str] | None, under: str | None) -> bool:
        """Whether current counts of these take long: there are many. token: the one that limits what is reached."""
        if spaces is not None:
            return len(spaces) > MANY_SPACES
        return (token, under) in self.many

    def note_number(self, token: str | None, under: str | None, number: int) -> None:
        """How many spaces there are, as far as the token reaches."""
        (self.many.add if number > MANY_SPACES else self.many.discard)((token, under))

    async def _ask(self, spaces: Sequence[str], client: str | None) -> list[CountOut]:
        if self.costly.has_one_of(spaces):
            return await self._ask_alone(spaces, client)
        refuse_surplus(self.groups)
        with self.requests_of.hold(client), self.spaces_of.hold(client, len(spaces)):
            found = await self.groups.ask(spaces, client)
        return await self._ask_alone(spaces, client) if found is None else found

    async def _ask_alone(self, spaces: Sequence[str], client: str | None) -> list[CountOut]:
        async with self.database.shares.turn(client, is_slow=True), self.database.connection() as connection:
            begun = time.monotonic()
            try:
                (answer,) = await self._count(connection, [spaces])
            finally:
                if time.monotonic() - begun > LONG_SECONDS:
                    self.costly.note(spaces)
        if isinstance(answer, Problem):
            raise answer
        return answer

    async def _count_together(self, asked: Sequence[Sequence[str]]) -> Sequence[list[CountOut] | Problem | None]:
        """None for all where it takes long."""
        self.metrics.note_group("counts", len(asked))
        async with self.database.connection() as connection:
            try:
                async with asyncio.timeout(GROUP_SECONDS):
                    return await self._count(connection, asked)
            except TimeoutError:
                return [None] * len(asked)

    async def _count_instants(self, asked: Sequence[Instant]) -> Sequence[CountOut | Problem | None]:
        """None for all where it takes long."""
        self.metrics.note_group("counts_at", len(asked))
        spaces, ats = zip(*dict.fromkeys(asked), strict=True)
        async with self.database.connection() as connection:
            try:
                async with asyncio.timeout(GROUP_SECONDS):
                    counts = await calls.list_counts_at(connection, spaces, ats)
            except TimeoutError:
                return [None] * len(asked)
        found = {(count.space, count.at): count for count in counts}
        return [found[one] if one in found else unknown(one[0]) for one in asked]

    async def _count(self, session: calls.Session, asked: Sequence[Sequence[str]]) -> list[list[CountOut] | Problem]:
        """Of each request the spaces that it names, in that order, each once; 404 where one of them is unknown."""
        wanted = list(dict.fromkeys(space for spaces in asked for space in spaces))
        found = {count.space: count for count in await calls.list_counts(session, wanted, known_only=True)}
        return [pick(found, dict.fromkeys(spaces)) for spaces in asked]


def refuse_surplus(batcher: Batcher[Any, Any]) -> None:
    if batcher.waiting >= MAX_WAITING:
        raise Problem("unavailable", "Too many requests wait for the database. Try again.")


def pick(found: Mapping[str, CountOut], spaces: Iterable[str]) -> list[CountOut] | Problem:
    """The counts of these, or what api.list_counts raises by itself where one is unknown."""
    for space in spaces:
        if space not in found:
            return unknown(space)
    return [found[space] for space in spaces]


def unknown(space: str) -> Problem:
    words = (f"There is no space '{space}'.", "space", "Create it with PUT /v1/spaces/{id}, or look at GET /v1/spaces.")
    return problem_in_words("not_found", *words)
