"""Admission control: how much of one client is under way at once.

Requests beyond that wait here for their turn, before anything is done for them. More than can wait are refused.

A client is a token, or a family of them (headcount.wire.shares). Its Authorization header tells whose a request is,
from the first time that a token in it was valid until it no longer is. All other requests are unidentified: they take
turns as if they came from one client, and none of them is refused here. Probes do not wait with them.

Without tokens (HEADCOUNT_AUTH=off) there is no admission control.
"""

import asyncio
import logging
import random
from collections import deque
from typing import Any, Protocol
from weakref import WeakValueDictionary

from headcount.logs import LogThrottle
from headcount.wire.shares import too_much

# Requests of a client that are under way, and that wait to be.
UNDER_WAY = 64
WAITING = 448
# Of them, in one round of the event loop; and connections on which something is parsed as soon as it comes.
BEGUN_A_ROUND = 8
PARSED_A_ROUND = 8
# Answers of a client that it does not take, and their bytes: with so many it is told to come back, and where it has
# twice as many, those that were under way, its connections are closed.
UNREAD_ANSWERS = 32
UNREAD_BYTES = 32 * 1024 * 1024
# Who is refused is told so after a while, which grows with their number: else to refuse them would be all we do.
REFUSED_A_SECOND = 250
REFUSE_SECONDS = 1.0
MAX_REFUSE_SECONDS = 30.0
# Headers of which we know whose they are.
MAX_KNOWN = 20_000
TOO_MANY = f"More than {UNDER_WAY + WAITING} requests of this token wait or are under way."
UNREAD = "Too many answers wait for this token to read them."

log = logging.getLogger("headcount.admission")


def key_of(authorization: bytes) -> int:
    """By which an Authorization header is known; the same for all ways to write it (http.auth.BEARER)."""
    scheme, _, token = authorization.partition(b" ")
    return hash(b"Bearer " + token.strip(b" ") if scheme.lower() == b"bearer" else authorization)


class ClientLoad:
    """The requests and unread answers of a client."""

    __slots__ = (
        "__weakref__",
        "begun",
        "connections",
        "parsed",
        "refused",
        "under_way",
        "unparsed",
        "unread_answers",
        "unread_bytes",
        "waiting",
    )

    def __init__(self) -> None:
        self.under_way = 0
        # In this round of the event loop.
        self.begun = 0
        self.parsed = 0
        # Those on which it was identified last, the one that answered longest ago first.
        self.connections: dict[Requester, None] = {}
        self.waiting: deque[TrackedRequest] = deque()
        self.refused = 0
        # Bytes that came and are not parsed yet.
        self.unparsed = 0
        self.unread_answers = 0
        self.unread_bytes = 0

    def may_begin(self) -> bool:
        return self.under_way < UNDER_WAY and self.begun < BEGUN_A_ROUND

    def find_fault(self) -> str | None:
        """Why nothing more is taken in."""
        if len(self.waiting) >= WAITING:
            return TOO_MANY
        return UNREAD if self.unread_answers >= UNREAD_ANSWERS or self.unread_bytes >= UNREAD_BYTES else None

    def is_far_beyond(self, is_one: bool) -> bool:
        """Whether more wait to be read than could be by its own doing alone; who has one may have anything. `is_one`: a
        single client, of which the number counts as well."""
        if self.unread_answers <= 1:
            return False
        return (is_one and self.unread_answers > 2 * UNREAD_ANSWERS) or self.unread_bytes > 2 * UNREAD_BYTES


class Requester(Protocol):
    """A connection, as admission control sees it."""

    is_lost: bool

    def note_identified(self, load: ClientLoad) -> None: ...

    def begin(self, tracked: "TrackedRequest") -> None: ...

    def refuse(self, tracked: "TrackedRequest", detail: str) -> None: ...


