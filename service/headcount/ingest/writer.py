"""How events get into the database: requests that arrive together share a transaction, and nobody waits for long."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from headcount.database import calls
from headcount.database.batching import Batcher
from headcount.database.pool import Client, Database, is_whole, name_of
from headcount.ingest import formats, polls
from headcount.ingest.backpressure import Intake
from headcount.ingest.formats import Decoded, EventBatch
from headcount.ingest.parts import cut_by_days, told_in_part
from headcount.ingest.polls import PollBatch
from headcount.metrics import Metrics
from headcount.settings import Settings
from headcount.wire.messages.events import EventsRecordedOut
from headcount.wire.problems import problem_of
from headcount.wire.shares import OwnTurns

# More together save nothing that could be measured.
GROUP_EVENTS = 1_000
# A transaction holds the rows of its DPUs to the end, and each day costs time: others that report these DPUs wait. What
# has more days or more events is stored in parts. Small requests with older events share a transaction as well, of as
# many days at most: each day weighs as much as so many events.
DAYS_AT_ONCE = 10
EVENTS_AT_ONCE = GROUP_EVENTS
DAY_WEIGHT = GROUP_EVENTS // DAYS_AT_ONCE
# After a transaction for a few requests there is a pause as long as it took, and so long after it began at most the
# next one begins: each costs the database as much as many events, whatever is in it.
APART_SECONDS = 0.01
# Older ones may have to wait for a chunk that is being compressed, or make one: they are gathered by themselves.
LATE = timedelta(days=1)
# Such ones can make the clock suspect, which divides their group: they are gathered by themselves as well.
AHEAD = timedelta(minutes=4)
# Transactions for requests that go alone, large ones and those of limited tokens, that run at a time.
LARGE_AT_A_TIME = 4
# What an event takes, decoded.
EVENT_BYTES = 200


class Writer:
    """Stores the events of requests, each answered for itself after its commit.

    Small requests are gathered while others are being committed, and where a few come for as long again, up to 10 ms;
    large ones have a transaction of their own.
    What is held is bounded (`room`).
    """

    def __init__(self, database: Database, settings: Settings, metrics: Metrics) -> None:
        self.database = database
        self.settings = settings
        self.metrics = metrics
        # What is backfilled is no sign of life when it is received, so that it goes with nothing else.
        self.fresh, self.late, self.ahead, self.backfilled = (
            Batcher(commit, callers=callers, max_weight=GROUP_EVENTS, weigh=weigh, apart=APART_SECONDS)
            for commit, callers, weigh in (
                (self._commit, settings.writers, count_received),
                (self._commit, 1, weigh_days),
                (self._commit, 1, weigh_days),
                (self._backfill, 1, weigh_days),
            )
        )
        self.large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self.large_of = OwnTurns(LARGE_AT_A_TIME // 2)
        self.intake = Intake(settings, "events")

    async def record(
        self, session: Database | Client, batch: EventBatch, *, backfill: bool = False
    ) -> EventsRecordedOut:
        """Stores a batch, refusals included, and answers after the commit.

        A session that is limited to a space has a transaction of its own: others would reach only as far. Of a batch
        in parts those with the newest days come first, and where events are ahead of our clock those with the newest
        events. So what makes the clock suspect mostly fails it before anything is stored. It fails it later where the
        first part alone does not, or where only the clock of the database is slow (`told_in_part`).
        """
        with self.intake.hold(batch.received, held_bytes(batch), name_of(session)):
            if not batch.received:
                return EventsRecordedOut(0, 0, 0, [])
            group, client = self._group_of(batch, backfill), name_of(session)
            parts = cut_by_days(batch, DAYS_AT_ONCE, EVENTS_AT_ONCE, newest_first=group is self.ahead)
            is_small = len(parts) == 1 and batch.received < GROUP_EVENTS
            if is_small and is_whole(session) and not group.is_costly(client):
                return await group.ask(batch, client)
            async with self.large_of.of(client), self.large:
                return await self._commit_parts(parts, session, backfill)

    async def _commit_parts(
        self, parts: Sequence[EventBatch], session: Database | Client, backfill: bool
    ) -> EventsRecordedOut:
        answers: list[EventsRecordedOut] = []
        for part in parts:
            with told_in_part(is_begun=bool(answers)):
                answers += await self._commit([part], session, backfill)
        return formats.joined_answers(answers)

    def _group_of(self, batch: EventBatch, backfill: bool) -> Batcher[EventBatch, EventsRecordedOut]:
        if backfill:
            return self.backfilled
        return self.ahead if is_ahead(batch) else self.late if is_late(batch) else self.fresh

    async def record_polls(self, session: Database | Client, batch: PollBatch) -> EventsRecordedOut:
        """The same for polls. They come by the hour, so each request has a transaction of its own. A request of many
        polls or days has several: the floor plan cannot change before a transaction ends, and each week is a chunk."""
        with self.intake.hold(batch.received, held_bytes(batch), name_of(session)):
            async with self.large_of.of(name_of(session)), self.large:
                answers: list[EventsRecordedOut] = []
                for part in cut_by_days(batch, DAYS_AT_ONCE, EVENTS_AT_ONCE):
                    with told_in_part(is_begun=bool(answers)):
                        answers.append(await polls.record(session, part, self.settings.auto_register))
                return formats.joined_answers(answers)

    async def _commit(
        self, batches: Sequence[EventBatch], session: Database | Client | None = None, backfill: bool = False
    ) -> list[EventsRecordedOut]:
        session = session or self.database
        try:
            recorded = await formats.record_all(session, batches, self.settings.auto_register, backfill)
        except asyncpg.PostgresError as error:
            # What failed for our clock could leave no trace of that itself. A group is divided first.
            if len(batches) == 1 and problem_of(error).kind.code == "clock_suspect":
                await calls.note_ahead(session, batches[0].dpus, batches[0].times)
            raise
        self.metrics.note_events(batches, recorded)
        return recorded

    async def _backfill(self, batches: Sequence[EventBatch]) -> list[EventsRecordedOut]:
        return await self._commit(batches, backfill=True)


def held_bytes(batch: Decoded) -> int:
    """About how much memory a batch takes."""
    return batch.size * EVENT_BYTES + sum(sys.getsizeof(refusal.body) for refusal in batch.refusals)


def count_received(batch: EventBatch) -> int:
    return batch.received


def weigh_days(batch: EventBatch) -> int:
    return max(batch.received, DAY_WEIGHT * len({formats.day_of(time) for time in batch.times}))


def is_late(batch: EventBatch) -> bool:
    return bool(batch.times) and min(batch.times) < datetime.now(UTC) - LATE


def is_ahead(batch: EventBatch) -> bool:
    return bool(batch.times) and max(batch.times) > datetime.now(UTC) + AHEAD
