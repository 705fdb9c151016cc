"""What listeners asked for alike: which spaces these are, and what changed in each tick."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headcount.live.events import Frame, LiveEvent, batch, dpu_event, list_event, space_event
from headcount.wire.messages.counts import FlippedRow
from headcount.wire.problems import Problem

if TYPE_CHECKING:  # which have a selection
    from headcount.live.listener import Listener

# For events that were not sent to everybody yet: anybody slower than this was dropped.
EVENT_SECONDS = 60.0


class Subscription(NamedTuple):
    """What a listener wants: the spaces named, or those under one, or all; and on behalf of which limited token."""

    spaces: tuple[str, ...] | None = None
    under: str | None = None
    token: str | None = None


# All spaces, on behalf of nobody who is limited.
EVERYTHING = Subscription()


class Feed(Protocol):
    """Where counts stand, encoded, up to which cursor; and the selections that keep batches until the next tick."""

    frames: dict[str, Frame]
    batched: set[Selection]

    def get_cursor(self, selection: Selection) -> str: ...


class News(NamedTuple):
    """What one tick found. `changed`: spaces with another count than before."""

    tick: int
    is_all: bool
    changed: set[str]
    spaces: set[str]
    deleted: set[str]


class Selection:
    """The spaces that some listeners asked for alike, and when they changed."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.listeners: set[Listener] = set()
        # Its listeners by client, and the spaces that count against the client's quota.
        self.clients: Counter[str | None] = Counter()
        self.booked: dict[str | None, int] = {}
        # Whether its spaces are known; and whether all of them were counted, so that streams can begin.
        self.is_loaded = False
        self.is_ready = False
        # Whether it was refused when its spaces were read again: who comes now hears why.
        self.is_gone = False
        # By space, the tick in which its count changed last; the longest unchanged first.
        self.changed: dict[str, int] = {}
        # By event and subject, so that the newest wins.
        self.events: dict[tuple[str, str], LiveEvent] = {}
        # By the tick up to which something was sent, what came since, and the event id with which that ends.
        self.batches: dict[int, tuple[bytes, str]] = {}

    def size(self) -> int | None:
        """How many spaces it has; None where nobody knows yet."""
        if self.subscription.spaces is not None:
            return len(self.subscription.spaces)
        return len(self.changed) if self.is_loaded else None

    def indexed(self) -> Collection[str]:
        """The spaces whose news concern it. One that is named and was deleted may come back."""
        return self.subscription.spaces if self.subscription.spaces is not None else self.changed.keys()

    def is_whole(self) -> bool:
        """Whether a stream can begin with what is known: all is counted, and nothing of what was asked for is gone."""
        names = self.subscription.spaces
        return self.is_ready and not self.is_gone and (names is None or len(self.changed) == len(names))

    def load(self, spaces: list[str], tick: int) -> None:
        self.changed = dict.fromkeys(spaces, tick)
        self.is_loaded = True

    def add_space_event(self, space: str, deleted: bool, tick: int) -> None:
        """Sends that something about the space itself changed."""
        self._add_event(("space", space), space_event(space, deleted), tick)

    def _add_event(self, key: tuple[str, str], encoded: bytes, tick: int) -> None:
        now = time.monotonic()
        while self.events and (oldest := next(iter(self.events.items())))[1].added_at < now - EVENT_SECONDS:
            del self.events[oldest[0]]
        self.events.pop(key, None)
        self.events[key] = LiveEvent(tick, now, encoded)

    def dpu_events(self, flipped: Iterable[FlippedRow]) -> dict[str, bytes]:
        """By DPU, the events of those at doorways of this selection's spaces, or of spaces below them."""
        found = {}
        token = self.subscription.token
        for row in flipped:
            if self.subscription != EVERYTHING and self.changed.keys().isdisjoint(row.spaces):
                continue
            if token is None:
                found[row.dpu] = dpu_event(row, row.mounted_in if row.mounted_in is not None else row.other_side)
            elif token in row.seen_by:  # which of its sides a limited token sees is decided there
                place = row.seen_by.index(token)
                found[row.dpu] = dpu_event(row, row.seen_at[place], row.seen_from[place])
        return found

    def pass_on(
        self,
        news: News,
        touched: set[str],
        loaded: list[str] | Problem | None,
        flipped: Sequence[FlippedRow],
        is_counted: Callable[[str], bool],
    ) -> bool:
        """Takes in what a tick found; whether that is anything to its listeners. `touched`: those that are named in the
        news and may be its own. `loaded`: its spaces, where they were read again. `is_counted`: whether the
        count of a space is known, or will be."""
        if self._is_refused(loaded):
            # Let them ask again, and hear why.
            for listener in self.listeners:
                listener.end()
        if news.is_all:  # who joins just now gets no such event: what it lists afterwards is as new
            self._add_event(("list", ""), list_event("stalled"), news.tick)
        if loaded is None:
            lost = {space for space in touched if space in news.deleted and space in self.changed}
            members = {space for space in touched if space in self.changed or space in news.spaces} - lost
        else:
            members = set() if isinstance(loaded, Problem) else set(loaded)
        if self.is_ready:  # what could not be counted was deleted since, and the next tick says so
            members = set(filter(is_counted, members))
        if loaded is not None:
            lost = self.changed.keys() - members
        for space in lost:
            del self.changed[space]
            self.add_space_event(space, deleted=True, tick=news.tick)
        updated = members & news.spaces
        for space in updated:
            self.add_space_event(space, deleted=False, tick=news.tick)
        moved = (members & news.changed) | (members - self.changed.keys())
        for space in moved:
            self.changed.pop(space, None)
            self.changed[space] = news.tick
        flips = self.dpu_events(flipped)
        for dpu, encoded in flips.items():
            self._add_event(("dpu", dpu), encoded, news.tick)
        return bool(news.is_all or lost or updated or moved or flips)

    def follows_tree(self) -> bool:
        """Whether its spaces may be others when something is made, moved or retired."""
        return self.subscription.spaces is None or self.subscription.token is not None

    def _is_refused(self, loaded: list[str] | Problem | None) -> bool:
        """Whether there is nothing more to send: a limited token reaches nothing any more, or not what was asked for.
        It must not look as if the spaces were gone."""
        return self.subscription.token is not None and (isinstance(loaded, Problem) or loaded == [])

    def batch(self, tick: int, cursor: str, feed: Feed) -> tuple[bytes, str]:
        """All that happened after `tick`, whose event id is given, and the event id with which that ends. Listeners
        that are as far share these bytes."""
        if tick not in self.batches:
            feed.batched.add(self)
            events = [event.encoded for event in self.events.values() if event.tick > tick]
            spaces = takewhile(lambda space: self.changed[space] > tick, reversed(self.changed))
            counts = [feed.frames[space].encoded for space in spaces if space in feed.frames]
            new = feed.get_cursor(self)
            self.batches[tick] = batch([*events, *reversed(counts)], cursor, new), new
        return self.batches[tick]
