"""GET /v1/live: counts and states of sensors as they change, sent to any number of listeners at the price of one.

While anybody listens, the feed asks the database a few times a second what changed since its cursor, counts those
spaces, and encodes each count once. Who asks for the same spaces shares a Selection, which remembers in which tick
each of them changed last. A listener remembers only the tick up to which it was told. So one that is slow gets the
newest count of each space when it is ready again, and nothing is kept for it meanwhile.

Which spaces a Selection has is read on behalf of its token, if that is limited to a space: whenever somebody joins,
and whenever the tree changes, for all selections in one call. Counts are the same for everybody.

Who comes back with a Last-Event-ID joins like everybody else, and then asks by itself what changed since. The feed does
not wait for that.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import takewhile
from typing import Any, Literal, NamedTuple, Protocol

from litestar.types import Receive, Scope, Send

from headcount.background import background
from headcount.database import calls
from headcount.database.pool import Database
from headcount.wire.access import Access
from headcount.wire.bodies import json_encoder
from headcount.wire.messages import (
    ChangesRow,
    CountOut,
    DpuChangeOut,
    ListAgainOut,
    SelectionRow,
    SpaceChangeOut,
    TurnedRow,
)
from headcount.wire.problems import SQLSTATES, Problem, problem_in_words, problem_of
from headcount.wire.shares import OwnTurns, Part

TICK_SECONDS = 0.25
# Between two ticks when somebody joins, so that a thousand who come at once share a few.
JOIN_SECONDS = 0.02
JOINS_A_TICK = 50
# Of those who come back with a Last-Event-ID, so many look at once what changed since; of one client one.
RESUMES_AT_ONCE = 2
KEEP_ALIVE_SECONDS = 10.0
# A listener that takes nothing for so long is dropped; it comes back with its Last-Event-ID.
WRITE_SECONDS = 10.0
# Without a database for so long, the streams end: what they said last may be wrong by then.
AWAY_SECONDS = 5.0
# Between two looks at whether tokens are still good.
TOKEN_SECONDS = 1.0
# For notices that not everybody has been told yet: anybody slower than this was dropped.
NOTICE_SECONDS = 60.0

MEDIA_TYPE = "text/event-stream"
HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
HELLO = b"retry: 1000\n"
PIECE_BYTES = 65_536
KEEP_ALIVE = b": still here\n"
# The id before the first batch is complete: after it, everything is sent.
BEGINNING = "0"
LONGEST_ID = 8_000
# Instead of one that is longer than any of ours.
UNREADABLE = "-"

log = logging.getLogger("headcount.live")


class Asked(NamedTuple):
    """What a listener wants: the spaces named, or those under one, or all; and on behalf of which limited token."""

    spaces: tuple[str, ...] | None = None
    under: str | None = None
    token: str | None = None


class Frame(NamedTuple):
    """A count as it goes out, and what of it makes it another one: everything but its instant."""

    key: tuple[object, ...]
    encoded: bytes


class Notice(NamedTuple):
    """An event that is told once and has no lasting state."""

    tick: int
    noticed_at: float
    encoded: bytes


def count_event(count: CountOut) -> Frame:
    key = (
        *(count.count, count.raw_count, count.since, count.capacity, count.utilization),
        *(count.dpus, count.counted, count.counted_since),
    )
    return Frame(key, b"event: count\ndata: " + json_encoder.encode(count) + b"\n\n")


def space_event(space: str, deleted: bool) -> bytes:
    return b"event: space\ndata: " + json_encoder.encode(SpaceChangeOut(space, deleted)) + b"\n\n"


def dpu_event(row: TurnedRow, space: str | None) -> bytes:
    told = DpuChangeOut(row.dpu, row.state, row.last_seen, row.at, space)
    return b"event: dpu\ndata: " + json_encoder.encode(told) + b"\n\n"


def list_event(reason: Literal["last_event_id", "stalled"]) -> bytes:
    return b"event: list\ndata: " + json_encoder.encode(ListAgainOut(reason)) + b"\n\n"


def batch(events: list[bytes], old: str, new: str) -> bytes:
    """A piece of stream that leads from one cursor to the next. Only its last event has the new one as its id: what is
    cut off in the middle is sent again as a whole."""
    if not events:
        return b""
    old_id, new_id = (f"id: {cursor}\n".encode() for cursor in (old, new))
    return b"".join([*(old_id + event for event in events[:-1]), new_id, events[-1]])


class Selection:
    """The spaces that some listeners asked for alike, and when they changed."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.listeners: set[Listener] = set()
        # By space, the tick in which its count changed last; the longest unchanged first.
        self.changed: dict[str, int] = {}
        # By event and subject, so that the newest wins.
        self.notices: dict[tuple[str, str], Notice] = {}
        self.batches: dict[int, bytes] = {}

    def notice(self, space: str, deleted: bool, tick: int) -> None:
        """Has it told that something about the space itself changed."""
        self._notice(("space", space), space_event(space, deleted), tick)

    def _notice(self, key: tuple[str, str], encoded: bytes, tick: int) -> None:
        now = time.monotonic()
        while self.notices and (oldest := next(iter(self.notices.items())))[1].noticed_at < now - NOTICE_SECONDS:
            del self.notices[oldest[0]]
        self.notices.pop(key, None)
        self.notices[key] = Notice(tick, now, encoded)

    def dpu_events(self, turned: Iterable[TurnedRow]) -> dict[str, bytes]:
        """By DPU, what is to be told of those that hang at the spaces of this selection, or below them."""
        found = {}
        token = self.asked.token
        for row in turned:
            if self.asked != Asked() and self.changed.keys().isdisjoint(row.spaces):
                continue
            if token is None:
                found[row.dpu] = dpu_event(row, row.mounted_in if row.mounted_in is not None else row.other_side)
            elif token in row.seen_by:  # which of its sides a limited token sees is decided there
                found[row.dpu] = dpu_event(row, row.seen_at[row.seen_by.index(token)])
        return found

    def pass_on(
        self,
        changed: set[str],
        changes: ChangesRow,
        loaded: list[str] | Problem | None,
        turned: Sequence[TurnedRow],
        tick: int,
    ) -> bool:
        """Takes in what a tick found; whether that is anything to its listeners. `loaded`: its spaces, where they were
        read again."""
        self.batches.clear()
        if self._is_refused(loaded):
            # Let them ask again, and hear why.
            for listener in self.listeners:
                listener.end()
        if changes.is_all:  # who joins just now is not told: what it lists afterwards is as new
            self._notice(("list", ""), list_event("stalled"), tick)
        if loaded is None and not (changed or changes.spaces or changes.deleted or turned):
            return False
        members = self.members(changes) if loaded is None else set() if isinstance(loaded, Problem) else set(loaded)
        lost = self.changed.keys() - members
        for space in lost:
            del self.changed[space]
            self.notice(space, deleted=True, tick=tick)
        spoken_of = members.intersection(changes.spaces)
        for space in spoken_of:
            self.notice(space, deleted=False, tick=tick)
        moved = (members & changed) | (members - self.changed.keys())
        for space in moved:
            self.changed.pop(space, None)
            self.changed[space] = tick
        flips = self.dpu_events(turned)
        for dpu, encoded in flips.items():
            self._notice(("dpu", dpu), encoded, tick)
        return bool(changes.is_all or lost or spoken_of or moved or flips)

    def members(self, changes: ChangesRow) -> set[str]:
        """Its spaces after a change, where that can be told without asking the database."""
        return (self.changed.keys() - changes.deleted) | self.news(changes)

    def news(self, changes: ChangesRow) -> set[str]:
        """Spaces asked for by name that changed themselves, whether they were there before or not."""
        return set(self.asked.spaces or ()).intersection(changes.spaces) if changes.spaces else set()

    def follows_tree(self) -> bool:
        """Whether its spaces may be others when something is made, hung elsewhere or retired."""
        return self.asked.spaces is None or self.asked.token is not None

    def _is_refused(self, loaded: list[str] | Problem | None) -> bool:
        """Whether there is nothing more to tell: one of several spaces is gone, so none was counted; or a limited
        token reaches nothing any more, or not what was asked for. It must not look as if the spaces were gone."""
        is_limited = self.asked.token is not None
        if isinstance(loaded, Problem):
            return is_limited or self.asked.spaces is not None
        return is_limited and loaded == []

    def batch(self, told: int, cursor: str, feed: "Live") -> bytes:
        """All that happened after tick `told`, whose cursor is given. Whoever was told as much shares these bytes."""
        if told not in self.batches:
            notices = [notice.encoded for notice in self.notices.values() if notice.tick > told]
            spaces = takewhile(lambda space: self.changed[space] > told, reversed(self.changed))
            counts = [feed.frames[space].encoded for space in spaces]
            self.batches[told] = batch([*notices, *reversed(counts)], cursor, feed.cursor)
        return self.batches[told]


