"""GET /v1/live: counts and states of sensors as they change, sent to any number of listeners at the price of one.

While anybody listens, the feed asks the database a few times a second what changed since its cursor, counts those
spaces, and encodes each count once. Who asks for the same spaces shares a Selection, which remembers in which tick
each of them changed last. A listener remembers only the tick up to which was sent. So one that is slow gets the
newest count of each space when it is ready again, and nothing is kept for it meanwhile.

Which spaces a Selection has is read on behalf of its token, if that is limited to a space: whenever somebody joins,
and whenever the tree changes, for all selections in one call. Counts are the same for everybody.

Who comes back with a Last-Event-ID joins like everybody else, and then asks by itself what changed since. The feed does
not wait for that.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Protocol

from headcount.background import background
from headcount.database import calls
from headcount.database.pool import Database
from headcount.live.events import BEGINNING, Frame, batch, count_event, list_event, space_event
from headcount.live.listener import Listener
from headcount.live.selections import EVERYTHING, Selection, Subscription
from headcount.wire.access import Access
from headcount.wire.bodies import json_encoder
from headcount.wire.messages.counts import ChangesRow, CountOut, FlippedRow, SelectionRow
from headcount.wire.problems import SQLSTATES, Problem, problem_in_words, problem_of
from headcount.wire.shares import ClientQuota, OwnTurns

TICK_SECONDS = 0.25
# Between two ticks when somebody joins, so that a thousand who come at once share a few.
JOIN_SECONDS = 0.02
JOINS_A_TICK = 50
# Of those who come back with a Last-Event-ID, so many look at once what changed since; of one client one.
RESUMES_AT_ONCE = 2
# Without a database for so long, the streams end: what they said last may be wrong by then.
AWAY_SECONDS = 5.0
# Between two looks at whether tokens are still good.
TOKEN_SECONDS = 1.0
LONGEST_ID = 8_000
# Instead of one that is longer than any of ours.
UNREADABLE = "-"

log = logging.getLogger("headcount.live")


class Guard(Protocol):
    """What knows whether a token is still good. Raises Problem (503) where nobody knows."""

    async def is_still_good(self, access: Access) -> bool: ...


class Overtaken(Exception):
    """A space was deleted since the feed was read: what it says is to be read again."""


class Tick(NamedTuple):
    """What one tick has read. `loaded`: the spaces of selections, in their order, or why there are none; `flipped`: by
    id, the DPUs that the changes name."""

    changes: ChangesRow
    loaded: dict[Selection, list[str] | Problem]
    counts: list[CountOut]
    flipped: dict[str, FlippedRow]


class Resumed(NamedTuple):
    """What happened since an event id."""

    changes: ChangesRow
    flipped: dict[str, FlippedRow]


class Live:
    """The feed. Asks nothing of the database while nobody listens."""

    def __init__(self, database: Database, gate: Guard) -> None:
        self.database = database
        self.gate = gate
        self.selections: dict[Subscription, Selection] = {}
        self.joining: list[Listener] = []
        self.listening = 0
        self.streams_of = ClientQuota(max(1, database.settings.max_listeners // 4), "streams")
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

    async def listen(self, subscription: Subscription, access: Access, last_id: str | None = None) -> Listener:
        """A stream that has joined the feed, as far as the access reaches. It ends when that is good no more.

        Raises Problem: 404 for an unknown space, 422, 429, 503.
        """
        if self.stopped:
            raise Problem("unavailable", "The service is stopping.")
        if self.listening >= self.database.settings.max_listeners:
            raise Problem("unavailable", "Too many are listening. Come back later, or ask for GET /v1/counts.")
        self.streams_of.check(access.client)
        subscription = subscription._replace(token=access.token if access.is_limited else None)
        selection = self.selections.setdefault(subscription, Selection(subscription))
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
                del self.selections[selection.subscription]
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
        """None: that is not known just now."""
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
        loaded = await self._load(
            [found for found in anew | again if found not in anew or found.subscription != EVERYTHING]
        )
        # Whoever begins with everything has its spaces from the counts.
        counts = (
            await calls.list_counts(self.database) if any(found.subscription == EVERYTHING for found in anew) else []
        )
        loaded |= {found: [count.space for count in counts] for found in anew if found.subscription == EVERYTHING}
        counts += await self._count(self._want(changes, anew, loaded) - {count.space for count in counts})
        flipped = await self._list_flips(
            changes.dpus, [selection.subscription.token for selection in self.selections.values()]
        )
        return Tick(changes, loaded, counts, flipped)

    async def _load(self, selections: list[Selection]) -> dict[Selection, list[str] | Problem]:
        """The spaces of selections, of all in one call."""
        if not selections:
            return {}
        sent = json_encoder.encode([selection.subscription._asdict() for selection in selections]).decode()
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
                wanted |= {space for space in touched if space in selection.changed} | selection.changed_by_name(
                    changes
                )
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

    async def _list_flips(self, dpus: list[str], tokens: Iterable[str | None]) -> dict[str, FlippedRow]:
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
        flipped = [read.flipped[dpu] for dpu in read.changes.dpus if dpu in read.flipped]
        for selection in self.selections.values():
            if selection.pass_on(changed, read.changes, read.loaded.get(selection), flipped, self.tick):
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
        after it joined, so at least as new; what is newer is sent again."""
        key = last_id, listener.sent_tick
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
            tokens = [selection.subscription.token for selection in self.selections.values()]
            return Resumed(changes, await self._list_flips(changes.dpus, tokens))

    def _first(self, listener: Listener, last_id: str, since: Resumed) -> bytes:
        """All counts, or those that may have changed since the last id."""
        selection, changes = listener.selection, since.changes
        spaces = [space for space in listener.spaces if space in selection.changed]
        if changes.is_all:
            counts = [self.frames[space].encoded for space in spaces]
            return batch([list_event("last_event_id"), *counts], BEGINNING, listener.cursor)
        events = [space_event(space, deleted=False) for space in changes.spaces if space in selection.changed]
        if selection.subscription == EVERYTHING:  # of one that is gone nobody knows any more where it was
            retired = [space for space in changes.spaces if space not in selection.changed]
            events += [space_event(space, deleted=True) for space in [*changes.deleted, *retired]]
        events += selection.dpu_events(since.flipped[dpu] for dpu in changes.dpus if dpu in since.flipped).values()
        moved = set(changes.counts)
        # spaces may have been moved here, with what is below them
        if changes.spaces and selection.subscription != EVERYTHING:
            moved |= set(spaces)
        counts = [self.frames[space].encoded for space in spaces if space in moved]
        return batch([*events, *counts], last_id, listener.cursor)


def spaces_of(row: SelectionRow) -> list[str] | Problem:
    """The spaces of a selection, or why there are none."""
    if row.error is not None:
        return problem_in_words(SQLSTATES[row.error], row.message, row.place, row.hint)
    return row.spaces or []
