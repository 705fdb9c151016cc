"""One open stream of GET /v1/live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from litestar.types import Receive, Scope, Send

from headcount.live.events import BEGINNING, MEDIA_TYPE
from headcount.live.selections import Selection
from headcount.wire.access import Access
from headcount.wire.problems import Problem

if TYPE_CHECKING:  # which is made of listeners
    from headcount.live.feed import Live

KEEP_ALIVE_SECONDS = 10.0
# A listener that takes nothing for so long is dropped; it comes back with its Last-Event-ID.
WRITE_SECONDS = 10.0
HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
HELLO = b"retry: 1000\n"
PIECE_BYTES = 65_536
KEEP_ALIVE = b": still here\n"

log = logging.getLogger("headcount.live")


class Listener:
    """One stream. It has sent everything up to `sent_tick`, but for counts that are awaited; `cursor` is the event id
    for that."""

    def __init__(self, feed: Live, selection: Selection, access: Access, last_id: str | None) -> None:
        self.feed = feed
        self.selection = selection
        self.access = access
        self.last_id = last_id
        self.sent_tick = 0
        self.cursor = BEGINNING
        self.first = b""
        self.spaces: Sequence[str] = ()
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wake = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.wake.set()

    def join(self, tick: int, cursor: str, spaces: Sequence[str], first: bytes) -> None:
        """Begins the stream with `first`: all there is to send up to a tick. `spaces`: those it has then."""
        self.sent_tick, self.cursor, self.spaces, self.first = tick, cursor, spaces, first
        if not self.joined.done():
            self.joined.set_result(None)

    def refuse(self, problem: Problem) -> None:
        if not self.joined.done():
            self.joined.set_exception(problem)

    def take(self) -> bytes:
        """What comes next of all it has not sent yet, perhaps nothing."""
        if self.first:  # by itself: many may share these bytes
            piece, self.first = self.first, b""
            return piece
        if self.sent_tick < self.feed.tick:
            piece, self.cursor = self.selection.batch(self.sent_tick, self.cursor, self.feed)
            self.sent_tick = self.feed.tick
            return piece
        return b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application that answers with the stream."""
        watching = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            while not self.ended:
                self.wake.clear()
                if piece := self.take():
                    await self._write(piece, send)
                    continue
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        await self.wake.wait()
                except TimeoutError:
                    await self._write(KEEP_ALIVE, send)
            async with asyncio.timeout(WRITE_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.info("A listener took nothing for %g seconds and was dropped", WRITE_SECONDS)
        finally:
            watching.cancel()
            self.feed.leave(self)

    async def _write(self, piece: bytes, send: Send) -> None:
        """Raises TimeoutError for one that does not take it."""
        for start in range(0, len(piece), PIECE_BYTES):
            async with asyncio.timeout(WRITE_SECONDS):
                part = piece[start : start + PIECE_BYTES]
                await send({"type": "http.response.body", "body": part, "more_body": True})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()