class Guard(Protocol):
    """What knows whether a token is still good. Raises Problem (503) where nobody knows."""

    async def is_still_good(self, access: Access) -> bool: ...


class Listener:
    """One stream. What it was told ends at tick `told`, whose cursor is `cursor`."""

    def __init__(self, feed: "Live", selection: Selection, access: Access, last_id: str | None) -> None:
        self.feed = feed
        self.selection = selection
        self.access = access
        self.last_id = last_id
        self.told = 0
        self.cursor = BEGINNING
        self.first = HELLO
        self.spaces: Sequence[str] = ()
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wake = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.wake.set()

    def join(self, tick: int, cursor: str, spaces: Sequence[str], first: bytes) -> None:
        """Begins the stream with `first`: all there is to tell up to a tick. `spaces`: those it has then."""
        self.told, self.cursor, self.spaces = tick, cursor, spaces
        self.first += first
        if not self.joined.done():
            self.joined.set_result(None)

    def refuse(self, problem: Problem) -> None:
        if not self.joined.done():
            self.joined.set_exception(problem)

    def take(self) -> bytes:
        """Everything it was not told yet, perhaps nothing."""
        piece, self.first = self.first, b""
        if self.told < self.feed.tick:
            piece += self.selection.batch(self.told, self.cursor, self.feed)
            self.told, self.cursor = self.feed.tick, self.feed.cursor
        return piece

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


