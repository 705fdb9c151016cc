"""How current counts get out of the database: requests that arrive together are answered by one call."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from headcount.database import calls
from headcount.database.batching import Batcher
from headcount.database.pool import Database, is_whole, name_of
from headcount.metrics import Metrics
from headcount.wire.messages.counts import CountOut
from headcount.wire.problems import Problem, problem_in_words
from headcount.wire.shares import ClientQuota

# Spaces in one call; more than one request can name.
GROUP_SPACES = 1_000
MAX_WAITING = 2_000
# Of one client: requests, and spaces that they name. Who asks for more spaces at once asks by itself.
MAX_WAITING_OF_A_CLIENT = 500
MAX_SPACES_OF_A_CLIENT = 5_000
FEW_SPACES = 100
# Current counts of more spaces than that are a slow read (headcount.wire.shares).
MANY_SPACES = 300
CALLERS = 2


class Reader:
    """Counts of now are asked for together, all others, and those that need not come from the primary, one by one.

    The call begins after each of its requests arrived, so no answer is older than its request. Sessions that are
    limited to a space ask by themselves.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self.database = database
        self.metrics = metrics
        self.groups = Batcher(self._count, callers=CALLERS, max_weight=GROUP_SPACES, weigh=len)
        self.requests_of = ClientQuota(MAX_WAITING_OF_A_CLIENT, "requests")
        self.spaces_of = ClientQuota(MAX_SPACES_OF_A_CLIENT, "spaces")
        # Tokens that limit what is reached (None: nothing does), and below what (None: all) they found many last time.
        self.many: set[tuple[str | None, str | None]] = set()

    async def get_count(
        self, session: calls.Session, space: str, at: datetime | None, known_at: datetime | None
    ) -> CountOut:
        if at is not None or known_at is not None or not is_whole(session):
            return await calls.get_count(session, space, at, known_at)
        return (await self._ask([space], name_of(session)))[0]

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
        if self.groups.waiting >= MAX_WAITING:
            raise Problem("unavailable", "Too many requests wait for the database. Try again.")
        with self.requests_of.hold(client), self.spaces_of.hold(client, len(spaces)):
            return await self.groups.ask(spaces, client)

    async def _count(self, asked: Sequence[Sequence[str]]) -> list[list[CountOut] | Problem]:
        """Of each request the spaces that it names, in that order, each once; 404 where one of them is unknown."""
        self.metrics.note_group("counts", len(asked))
        wanted = list(dict.fromkeys(space for spaces in asked for space in spaces))
        found = {count.space: count for count in await calls.list_counts(self.database, wanted, known_only=True)}
        return [pick(found, dict.fromkeys(spaces)) for spaces in asked]


def pick(found: Mapping[str, CountOut], spaces: Iterable[str]) -> list[CountOut] | Problem:
    """The counts of these, or what api.list_counts raises by itself where one is unknown."""
    for space in spaces:
        if space not in found:
            words = (
                f"There is no space '{space}'.",
                "space",
                "Create it with PUT /v1/spaces/{id}, or look at GET /v1/spaces.",
            )
            return problem_in_words("not_found", *words)
    return [found[space] for space in spaces]
