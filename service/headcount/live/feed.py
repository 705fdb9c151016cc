"""GET /v1/live: counts and states of sensors as they change, sent to any number of listeners at the price of one.

While anybody listens, the feed asks the database a few times a second what changed since its cursor, counts those
spaces, and encodes each count once. Who asks for the same spaces shares a Selection, which remembers in which tick
each of them changed last. A listener remembers only the tick up to which was sent. So one that is slow gets the
newest count of each space when it is ready again, and nothing is kept for it meanwhile. An index leads from what
changed to the selections that it concerns: the others cost a tick nothing.

After each tick comes a step for those who join. It reads the spaces of new selections, and counts those that nobody
has yet: so many a step, and clients take turns. So a client that asks for much waits for itself. Who asks for what
others have is let in with what they know.

Which spaces a Selection has is read on behalf of its token, if that is limited to a space: when it is new, and
whenever the tree changes, for all selections in one call. Counts are the same for everybody.

Spaces whose counts take long are counted beside the ticks (headcount.live.apart). Only who follows them waits for them.

Who comes back with a Last-Event-ID joins like everybody else, and then asks by itself what changed since. The feed does
not wait for that.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple, Protocol

from headcount.background import background
from headcount.database import calls
from headcount.database.current_counts import GROUP_SPACES
from headcount.database.pool import Database
from headcount.live.apart import NOWHERE, Apart, Position
from headcount.live.events import BEGINNING, Frame, batch, count_event, list_event, space_event
from headcount.live.index import Index
from headcount.live.joining import SPACES_OF_A_CLIENT, Joining
from headcount.live.listener import HELLO, Listener
from headcount.live.selections import EVERYTHING, News, Selection, Subscription
from headcount.wire.access import Access
from headcount.wire.bodies import json_encoder
from headcount.wire.messages.counts import ChangesRow, CountOut, FlippedRow, SelectionRow
from headcount.wire.problems import SQLSTATES, Problem, in_words, problem_in_words, problem_of
from headcount.wire.shares import ClientQuota, OwnTurns

TICK_SECONDS = 0.25
# Between two ticks when somebody joins, so that a thousand who come at once share a few.
JOIN_SECONDS = 0.02
# Of the open streams of one client together. Each selection counts once, however many listen to it.
SPACES_OF_STREAMS = 50_000
# What a selection below a space costs to read while nobody knows how many that are; the sizes of so many are kept.
UNKNOWN_SIZE = 100
KNOWN_SIZES = 10_000
# Counts that are known cost so much less than those that have to be read.
KNOWN_IS_CHEAPER = 10
# Of those who come back with a Last-Event-ID, so many look at once what changed since; of one client one.
RESUMES_AT_ONCE = 2
# Without a database for so long, the streams end: what they said last may be wrong by then.
AWAY_SECONDS = 5.0
# Between two looks at whether tokens are still good.
TOKEN_SECONDS = 1.0
LONGEST_ID = 8_000
# Instead of one that is longer than any of ours.
UNREADABLE = "-"
# Of most ticks: made once, since it is there four times a second.
NONE: AbstractSet[str] = frozenset()
NOTHING: tuple[Sequence[CountOut], AbstractSet[str]] = (), NONE

log = logging.getLogger("headcount.live")


class Guard(Protocol):
    """What knows whether a token is still good. Raises Problem (503) where nobody knows."""

    async def is_still_good(self, access: Access) -> bool: ...


class Tick(NamedTuple):
    """What one tick has read. `loaded`: the spaces of selections, in their order, or why there are none; `late`: those
    whose counts are read apart; `flipped`: by id, the DPUs that the changes name."""

    changes: ChangesRow
    loaded: dict[Selection, list[str] | Problem]
    counts: Sequence[CountOut]
    late: AbstractSet[str]
    flipped: dict[str, FlippedRow]


class Resumed(NamedTuple):
    """What happened since an event id."""

    changes: ChangesRow
    flipped: dict[str, FlippedRow]


class Live:
    """The feed. Asks nothing of the database while nobody listens."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self.database = database
        self.guard = guard
        self.selections: dict[Subscription, Selection] = {}
        self.index = Index()
        self.batched: set[Selection] = set()
        self.joining = Joining()
        self.listening = 0
        self.streams_of = ClientQuota(max(1, database.settings.max_listeners // 4), "streams")
        self.spaces_of = ClientQuota(SPACES_OF_STREAMS, "spaces in streams")
        # By what was asked for, how many spaces that were; the latest last.
        self.sizes: dict[Subscription, int] = {}
        # By space, as far as selections have it, its count as of the latest tick or newer. One that is awaited apart
        # may be older, or missing.
        self.frames: dict[str, Frame] = {}
        self.apart = Apart(database, self._clients_of, lambda: Position(self.tick, self.cursor))
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
        selection = self.selections.get(subscription) or Selection(subscription)
        self._check_spaces(selection, access.client)
        self.selections[subscription] = selection
        if last_id and len(last_id) > LONGEST_ID:
            last_id = UNREADABLE
        listener = Listener(self, selection, access, last_id or None)
        selection.listeners.add(listener)
        selection.clients[access.client] += 1
        self._book(selection, access.client)
        self.listening += 1
        self.streams_of.add(access.client, 1)
        self.joining.add(listener)
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
        selection, client = listener.selection, listener.access.client
        if listener not in selection.listeners:
            return
        selection.listeners.remove(listener)
        self.listening -= 1
        self.streams_of.add(client, -1)
        self.joining.remove(listener)
        selection.clients[client] -= 1
        if not selection.clients[client]:
            del selection.clients[client]
            self.spaces_of.add(client, -selection.booked.pop(client, 0))
        if not selection.listeners:
            self._forget(selection)
        if not self.listening:
            self.frames.clear()
            self.hurry.set()  # to end

    def _check_spaces(self, selection: Selection, client: str | None) -> None:
        """Raises Problem (429) where the streams of a client would have too many spaces; for one whose number is not
        known, when it is."""
        if client not in selection.booked and (size := selection.size()) is not None:
            self.spaces_of.check(client, size)

    def _book(self, selection: Selection, client: str | None) -> None:
        if client not in selection.booked and (size := selection.size()) is not None:
            selection.booked[client] = size
            self.spaces_of.add(client, size)

    def _book_growth(self, selection: Selection, size: int) -> None:
        """Its tree has so many spaces now. A client whose streams have too many in all loses those of this selection:
        to read them would keep the news of everybody waiting. One selection alone may have any number."""
        for client, booked in selection.booked.items():
            try:
                if booked < self.spaces_of.get(client):
                    self.spaces_of.check(client, size - booked)
            except Problem as problem:
                for listener in selection.listeners:
                    if listener.access.client == client:
                        listener.refuse(problem)
                        listener.end()
            else:
                selection.booked[client] = size
                self.spaces_of.add(client, size - booked)

    def _forget(self, selection: Selection) -> None:
        """Nobody listens to it any more."""
        del self.selections[selection.subscription]
        self._unload(selection)

    def _unload(self, selection: Selection) -> None:
        """Its spaces are not known any more; and perhaps nobody else has them."""
        if not selection.is_loaded:
            return
        selection.is_loaded = selection.is_ready = False
        if self.index.everything is selection:
            self.index.everything = None
        for space in selection.indexed():
            self._drop(selection, space)

    def _drop(self, selection: Selection, space: str) -> None:
        self.index.discard(selection, space)
        if space not in self.index:
            self.frames.pop(space, None)
            self.apart.drop(space)

    def _clients_of(self, space: str) -> Iterator[str | None]:
        """Whose streams have it."""
        return (client for selection in self.index.having(space) for client in selection.clients)

    def get_cursor(self, selection: Selection) -> str:
        """The event id up to which a stream that has sent all there is can say that it knows everything."""
        since = self.apart.get_since(selection.changed.keys())
        return self.cursor if since is None else since.cursor

    def _end_all(self, problem: Problem) -> None:
        for selection in self.selections.values():
            for listener in selection.listeners:
                listener.refuse(problem)
                listener.end()

    async def _run(self) -> None:
        """Ticks until nobody listens any more. Somebody may come while it ends: the end is one step."""
        while self.listening:
            async with background(self._check_tokens(), self.apart.ask_unknown(), self.apart.ask_costly()):
                await self._run_ticks()

    async def _run_ticks(self) -> None:
        self.cursor = BEGINNING
        failing_since: float | None = None
        while self.listening:
            self.hurry.clear()
            began = time.monotonic()
            # Who comes during the tick waits for the next: what this one says may be older than they are.
            joining = self.joining.take(self._weigh)
            try:
                await self._tick()
                failing_since = None
            except Exception as error:
                failing_since = failing_since or began
                self._fail(error, joining, began - failing_since)
            else:
                await self._admit_or_refuse(joining)
            if self.joining:
                self.hurry.set()
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
                return await self.guard.is_still_good(access)
        except Exception:
            return None

    def _fail(self, error: Exception, joining: list[Listener], since: float) -> None:
        """The tick is tried again, from the same cursor; nothing is lost."""
        problem = problem_of(error)
        log.warning("The feed of changes cannot be read (%s)", in_words(error))
        for listener in (*joining, *self.joining):
            listener.refuse(problem)
        self.joining.clear()
        if since > AWAY_SECONDS:
            self._end_all(problem)

    async def _tick(self) -> None:
        """Reads what changed, and tells whom it concerns. The counts are read after the changes, so at least as new."""
        changes = await calls.list_changes(self.database, self.cursor)
        loaded = await self._reload(changes)
        counts, late = await self._count(self._want(changes, loaded))
        tokens = [selection.subscription.token for selection in self.selections.values()] if changes.dpus else []
        flipped = await self._list_flips(changes.dpus, tokens)
        self._pass_on(Tick(changes, loaded, counts, late, flipped))

    async def _reload(self, changes: ChangesRow) -> dict[Selection, list[str] | Problem]:
        """The spaces of selections that may have others after a change."""
        if not (changes.is_all or changes.spaces or changes.deleted):
            return {}
        known = [selection for selection in self.selections.values() if selection.is_loaded]
        again = [selection for selection in known if changes.is_all or selection.follows_tree()]
        trees = [selection.subscription for selection in again if selection.subscription.spaces is None]
        # Of all that is named on behalf of a token, once: whether that is there, and within its reach.
        named: dict[str | None, dict[str, None]] = {}
        for spaces, _, token in (selection.subscription for selection in again):
            if spaces is not None:
                named.setdefault(token, {}).update(dict.fromkeys(spaces))
        names = [Subscription(tuple(spaces), None, token) for token, spaces in named.items()]
        rows = await self._load(trees, names)
        found = dict(zip(trees, rows, strict=False))
        there = {
            token: frozenset() if isinstance(row, Problem) else frozenset(row)
            for token, row in zip(named, rows[len(trees) :], strict=True)
        }
        for subscription in (selection.subscription for selection in again):
            if subscription.spaces is not None:
                found[subscription] = those_there(subscription, there[subscription.token])
        return {selection: found[selection.subscription] for selection in again}

    async def _load(
        self, subscriptions: list[Subscription], known_only: list[Subscription]
    ) -> list[list[str] | Problem]:
        """Their spaces, of all in one call; of some without those that are unknown or beyond reach. Those that have the
        same tree share a list."""
        if not subscriptions and not known_only:
            return []
        asked = [subscription._asdict() for subscription in subscriptions]
        asked += [subscription._asdict() | {"known_only": True} for subscription in known_only]
        rows = await calls.list_selections(self.database, json_encoder.encode(asked).decode(), shared=True)
        found: list[list[str] | Problem] = []
        for row in rows:
            found.append(spaces_of(row) if row.same_as is None else found[row.same_as - 1])
        return found

    def _want(self, changes: ChangesRow, loaded: dict[Selection, list[str] | Problem]) -> set[str]:
        """The spaces to count: those that may have changed, and those that are new to selections that are ready."""
        wanted = {space for space in (*changes.counts, *changes.spaces) if self._is_counted(space)}
        for space in changes.spaces:  # it may have come back
            if not self._is_counted(space) and any(selection.is_ready for selection in self.index.having(space)):
                wanted.add(space)
        deleted = set(changes.deleted)
        for selection, spaces in loaded.items():
            if selection.is_ready and isinstance(spaces, list):
                if changes.is_all:
                    wanted.update(spaces)
                else:
                    wanted.update(space for space in spaces if not self._is_counted(space) or space in deleted)
        return wanted

    def _is_counted(self, space: str) -> bool:
        """Whether its count is known, or will be."""
        return space in self.frames or space in self.apart

    async def _count(self, spaces: set[str], *, is_step: bool = False) -> tuple[Sequence[CountOut], AbstractSet[str]]:
        """The counts, without those of spaces that were deleted since: the next tick says so. And the spaces whose
        counts take long. `is_step`: after one group that does so, leave the others to the next step."""
        if not spaces:
            return NOTHING
        late = {space for space in spaces if self.apart.takes(space)}
        now = sorted(spaces - late)
        counts = []
        for start in range(0, len(now), GROUP_SPACES):
            group = now[start : start + GROUP_SPACES]
            found = await self.apart.count_group(group)
            if found is not None:
                counts += found
                continue
            late.update(group)
            if is_step:
                break
        return counts, late

    async def _list_flips(self, dpus: list[str], tokens: Iterable[str | None]) -> dict[str, FlippedRow]:
        if not dpus:
            return {}
        rows = await calls.list_flipped_dpus(
            self.database, dpus, sorted({token for token in tokens if token is not None})
        )
        return {row.dpu: row for row in rows}

    def _pass_on(self, read: Tick) -> None:
        """Takes in what was read, and wakes the listeners whom it concerns."""
        changes = read.changes
        counts, owed = read.counts, NONE
        if self.apart.awaited or read.late:
            found, owed = self._follow_apart(changes, read.late)
            counts = [*found, *counts]
        self.tick += 1
        self.cursor = changes.cursor
        for selection in self.batched:
            selection.batches.clear()
        self.batched.clear()
        changed = {count.space for count in counts if self._take_in(count)}
        counted = {count.space for count in counts}
        if changes.is_all:  # what was deleted meanwhile is not named
            self.frames = {space: frame for space, frame in self.frames.items() if space in counted}
        for space in set(changes.deleted) - counted:
            self.frames.pop(space, None)
        if owed:
            changed |= owed
        news = News(self.tick, changes.is_all, changed, set(changes.spaces), set(changes.deleted))
        flipped = [read.flipped[dpu] for dpu in changes.dpus if dpu in read.flipped]
        for selection, (touched, rows) in self._concerned(news, read.loaded, flipped).items():
            if selection.listeners and self._take_news(selection, news, touched, read.loaded.get(selection), rows):
                for listener in selection.listeners:
                    listener.wake.set()
        if self.apart.fresh:
            self.apart.start()

    def _follow_apart(self, changes: ChangesRow, late: AbstractSet[str]) -> tuple[list[CountOut], set[str]]:
        """What was read apart since the latest tick, as Apart.collect gives it. From now on what is late is awaited."""
        for space in self.apart.awaited.keys() - late if changes.is_all else changes.deleted:
            self.apart.drop(space)
        self.apart.await_counts(late, Position(self.tick, self.cursor))
        return self.apart.collect()

    def _concerned(
        self, news: News, loaded: Iterable[Selection], flipped: list[FlippedRow]
    ) -> dict[Selection, tuple[set[str], list[FlippedRow]]]:
        """The selections whom something concerns, with the spaces and DPUs of theirs that are named."""
        found: dict[Selection, tuple[set[str], list[FlippedRow]]] = {selection: (set(), []) for selection in loaded}
        for space in news.changed | news.spaces | news.deleted:
            for selection in self.index.having(space):
                found.setdefault(selection, (set(), []))[0].add(space)
        for row in flipped:
            concerned = {selection for space in row.spaces for selection in self.index.having(space)}
            if self.index.everything is not None:
                concerned.add(self.index.everything)
            for selection in concerned:
                found.setdefault(selection, (set(), []))[1].append(row)
        return found

    def _take_news(
        self,
        selection: Selection,
        news: News,
        touched: set[str],
        loaded: list[str] | Problem | None,
        flipped: list[FlippedRow],
    ) -> bool:
        """Whether that is anything to its listeners. Follows what it gains and loses in the index."""
        if isinstance(loaded, Problem) and not selection.is_ready:
            self._unload(selection)  # the next step reads it again, and refuses those who wait
            return False
        if isinstance(loaded, list) and selection.subscription.spaces is None:
            self._book_growth(selection, len(loaded))
            if all(listener.ended for listener in selection.listeners):
                self._unload(selection)
                return False
        before = None if loaded is None or selection.subscription.spaces is not None else set(selection.changed)
        if loaded is not None:
            selection.is_gone = isinstance(loaded, Problem)
        is_news = selection.pass_on(news, touched, loaded, flipped, self._is_counted)
        if before is not None:
            for space in selection.changed.keys() - before:
                self.index.add(selection, space)
            for space in before - selection.changed.keys():
                self._drop(selection, space)
        return is_news

    def _take_in(self, count: CountOut) -> bool:
        """Whether it is another one than before."""
        frame, old = count_event(count), self.frames.get(count.space)
        self.frames[count.space] = frame
        return old is None or old.key != frame.key

    def _weigh(self, listener: Listener) -> int:
        """About how many spaces have to be read before it can join."""
        selection = listener.selection
        if selection.is_whole():
            return len(selection.changed) // KNOWN_IS_CHEAPER
        size = selection.size()
        return self.sizes.get(selection.subscription, UNKNOWN_SIZE) if size is None else size

    async def _admit_or_refuse(self, joining: list[Listener]) -> None:
        try:
            await self._admit(joining)
        except Exception as error:
            log.warning("What somebody asks to follow cannot be read (%s)", in_words(error))
            for listener in joining:
                listener.refuse(problem_of(error))

    async def _admit(self, joining: list[Listener]) -> None:
        """One step for those who join, after a tick that began when they were there."""
        await self._load_new(joining)
        await self._count_new(joining)
        firsts: dict[Selection, tuple[list[str], str, bytes]] = {}
        for listener in reversed(joining):
            selection = listener.selection
            if listener.joined.done() or not selection.listeners:
                continue  # it is refused, or has left
            if not selection.is_whole():
                self.joining.put_back(listener)
                continue
            if selection not in firsts:
                firsts[selection] = self._first_of(selection)
            spaces, cursor, first = firsts[selection]
            listener.join(self.tick, cursor, spaces, HELLO if listener.last_id is not None else first)

    def _first_of(self, selection: Selection) -> tuple[list[str], str, bytes]:
        """With what its streams begin: its spaces, up to which event id they know them, and the counts."""
        spaces, cursor = list(selection.changed), self.get_cursor(selection)
        self.apart.owe(selection.changed.keys(), selection.clients)
        return spaces, cursor, HELLO + batch(self._encoded(spaces), BEGINNING, cursor)

    async def _load_new(self, joining: list[Listener]) -> None:
        """Has the selections of those who join know their spaces, or refuses them."""
        asking: dict[Selection, list[Listener]] = {}
        for listener in joining:
            selection = listener.selection
            if not selection.is_loaded or (selection.is_ready and not selection.is_whole()):
                asking.setdefault(selection, []).append(listener)
        found = await self._load([selection.subscription for selection in asking], [])
        for (selection, listeners), spaces in zip(asking.items(), found, strict=True):
            if isinstance(spaces, Problem):
                for listener in listeners:
                    listener.refuse(spaces)
            elif selection.listeners and not selection.is_loaded:
                self._begin(selection, spaces)

    def _begin(self, selection: Selection, spaces: list[str]) -> None:
        """From now on ticks keep up what is known of its spaces."""
        selection.load(spaces, self.tick)
        if selection.subscription == EVERYTHING:
            self.index.everything = selection
        for space in selection.indexed():
            self.index.add(selection, space)
        if selection.subscription.spaces is None:
            self.sizes.pop(selection.subscription, None)
            self.sizes[selection.subscription] = len(spaces)
            if len(self.sizes) > KNOWN_SIZES:
                del self.sizes[next(iter(self.sizes))]
        for client in list(selection.clients):
            try:
                self._check_spaces(selection, client)
            except Problem as problem:
                for listener in selection.listeners:
                    if listener.access.client == client:
                        listener.refuse(problem)
            else:
                self._book(selection, client)

    async def _count_new(self, joining: list[Listener]) -> None:
        """Counts spaces of selections that are not ready, as many as a client may have in a step; whether one is ready
        then. Nobody else has these, so it is no news."""
        wanted: dict[str, None] = {}
        room: dict[str | None, int] = {}
        unready: dict[Selection, None] = {}
        for listener in joining:
            selection, client = listener.selection, listener.access.client
            if selection in unready or selection.is_ready or not selection.is_loaded or listener.joined.done():
                continue
            unready[selection] = None
            left = room.get(client, SPACES_OF_A_CLIENT)
            missing = (space for space in selection.changed if not self._is_counted(space) and space not in wanted)
            new = list(islice(missing, left))
            wanted.update(dict.fromkeys(new))
            room[client] = left - len(new)
        counts, late = await self._count(set(wanted), is_step=True)
        for count in counts:
            if count.space in self.index:
                self._take_in(count)
        self.apart.await_counts((space for space in late if space in self.index), NOWHERE)
        self.apart.start()
        for selection in unready:
            uncounted = selection.changed.keys() - self.frames.keys()
            if selection.listeners and all(map(self.apart.is_costly, uncounted)):
                selection.is_ready = True

    def _encoded(self, spaces: Iterable[str]) -> list[bytes]:
        """The counts with which a stream begins. Those that are awaited follow: what is known of them may be old."""
        return [self.frames[space].encoded for space in spaces if space not in self.apart]

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
            changes = await calls.list_changes(self.database, last_id, is_resume=True)
            tokens = [selection.subscription.token for selection in self.selections.values()]
            return Resumed(changes, await self._list_flips(changes.dpus, tokens))

    def _first(self, listener: Listener, last_id: str, since: Resumed) -> bytes:
        """All counts, or those that may have changed since the last id."""
        selection, changes = listener.selection, since.changes
        self.apart.owe(selection.changed.keys(), (listener.access.client,))
        spaces = [space for space in listener.spaces if space in selection.changed]
        if changes.is_all:
            return batch([list_event("last_event_id"), *self._encoded(spaces)], BEGINNING, listener.cursor)
        events = [space_event(space, deleted=False) for space in changes.spaces if space in selection.changed]
        if selection.subscription == EVERYTHING:  # of one that is gone nobody knows any more where it was
            retired = [space for space in changes.spaces if space not in selection.changed]
            events += [space_event(space, deleted=True) for space in [*changes.deleted, *retired]]
        events += selection.dpu_events(since.flipped[dpu] for dpu in changes.dpus if dpu in since.flipped).values()
        moved = set(changes.counts)
        # spaces may have been moved here, with what is below them
        if changes.spaces and selection.subscription != EVERYTHING:
            moved |= set(spaces)
        counts = self._encoded(space for space in spaces if space in moved)
        return batch([*events, *counts], last_id, listener.cursor)


def those_there(subscription: Subscription, there: frozenset[str]) -> list[str] | Problem:
    """Of the spaces that are named. A limited token has to reach all of them."""
    found = [space for space in subscription.spaces or () if space in there]
    if subscription.token is not None and len(found) < len(subscription.spaces or ()):
        return Problem("not_found", "One of the spaces is beyond reach now.")
    return found


def spaces_of(row: SelectionRow) -> list[str] | Problem:
    """The spaces of a selection, or why there are none."""
    if row.error is not None:
        return problem_in_words(SQLSTATES[row.error], row.message, row.place, row.hint)
    return row.spaces or []
