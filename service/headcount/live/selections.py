"""What listeners asked for alike: which spaces these are, and what changed in each tick."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headcount.live.events import Frame, LiveEvent, batch, dpu_event, list_event, space_event
from headcount.wire.messages.counts import ChangesRow, FlippedRow
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
    """Where counts stand, encoded, up to which cursor."""

    frames: dict[str, Frame]
    cursor: str


class Selection:
    """The spaces that some listeners asked for alike, and when they changed."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.listeners: set[Listener] = set()
        # By space, the tick in which its count changed last; the longest unchanged first.
        self.changed: dict[str, int] = {}
        # By event and subject, so that the newest wins.
        self.events: dict[tuple[str, str], LiveEvent] = {}
        self.batches: dict[int, bytes] = {}

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
                found[row.dpu] = dpu_event(row, row.seen_at[row.seen_by.index(token)])
        return found

    def pass_on(
        self,
        changed: set[str],
        changes: ChangesRow,
        loaded: list[str] | Problem | None,
        flipped: Sequence[FlippedRow],
        tick: int,
    ) -> bool:
        """Takes in what a tick found; whether that is anything to its listeners. `loaded`: its spaces, where they were
        read again."""
        self.batches.clear()
        if self._is_refused(loaded):
            # Let them ask again, and hear why.
            for listener in self.listeners:
                listener.end()
        if changes.is_all:  # who joins just now gets no such event: what it lists afterwards is as new
            self._add_event(("list", ""), list_event("stalled"), tick)
        if loaded is None and not (changed or changes.spaces or changes.deleted or flipped):
            return False
        members = self.members(changes) if loaded is None else set() if isinstance(loaded, Problem) else set(loaded)
        lost = self.changed.keys() - members
        for space in lost:
            del self.changed[space]
            self.add_space_event(space, deleted=True, tick=tick)
        updated = members.intersection(changes.spaces)
        for space in updated:
            self.add_space_event(space, deleted=False, tick=tick)
        moved = (members & changed) | (members - self.changed.keys())
        for space in moved:
            self.changed.pop(space, None)
            self.changed[space] = tick
        flips = self.dpu_events(flipped)
        for dpu, encoded in flips.items():
            self._add_event(("dpu", dpu), encoded, tick)
        return bool(changes.is_all or lost or updated or moved or flips)

    def members(self, changes: ChangesRow) -> set[str]:
        """Its spaces after a change, where that is known without asking the database."""
        return (self.changed.keys() - changes.deleted) | self.changed_by_name(changes)

    def changed_by_name(self, changes: ChangesRow) -> set[str]:
        """Spaces asked for by name that changed themselves, whether they were there before or not."""
        return set(self.subscription.spaces or ()).intersection(changes.spaces) if changes.spaces else set()

    def follows_tree(self) -> bool:
        """Whether its spaces may be others when something is made, moved or retired."""
        return self.subscription.spaces is None or self.subscription.token is not None

    def _is_refused(self, loaded: list[str] | Problem | None) -> bool:
        """Whether there is nothing more to send: one of several spaces is gone, so none was counted; or a limited
        token reaches nothing any more, or not what was asked for. It must not look as if the spaces were gone."""
        is_limited = self.subscription.token is not None
        if isinstance(loaded, Problem):
            return is_limited or self.subscription.spaces is not None
        return is_limited and loaded == []

    def batch(self, tick: int, cursor: str, feed: Feed) -> bytes:
        """All that happened after `tick`, whose cursor is given. Listeners that are as far share these bytes."""
        if tick not in self.batches:
            events = [event.encoded for event in self.events.values() if event.tick > tick]
            spaces = takewhile(lambda space: self.changed[space] > tick, reversed(self.changed))
            counts = [feed.frames[space].encoded for space in spaces]
            self.batches[tick] = batch([*events, *reversed(counts)], cursor, feed.cursor)
        return self.batches[tick]