class TrackedRequest:
    """A request, from when its head is there until nothing is done for it any more. `context`: the connection's own."""

    __slots__ = ("admission", "authorization", "context", "is_admitted", "is_probe", "load", "requester", "turn")

    def __init__(
        self,
        admission: "Admission",
        requester: Requester,
        context: Any,
        authorization: int | None,
        is_probe: bool = False,
    ) -> None:
        self.admission = admission
        self.requester = requester
        self.context = context
        self.authorization = authorization
        self.is_probe = is_probe
        self.load = admission.unidentified
        self.is_admitted = False
        # Of one that began unidentified and now waits for its client's turn.
        self.turn: asyncio.Future[None] | None = None

    def is_unidentified(self) -> bool:
        return self.load is self.admission.unidentified

    async def identify(self, client: str | None) -> None:
        """Gives the request to its client, where that was not known before. Raises Problem (429)."""
        if client is None:
            return
        load = self.load
        if self.is_unidentified():
            load = self.admission.remember(self.authorization, client)
        self.requester.note_identified(load)
        if load is self.load:
            return
        self.leave()
        self.load = load
        if detail := load.find_fault():
            await self.admission.hold_back(load)
            raise too_much(detail)
        if load.under_way < UNDER_WAY:
            load.under_way += 1
            self.is_admitted = True
            return
        self.turn = asyncio.get_running_loop().create_future()
        load.waiting.append(self)
        await self.turn

    def leave(self, _task: object = None) -> None:
        """Gives its place to the next; again and again does no harm."""
        if self.is_admitted:
            self.is_admitted = False
            load = self.load
            load.under_way -= 1
            if load.waiting:
                self.admission.admit_next(load)

    def forget(self) -> None:
        """Its header has no good token any more."""
        self.admission.known.pop(self.authorization, None)

    def is_over(self) -> bool:
        """Whether nobody waits for its turn any more."""
        return self.requester.is_lost if self.turn is None else self.turn.done()

    def begin(self) -> None:
        self.is_admitted = True
        self.load.under_way += 1
        self.admission.note_begun(self.load)
        if self.turn is None:
            self.requester.begin(self)
        else:
            self.turn.set_result(None)


class Admission:
    def __init__(self) -> None:
        self.unidentified = ClientLoad()
        self.probes = ClientLoad()
        # By the hash of an Authorization header, which nobody outside can know: no token is kept here.
        self.known: dict[int | None, ClientLoad] = {}
        self.loads: WeakValueDictionary[str, ClientLoad] = WeakValueDictionary()
        # Who began something in this round of the event loop.
        self.begun: set[ClientLoad] = set()
        self.seldom = LogThrottle(10.0)

    def submit(self, tracked: TrackedRequest) -> None:
        """Begins it, lets it wait, or refuses it."""
        if tracked.is_probe and self.probes.may_begin():
            tracked.load = self.probes
            tracked.begin()
            return
        load = tracked.load = self.load_of(tracked.authorization)
        if load is not self.unidentified and (detail := load.find_fault()):
            tracked.requester.refuse(tracked, detail)
        elif load.may_begin():
            tracked.begin()
        else:
            load.waiting.append(tracked)

    def load_of(self, authorization: int | None) -> ClientLoad:
        return self.known.get(authorization, self.unidentified)

    def note_begun(self, load: ClientLoad) -> None:
        """Whoever sends many requests at once begins a few of them in a round of the event loop: the first step of each
        takes time, and others want their turns between."""
        load.begun += 1
        self._end_soon(load)

    def may_parse(self, load: ClientLoad) -> bool:
        """Whether what came on a connection of this client may be parsed at once, and not in its turn."""
        if load.parsed >= PARSED_A_ROUND:
            return False
        load.parsed += 1
        self._end_soon(load)
        return True

    def _end_soon(self, load: ClientLoad) -> None:
        if not self.begun:
            asyncio.get_running_loop().call_soon(self._end_round)
        self.begun.add(load)

    def _end_round(self) -> None:
        begun, self.begun = self.begun, set()
        for load in begun:
            load.begun = load.parsed = 0
        for load in begun:
            self.admit_next(load)

    def admit_next(self, load: ClientLoad) -> None:
        while load.waiting and load.may_begin():
            tracked = load.waiting.popleft()
            if tracked.is_over():
                continue
            if tracked.turn is None and load is not self.load_of(tracked.authorization):
                self.submit(tracked)  # it was identified meanwhile, or is no longer
            else:
                tracked.begin()

    def remember(self, authorization: int | None, client: str) -> ClientLoad:
        load = self.loads.get(client)
        if load is None:
            load = self.loads[client] = ClientLoad()
        if authorization is not None:
            self.known[authorization] = load
            if len(self.known) > MAX_KNOWN:
                del self.known[next(iter(self.known))]
        return load

    def find_largest(self) -> ClientLoad | None:
        """The client with the most connections."""
        return max(self.loads.values(), key=lambda load: len(load.connections), default=None)

    async def hold_back(self, load: ClientLoad) -> None:
        """Before one is refused."""
        left_out = self.seldom.admit("")
        if left_out is not None:
            log.warning("A token has too many requests under way, or reads no answers: others of it are refused")
        load.refused += 1
        try:
            seconds = max(REFUSE_SECONDS, load.refused / REFUSED_A_SECOND)
            # apart, so that those who were refused together do not come again together
            await asyncio.sleep(min(MAX_REFUSE_SECONDS, seconds) * random.uniform(0.75, 1.25))
        finally:
            load.refused -= 1