class Overtaken(Exception):
    """A space was deleted since the feed was read: what it says is to be read again."""


class Tick(NamedTuple):
    """What one tick has read. `loaded`: the spaces of selections, in their order, or why there are none; `turned`: by
    id, the DPUs that the changes name."""

    changes: ChangesRow
    loaded: dict[Selection, list[str] | Problem]
    counts: list[CountOut]
    turned: dict[str, TurnedRow]


class Resumed(NamedTuple):
    """What happened since an event id."""

    changes: ChangesRow
    turned: dict[str, TurnedRow]


class Live:
    """The feed. Asks nothing of the database while nobody listens."""

    def __init__(self, database: Database, gate: Guard) -> None:
        self.database = database
        self.gate = gate
        self.selections: dict[Asked, Selection] = {}
        self.joining: list[Listener] = []
        self.listening = 0
        self.streams_of = Part(max(1, database.settings.max_listeners // 4), "streams")
        self.frames: dict[str, Frame] = {}
        self.tick = 0
        self.cursor = BEGINNING
        self.task: asyncio.Task[None] | None = None
        self.hurry = asyncio.Event()
        self.stopped = False
        # By event id and the tick in which they joined: whoever comes back alike shares one look.
        self.resuming: dict[tuple[str, int], asyncio.Task[Resumed]] = {}
        self.resume_turn = asyncio.Semaphore(RESUMES_AT_ONCE)
        self.resume_turns_of = OwnTurns(RESUMES_AT_ONCE // 2)

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.stop()
            tasks: list[asyncio.Task[Any]] = [*self.resuming.values(), *filter(None, [self.task])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Ends all streams and takes no more: an open stream would keep the server from stopping."""
        self.stopped = True
        self._end_all(Problem("unavailable", "The service is stopping."))

    async def listen(self, asked: Asked, access: Access, last_id: str | None = None) -> Listener:
        """A stream that has joined the feed, as far as the access reaches. It ends when that is good no more.

        Raises Problem: 404 for an unknown space, 422, 429, 503.
        """
        if self.stopped:
            raise Problem("unavailable", "The service is stopping.")
        if self.listening >= self.database.settings.max_listeners:
            raise Problem("unavailable", "Too many are listening. Come back later, or ask for GET /v1/counts.")
        self.streams_of.check(access.client)
        asked = asked._replace(token=access.token if access.is_limited else None)
        selection = self.selections.setdefault(asked, Selection(asked))
        if last_id and len(last_id) > LONGEST_ID:
            last_id = UNREADABLE
        listener = Listener(self, selection, access, last_id or None)
        selection.listeners.add(listener)
        self.listening += 1
        self.streams_of.add(access.client, 1)
        self.joining.append(listener)
        self.hurry.set()
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run())
        try:
            await listener.joined
            if listener.last_id is not None:
                await self._resume(listener, listener.last_id)
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def leave(self, listener: Listener) -> None:
        selection = listener.selection
        if listener in selection.listeners:
            selection.listeners.remove(listener)
            self.listening -= 1
            self.streams_of.add(listener.access.client, -1)
            if listener in self.joining:
                self.joining.remove(listener)
            if not selection.listeners:
                del self.selections[selection.asked]
            if not self.listening:
                self.frames.clear()
                self.hurry.set()  # to end

    def _end_all(self, problem: Problem) -> None:
        for selection in self.selections.values():
            for listener in selection.listeners:
                listener.refuse(problem)
                listener.end()

    async def _run(self) -> None:
        """Ticks until nobody listens any more. Somebody may come while it ends: the end is one step."""
        while self.listening:
            async with background(self._check_tokens()):
                await self._run_ticks()

    async def _run_ticks(self) -> None:
        self.cursor = BEGINNING
        failing_since: float | None = None
        while self.listening:
            self.hurry.clear()
            began = time.monotonic()
            try:
                await self._tick()
                failing_since = None
            except Overtaken:
                self.hurry.set()
            except Exception as error:
                failing_since = failing_since or began
                self._fail(error, began - failing_since)
            # A database that is slow is not kept busy with this alone.
            took = time.monotonic() - began
            await asyncio.sleep(max(JOIN_SECONDS, took))
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS - 2 * took):
                    await self.hurry.wait()

    async def _check_tokens(self) -> None:
        """Ends the streams of tokens that are good no more, and of those that nobody could tell about for a while."""
        unsure: dict[Access, float] = {}
        while True:
            await asyncio.sleep(TOKEN_SECONDS)
            listeners: dict[Access, list[Listener]] = {}
            for selection in self.selections.values():
                for listener in selection.listeners:
                    listeners.setdefault(listener.access, []).append(listener)
            are_good = await asyncio.gather(*map(self._is_still_good, listeners))
            found = dict(zip(listeners, are_good, strict=True))
            now = time.monotonic()
            unsure = {access: unsure.get(access, now) for access, is_good in found.items() if is_good is None}
            for access, is_good in found.items():
                if is_good is False or unsure.get(access, now) < now - AWAY_SECONDS:
                    log.info("The streams of %s end: the token was revoked, has expired, or is unsure", access.token)
                    for listener in listeners[access]:
                        listener.end()

    async def _is_still_good(self, access: Access) -> bool | None:
        """None: that cannot be told just now."""
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                return await self.gate.is_still_good(access)
        except Exception:
            return None

    def _fail(self, error: Exception, since: float) -> None:
        """The tick is tried again, from the same cursor; nothing is lost."""
        problem = problem_of(error)
        log.warning("The feed of changes cannot be read (%s: %s)", type(error).__name__, error)
        for listener in self.joining:
            listener.refuse(problem)
        self.joining.clear()
        if since > AWAY_SECONDS:
            self._end_all(problem)

    async def _tick(self) -> None:
        joining = self.joining[:JOINS_A_TICK]
        read = await self._read(joining)
        self.joining = [listener for listener in self.joining if listener not in joining]
        if self.joining:
            self.hurry.set()
        self._pass_on(read)
        self._let_in(joining, read)

    async def _read(self, joining: list[Listener]) -> Tick:
        """All that a tick needs of the database. The counts are read after the changes, so at least as new."""
        changes = await calls.list_changes(self.database, self.cursor)
        joined = {listener.selection for listener in joining}
        is_plan = bool(changes.spaces or changes.deleted)
        anew = {found for found in self.selections.values() if changes.is_all or found in joined}
        again = {found for found in self.selections.values() if is_plan and found.follows_tree()}
        loaded = await self._load([found for found in anew | again if found not in anew or found.asked != Asked()])
        # Whoever begins with everything has its spaces from the counts.
        counts = await calls.list_counts(self.database) if any(found.asked == Asked() for found in anew) else []
        loaded |= {found: [count.space for count in counts] for found in anew if found.asked == Asked()}
        counts += await self._count(self._want(changes, anew, loaded) - {count.space for count in counts})
        turned = await self._list_turned(
            changes.dpus, [selection.asked.token for selection in self.selections.values()]
        )
        return Tick(changes, loaded, counts, turned)

    async def _load(self, selections: list[Selection]) -> dict[Selection, list[str] | Problem]:
        """The spaces of selections, of all in one call."""
        if not selections:
            return {}
        sent = json_encoder.encode([selection.asked._asdict() for selection in selections]).decode()
        rows = await calls.list_selections(self.database, sent)
        return {selection: spaces_of(row) for selection, row in zip(selections, rows, strict=True)}

    def _want(
        self, changes: ChangesRow, anew: set[Selection], loaded: dict[Selection, list[str] | Problem]
    ) -> set[str]:
        """The spaces to count: those that may have changed, and all those of the selections `anew`."""
        touched = {*changes.counts, *changes.spaces}
        known = self.frames.keys() - changes.deleted
        wanted: set[str] = set()
        for selection in self.selections.values():
            found = loaded.get(selection)
            if isinstance(found, list):
                members = set(found)
                wanted |= members if selection in anew else (members & touched) | (members - known)
            elif found is None:
                wanted |= {space for space in touched if space in selection.changed} | selection.news(changes)
        return wanted

    async def _count(self, spaces: set[str]) -> list[CountOut]:
        """Raises Overtaken."""
        if not spaces:
            return []
        try:
            return await calls.list_counts(self.database, sorted(spaces))
        except Exception as error:
            if problem_of(error).kind.code == "not_found":
                raise Overtaken from error
            raise

    async def _list_turned(self, dpus: list[str], tokens: Iterable[str | None]) -> dict[str, TurnedRow]:
        if not dpus:
            return {}
        rows = await calls.list_turned_dpus(
            self.database, dpus, sorted({token for token in tokens if token is not None})
        )
        return {row.dpu: row for row in rows}

    def _pass_on(self, read: Tick) -> None:
        """Takes in what was read, and wakes the listeners whom it concerns."""
        self.tick += 1
        self.cursor = read.changes.cursor
        for space in read.changes.deleted:
            self.frames.pop(space, None)
        changed = {count.space for count in read.counts if self._take_in(count)}
        turned = [read.turned[dpu] for dpu in read.changes.dpus if dpu in read.turned]
        for selection in self.selections.values():
            if selection.pass_on(changed, read.changes, read.loaded.get(selection), turned, self.tick):
                for listener in selection.listeners:
                    listener.wake.set()
        if read.changes.is_all:  # what was deleted meanwhile is not named
            kept = {space for selection in self.selections.values() for space in selection.changed}
            self.frames = {space: frame for space, frame in self.frames.items() if space in kept}

    def _take_in(self, count: CountOut) -> bool:
        """Whether it is another one than before."""
        frame, old = count_event(count), self.frames.get(count.space)
        self.frames[count.space] = frame
        return old is None or old.key != frame.key

    def _let_in(self, joining: list[Listener], read: Tick) -> None:
        firsts: dict[Selection, bytes] = {}
        for listener in joining:
            selection = listener.selection
            found = read.loaded.get(selection)
            if isinstance(found, Problem):
                listener.refuse(found)
            elif found is not None:  # else it has left already
                if listener.last_id is None and selection not in firsts:
                    firsts[selection] = self._all(found)
                listener.join(self.tick, self.cursor, found, firsts[selection] if listener.last_id is None else b"")

    def _all(self, spaces: Iterable[str]) -> bytes:
        return batch([self.frames[space].encoded for space in spaces], BEGINNING, self.cursor)

    async def _resume(self, listener: Listener, last_id: str) -> None:
        """Has the stream begin with what happened between an event id and the tick in which it joined. That is read
        after it joined, so at least as new; what is newer is told again."""
        key = last_id, listener.told
        if key not in self.resuming:
            self.resuming[key] = asyncio.create_task(self._list_since(last_id, listener.access.client))
            self.resuming[key].add_done_callback(lambda done: self._end_resume(key, done))
        task = self.resuming[key]
        try:
            since = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Problem("unavailable", "The service is stopping.") from None
            raise
        listener.first += self._first(listener, last_id, since)

    def _end_resume(self, key: tuple[str, int], done: asyncio.Task[Resumed]) -> None:
        del self.resuming[key]
        if not done.cancelled():
            done.exception()  # whoever waited for it may have left

    async def _list_since(self, last_id: str, client: str | None) -> Resumed:
        async with self.resume_turns_of.of(client), self.resume_turn:
            changes = await calls.list_changes(self.database, last_id)
            tokens = [selection.asked.token for selection in self.selections.values()]
            return Resumed(changes, await self._list_turned(changes.dpus, tokens))

    def _first(self, listener: Listener, last_id: str, since: Resumed) -> bytes:
        """All counts, or those that may have changed since the last id."""
        selection, changes = listener.selection, since.changes
        spaces = [space for space in listener.spaces if space in selection.changed]
        if changes.is_all:
            counts = [self.frames[space].encoded for space in spaces]
            return batch([list_event("last_event_id"), *counts], BEGINNING, listener.cursor)
        told = [space_event(space, deleted=False) for space in changes.spaces if space in selection.changed]
        if selection.asked == Asked():  # of one that is gone nobody knows any more where it was
            retired = [space for space in changes.spaces if space not in selection.changed]
            told += [space_event(space, deleted=True) for space in [*changes.deleted, *retired]]
        told += selection.dpu_events(since.turned[dpu] for dpu in changes.dpus if dpu in since.turned).values()
        moved = set(changes.counts)
        if changes.spaces and selection.asked != Asked():  # spaces may have been hung here, with what is below them
            moved |= set(spaces)
        counts = [self.frames[space].encoded for space in spaces if space in moved]
        return batch([*told, *counts], last_id, listener.cursor)


def spaces_of(row: SelectionRow) -> list[str] | Problem:
    """The spaces of a selection, or why there are none."""
    if row.error is not None:
        return problem_in_words(SQLSTATES[row.error], row.message, row.place, row.hint)
    return row.spaces or []
