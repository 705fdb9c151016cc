"""Work that takes longer than the event loop may stand still: a few threads, and of each client one thing at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

THREADS = 2
# What the event loop reads itself where it goes at once, and where each item has to be looked at.
AT_ONCE_BYTES = 16 * 1024
ONE_BY_ONE_BYTES = 2 * 1024
# Long enough for another thread to wake up and take over.
BREATH_SECONDS = 0.00005
BREATHS_APART = 64
# After its work a client waits as long as that took, so that it never has more than half of a processor.
MAX_PAUSE_SECONDS = 2.0

Taken = TypeVar("Taken")
Done = TypeVar("Done")

_here = threading.local()


class TakesTime(Exception):
    """Raised where the event loop would stand still: the work is to be done by a thread."""


def in_a_hurry(read: Callable[[Taken], Done], body: Taken) -> Done:
    """What `read` makes of the body. Raises TakesTime before it does what could take long."""
    _here.is_hurried = True
    try:
        return read(body)
    finally:
        _here.is_hurried = False


def is_hurried() -> bool:
    """Whether somebody is in a hurry here."""
    return getattr(_here, "is_hurried", False)


def take_time(size: int) -> None:
    """Before so many bytes are looked at one by one. Raises TakesTime where somebody is in a hurry."""
    if size > ONE_BY_ONE_BYTES and is_hurried():
        raise TakesTime


def breathe(number: int) -> None:
    """For loops that go on for long, with the number of the round: lets the event loop have its turn now and then."""
    if number % BREATHS_APART == 0 and getattr(_here, "is_worker", False):
        time.sleep(BREATH_SECONDS)


def breathing(work: Callable[..., Done], *given: Any) -> Done:
    """For a thread of somebody else: does the work so that it breathes."""
    _here.is_worker = True
    try:
        return work(*given)
    finally:
        _here.is_worker = False


def no_check() -> None:
    """Nothing speaks against the work."""


class WorkerThreads:
    """Does work beside the event loop."""

    def __init__(self, threads: int = THREADS, name: str = "worker") -> None:
        self.pool = ThreadPoolExecutor(threads, name, initializer=_begin)
        self.free = asyncio.Semaphore(threads)
        self.turns: dict[str, Turn] = {}

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, client: str | None, work: Callable[[], Done], check: Callable[[], None] = no_check) -> Done:
        """What `work` returns or raises. It is finished even if whoever asked goes away.

        `check` is called once its turn has come, by the event loop: what it raises is raised instead.
        """
        turn = self.turns.setdefault(client, Turn()) if client is not None else Turn()
        turn.users += 1
        try:
            await turn.lock.acquire()
        except BaseException:
            self._leave(client, turn)
            raise
        task = asyncio.create_task(self._work(client, turn, work, check))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        finally:
            # else what it raises holds this frame, and this frame it: with a body, until garbage is collected
            del task

    async def _work(
        self, client: str | None, turn: "Turn", work: Callable[[], Done], check: Callable[[], None]
    ) -> Done:
        loop = asyncio.get_running_loop()
        pause = 0.0
        try:
            check()
            async with self.free:
                begun = loop.time()
                try:
                    return await loop.run_in_executor(self.pool, work)
                finally:
                    pause = min(loop.time() - begun, MAX_PAUSE_SECONDS)
        finally:
            # whoever asked need not wait for that
            loop.call_later(pause, self._end, client, turn)

    def _end(self, client: str | None, turn: "Turn") -> None:
        turn.lock.release()
        self._leave(client, turn)

    def _leave(self, client: str | None, turn: "Turn") -> None:
        turn.users -= 1
        if not turn.users and client is not None:
            del self.turns[client]


class Turn:
    """A client's: one thing at a time."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def _begin() -> None:
    _here.is_worker = True
