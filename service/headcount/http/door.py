"""What one client may have under way at once, before anything is done for it: the others of its requests wait their
turn here, where they cost nothing, and beyond that they are told to come back.

A client is a token, or a family of them (headcount.wire.shares). Whose a request is shows by its Authorization
header, once a token was good in it, and until it is good no more.

All others together are strangers: they take turns too, and none of them is refused here. Probes do not wait in their
line.
Without tokens (HEADCOUNT_AUTH=off) there is no door.
"""

import asyncio
import logging
from collections import deque
from typing import Any, Protocol
from weakref import WeakValueDictionary

from headcount.logs import LogThrottle
from headcount.wire.shares import too_much

# Requests of a client that are under way, and that wait to be.
UNDER_WAY = 64
WAITING = 448
# Of them, in one round of the event loop.
BEGUN_A_ROUND = 8
# Answers of a client that it does not take, and their bytes: with so many it is told to come back, and where it has
# twice as many, those that were under way, its connections are closed.
UNREAD_ANSWERS = 32
UNREAD_BYTES = 32 * 1024 * 1024
# Who is refused is told so after a while, which grows with their number: else to refuse them would be all we do.
REFUSED_A_SECOND = 500
REFUSE_SECONDS = 1.0
MAX_REFUSE_SECONDS = 5.0
# Headers of which we know whose they are.
MAX_KNOWN = 20_000
TOO_MANY = f"More than {UNDER_WAY + WAITING} requests of this token wait or are under way."
UNREAD = "Too many answers wait for this token to read them."

log = logging.getLogger("headcount.door")


def key_of(authorization: bytes) -> int:
    """By which an Authorization header is known; the same for all ways to write it (http.auth.BEARER)."""
    scheme, _, token = authorization.partition(b" ")
    return hash(b"Bearer " + token.strip(b" ") if scheme.lower() == b"bearer" else authorization)


class Share:
    """What a client has here."""

    __slots__ = ("__weakref__", "begun", "refused", "under_way", "unread_answers", "unread_bytes", "waiting")

    def __init__(self) -> None:
        self.under_way = 0
        # In this round of the event loop.
        self.begun = 0
        self.waiting: deque[Visit] = deque()
        self.refused = 0
        self.unread_answers = 0
        self.unread_bytes = 0

    def may_begin(self) -> bool:
        return self.under_way < UNDER_WAY and self.begun < BEGUN_A_ROUND

    def find_fault(self) -> str | None:
        """Why nothing more is taken in."""
        if len(self.waiting) >= WAITING:
            return TOO_MANY
        return UNREAD if self.unread_answers >= UNREAD_ANSWERS or self.unread_bytes >= UNREAD_BYTES else None

    def is_far_beyond(self) -> bool:
        """Whether more wait to be read than could be by its own doing alone; who has one may have anything."""
        return self.unread_answers > 1 and (
            self.unread_answers > 2 * UNREAD_ANSWERS or self.unread_bytes > 2 * UNREAD_BYTES
        )


class Visitor(Protocol):
    """A connection, as the door sees it."""

    is_lost: bool

    def let_in(self) -> None: ...

    def begin(self, visit: "Visit") -> None: ...

    def refuse(self, visit: "Visit", detail: str) -> None: ...


class Visit:
    """A request, from when its head is there until nothing is done for it any more. `what`: the connection's own."""

    __slots__ = ("authorization", "door", "is_inside", "is_probe", "share", "turn", "visitor", "what")

    def __init__(
        self, door: "Door", visitor: Visitor, what: Any, authorization: int | None, is_probe: bool = False
    ) -> None:
        self.door = door
        self.visitor = visitor
        self.what = what
        self.authorization = authorization
        self.is_probe = is_probe
        self.share = door.strangers
        self.is_inside = False
        # Of one that began as a stranger's and waits for its turn as somebody's.
        self.turn: asyncio.Future[None] | None = None

    def is_strangers(self) -> bool:
        return self.share is self.door.strangers

    async def meet(self, client: str | None) -> None:
        """Once it is known whose it is, of one that came in as a stranger's. Raises Problem (429)."""
        if client is None:
            return
        share = self.door.learn(self.authorization, client)
        self.leave()
        self.share = share
        if detail := share.find_fault():
            await self.door.hold_back(share)
            raise too_much(detail)
        if share.under_way < UNDER_WAY:
            share.under_way += 1
            self.is_inside = True
            return
        self.turn = asyncio.get_running_loop().create_future()
        share.waiting.append(self)
        await self.turn

    def leave(self, _task: object = None) -> None:
        """Gives its place to the next; again and again does no harm."""
        if self.is_inside:
            self.is_inside = False
            share = self.share
            share.under_way -= 1
            if share.waiting:
                self.door.admit_next(share)

    def forget(self) -> None:
        """Its header has no good token any more."""
        self.door.known.pop(self.authorization, None)

    def is_over(self) -> bool:
        """Whether nobody waits for its turn any more."""
        return self.visitor.is_lost if self.turn is None else self.turn.done()

    def begin(self) -> None:
        self.is_inside = True
        self.share.under_way += 1
        self.door.note_begun(self.share)
        if self.turn is None:
            self.visitor.begin(self)
        else:
            self.turn.set_result(None)


class Door:
    def __init__(self) -> None:
        self.strangers = Share()
        self.probes = Share()
        # By the hash of an Authorization header, which nobody outside can know: no token is kept here.
        self.known: dict[int | None, Share] = {}
        self.shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        # Who began something in this round of the event loop.
        self.begun: set[Share] = set()
        self.seldom = LogThrottle(10.0)

    def enter(self, visit: Visit) -> None:
        """Begins it, lets it wait, or refuses it."""
        if visit.is_probe and self.probes.may_begin():
            visit.share = self.probes
            visit.begin()
            return
        share = visit.share = self.known.get(visit.authorization, self.strangers) if self.known else self.strangers
        if share is not self.strangers and (detail := share.find_fault()):
            visit.visitor.refuse(visit, detail)
        elif share.may_begin():
            visit.begin()
        else:
            share.waiting.append(visit)

    def note_begun(self, share: Share) -> None:
        """Whoever sends many requests at once begins a few of them in a round of the event loop: the first step of each
        takes time, and others want their turns between."""
        share.begun += 1
        if not self.begun:
            asyncio.get_running_loop().call_soon(self._end_round)
        self.begun.add(share)

    def _end_round(self) -> None:
        begun, self.begun = self.begun, set()
        for share in begun:
            share.begun = 0
        for share in begun:
            self.admit_next(share)

    def admit_next(self, share: Share) -> None:
        while share.waiting and share.may_begin():
            visit = share.waiting.popleft()
            if visit.is_over():
                continue
            if visit.turn is None and share is not self.known.get(visit.authorization, self.strangers):
                self.enter(visit)  # somebody's by now, or nobody's any more
            else:
                visit.begin()

    def learn(self, authorization: int | None, client: str) -> Share:
        share = self.shares.get(client)
        if share is None:
            share = self.shares[client] = Share()
        if authorization is not None:
            self.known[authorization] = share
            if len(self.known) > MAX_KNOWN:
                del self.known[next(iter(self.known))]
        return share

    async def hold_back(self, share: Share) -> None:
        """Before one is refused."""
        left_out = self.seldom.admit("")
        if left_out is not None:
            log.warning("A token has too many requests under way, or reads no answers: others of it are refused")
        share.refused += 1
        try:
            await asyncio.sleep(min(MAX_REFUSE_SECONDS, max(REFUSE_SECONDS, share.refused / REFUSED_A_SECOND)))
        finally:
            share.refused -= 1
