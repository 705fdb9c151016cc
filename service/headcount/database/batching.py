"""Calls that are made together: what arrives while one is under way goes into the next."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Generic, NamedTuple, TypeVar

import asyncpg

from headcount.wire.problems import Problem, problem_of

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

# Another transaction stood in the way of something in this one.
BLOCKED = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# What a call costs by itself is little for each of so many: to gather more would save nothing.
MANY = 16
# What each item costs is known to nobody before: the client with more than half of a group whose call took so long
# counts as costly for a while.
LONG_SECONDS = 0.2
COSTLY_FOR_SECONDS = 60.0
STOPPED = "The service is stopping. Send the request again: nothing counts twice."


class Costly:
    """Names of what took long: they are remembered for so many seconds, and so many of them."""

    def __init__(self, seconds: float, most: int = 10_000) -> None:
        self.seconds = seconds
        self.most = most
        self.until: dict[str, float] = {}  # by time.monotonic; what was noted last is last

    def note(self, names: Iterable[str]) -> None:
        until = time.monotonic() + self.seconds
        for name in names:
            self.until.pop(name, None)
            self.until[name] = until
        for name in [*islice(self.until, max(0, len(self.until) - self.most))]:
            del self.until[name]

    def has_one_of(self, names: Iterable[str]) -> bool:
        if not self.until:
            return False
        now = time.monotonic()
        return any(self.until.get(name, now) > now for name in names)


class Waiting(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    weight: int
    answer: "asyncio.Future[Answer]"
    client: str | None


class Batcher(Generic[Asked, Answer]):
    """Answers everything that arrives together by one call, each with its own answer.

    `call` gets what was asked, and gives the answers in that order; a Problem is raised for the one that it is for. It
    begins after all of them arrived. Of each client it takes one after the other in the order of arrival, and clients
    take turns, so that whoever asks for much at once is before nobody else with all of it.
    At most `callers` calls run at a time, and as long as one of them is free nobody waits; but after a
    call for a few (2 to 15) there is a pause as long as it took, which ends `apart` seconds after it began at the
    latest, so that those who ask at a pace of their own do not make a call each; none where 16 wait by then. Of 32
    or more who wait or were answered just now a group is half at most: who asks again and again is taken in or
    answered while the others' call is under way. With all in one group, we and the database would work in turns.
    `weigh` and `max_weight` bound a group; what is heavier goes alone.
    A group whose call fails is divided and tried again, so that what fails it fails nobody else. Overload is told to
    the whole group: to try again at once would add to it.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Problem]]],
        *,
        callers: int,
        max_weight: int,
        weigh: Callable[[Asked], int],
        apart: float = 0.0,
    ) -> None:
        self.call = call
        self.callers = callers
        self.max_weight = max_weight
        self.costly = Costly(COSTLY_FOR_SECONDS)  # clients
        self.weigh = weigh
        self.apart = apart
        # By client, the one whose turn is next first; none without anything that waits.
        self.queues: dict[str | None, deque[Waiting[Asked, Answer]]] = {}
        self.waiting = 0
        self.not_before = 0.0  # by the loop's clock
        self.running: set[asyncio.Task[None] | None] = set()

    async def ask(self, asked: Asked, client: str | None = None) -> Answer:
        """The answer to this one, or what its own call raised. `client`: whose turn it takes."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self.queues.setdefault(client, deque()).append(Waiting(asked, self.weigh(asked), answer, client))
        self.waiting += 1
        if len(self.running) < self.callers:
            # It begins in the loop's next turn, and takes along what else arrives in this one.
            self.running.add(loop.create_task(self._work()))
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        group: list[Waiting[Asked, Answer]] = []
        try:
            while self.waiting:
                if self.apart and self.waiting < MANY:
                    await asyncio.sleep(self.not_before - loop.time())
                if group := self._take(len(group)):
                    begun = loop.time()
                    await self._answer(group)
                    if loop.time() - begun > LONG_SECONDS:
                        self._note_costly(group)
                    if 1 < len(group) < MANY:
                        self.not_before = begun + min(2 * (loop.time() - begun), self.apart)
        except BaseException:
            for waiting in (*group, *chain.from_iterable(self.queues.values())):
                _fail(waiting, Problem("unavailable", STOPPED))
            raise
        finally:
            # not when the task is done, which is later: who asked in between would wait for nobody
            self.running.remove(asyncio.current_task())

    def is_costly(self, client: str | None) -> bool:
        """Whether others waited long for what this client asked, just now."""
        return client is not None and self.costly.has_one_of((client,))

    def _note_costly(self, group: Sequence[Waiting[Asked, Answer]]) -> None:
        weights = Counter[str | None]()
        for waiting in group:
            weights[waiting.client] += waiting.weight
        (client, weight), *others = weights.most_common()
        if client is not None and others and 2 * weight > weights.total():
            self.costly.note((client,))

    def _take(self, answered: int) -> list[Waiting[Asked, Answer]]:
        """The next group; who has gone away by now is left out."""
        group: list[Waiting[Asked, Answer]] = []
        room = self.max_weight
        together = self.waiting + answered
        most = together // 2 if together >= 2 * MANY else together
        turns = deque(self.queues)
        while turns and len(group) < most:
            queue = self.queues[client := turns.popleft()]
            if group and queue[0].weight > room:
                continue  # it has the first turn of the next group, or one of the first
            waiting = queue.popleft()
            self.waiting -= 1
            del self.queues[client]
            if queue:
                self.queues[client] = queue  # behind the others
                turns.append(client)
            if not waiting.answer.done():
                group.append(waiting)
                room -= waiting.weight
        return group

    async def _answer(self, group: Sequence[Waiting[Asked, Answer]]) -> None:
        try:
            answers = list(zip(group, await self.call([waiting.asked for waiting in group]), strict=True))
        except Exception as error:
            if len(group) == 1:
                _fail(group[0], error)
            elif is_overload(error):
                for waiting in group:
                    _fail(waiting, _copy(error))
            elif isinstance(error, BLOCKED):
                await self._answer_apart(group, error)
            else:
                half = len(group) // 2
                await self._answer(group[:half])
                await self._answer(group[half:])
        else:
            for waiting, answer in answers:
                if isinstance(answer, Problem):
                    _fail(waiting, answer)
                elif not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _answer_apart(self, group: Sequence[Waiting[Asked, Answer]], error: Exception) -> None:
        """One by one, since each that is blocked takes long to fail: after the second one it counts as overload."""
        blocked = 0
        for waiting in group:
            if blocked > 1:
                _fail(waiting, _copy(error))
                continue
            await self._answer([waiting])
            failure = None if waiting.answer.cancelled() else waiting.answer.exception()
            blocked += isinstance(failure, BLOCKED)


def is_overload(error: Exception) -> bool:
    """Whether it concerns everybody alike: the database is away, or has too much to do."""
    return problem_of(error).kind.code == "unavailable" and not isinstance(error, BLOCKED)


def _fail(waiting: Waiting[Asked, Answer], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _copy(error: Exception) -> Problem:
    """One exception raised in many places would gather the tracebacks of all."""
    problem = problem_of(error)
    copy = Problem(problem.kind.code, problem.detail, problem.errors, problem.headers)
    copy.__cause__ = error
    return copy
