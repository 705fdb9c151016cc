"""Heartbeats: decoded one by one where they have to be, and stored together with what else arrives just then."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import msgspec

from headcount.database import calls
from headcount.database.batching import Batcher
from headcount.database.pool import Client, Database, is_whole, name_of
from headcount.ingest.backpressure import Intake
from headcount.ingest.parts import told_in_part
from headcount.ingest.runs import find_runs
from headcount.metrics import Metrics
from headcount.settings import Settings
from headcount.wire.bodies import array_of, decode_bytes, first_items, inflate, parse_media_type
from headcount.wire.messages.events import EventsRecordedOut, Rejection
from headcount.wire.messages.sensors import HeartbeatIn, HeartbeatOut, HeartbeatRow
from headcount.wire.problems import Problem
from headcount.wire.shares import OwnTurns
from headcount.wire.threads import take_time

MAX_HEARTBEATS = 10_000
# As many as go together; more save nothing that could be measured, and a transaction holds the rows of its DPUs to the
# end. A request with more is stored in parts.
GROUP_HEARTBEATS = 1_000
# As many are decoded at once. That saves little of the time for each, so that they are not tried in smaller runs.
RUN = 64
# Transactions for requests that go alone, large ones and those of limited tokens, that run at a time.
LARGE_AT_A_TIME = 2
NAMES_ONE = "It must name its DPU by `dpu` or by `mac_address`, and not by both."


class HeartbeatsShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heartbeats: msgspec.Raw


class HeartbeatBatch(msgspec.Struct, frozen=True):
    """Decoded heartbeats; `indexes`: which of the request each was. `refused`: what could not be decoded."""

    heartbeats: Sequence[HeartbeatIn]
    indexes: Sequence[int]
    refused: Sequence[Rejection] = ()

    @property
    def received(self) -> int:
        return len(self.heartbeats) + len(self.refused)


def names_one(heartbeat: HeartbeatIn) -> bool:
    return (heartbeat.dpu is None) != (heartbeat.mac_address is None)


def check(heartbeat: HeartbeatIn) -> HeartbeatIn:
    """Raises Problem (422) unless it names one DPU in one way."""
    if not names_one(heartbeat):
        raise Problem("invalid", NAMES_ONE)
    return heartbeat


def decode_heartbeat_batch(body: bytes, format: str) -> HeartbeatBatch:
    """As many at once as are good; the others each by itself, so that a bad one costs no other."""
    parts = _parts(decode_bytes(body, HeartbeatsShape, format).heartbeats, format)
    if len(parts) > MAX_HEARTBEATS:
        raise Problem("too_large", f"A request can have {MAX_HEARTBEATS:,} heartbeats; send them in parts.")
    is_readable = True

    def attempt(begin: int, end: int) -> Sequence[HeartbeatIn] | None:
        nonlocal is_readable
        try:
            found = decode_bytes(array_of(parts[begin:end], format), list[HeartbeatIn], format, "heartbeats")
            if all(map(names_one, found)):
                return found
        except Problem as problem:
            if problem.kind.code != "invalid" and is_readable:
                raise
            is_readable = False
        take_time(len(body))
        return None

    heartbeats: list[HeartbeatIn] = []
    indexes: list[int] = []
    refused = []
    for begin, end, found in find_runs(len(parts), attempt, (RUN,)):
        if found is not None:
            heartbeats += found
            indexes += range(begin, end)
            continue
        for index in range(begin, end):
            try:
                heartbeats.append(check(decode_bytes(parts[index], HeartbeatIn, format)))
                indexes.append(index)
            except Problem as problem:
                refused.append(Rejection(index, "invalid", problem.detail))
    return HeartbeatBatch(heartbeats, indexes, refused)


def _parts(packed: msgspec.Raw, format: str) -> list[msgspec.Raw]:
    """Each by itself, and at most one more than there can be."""
    return first_items(packed, MAX_HEARTBEATS + 1, format, "heartbeats")


def decode_heartbeat_message(body: bytes, content_type: str, content_encoding: str, at: datetime) -> HeartbeatBatch:
    """The body of POST /v1/heartbeats where it comes by another way, or one heartbeat alone.

    `at`: the time of those that have none.
    """
    format = parse_media_type(content_type)
    body = inflate(body, content_encoding)
    try:
        found = HeartbeatBatch([check(decode_bytes(body, HeartbeatIn, format))], [0])
    except Problem as problem:
        if problem.kind.code != "invalid":
            raise
        found = decode_heartbeat_batch(body, format)
    timed = [
        heartbeat if heartbeat.timestamp else msgspec.structs.replace(heartbeat, timestamp=at)
        for heartbeat in found.heartbeats
    ]
    return HeartbeatBatch(timed, found.indexes, found.refused)


class SentHeartbeats(NamedTuple):
    """Heartbeats, and the id of the token that sent them."""

    heartbeats: Sequence[HeartbeatIn]
    sender: str | None


class Heartbeats:
    """Stores the heartbeats of requests, each answered for itself after its commit.

    Small requests are gathered while others are being committed; large ones, and those of sessions that are limited to
    a space, have a transaction of their own. What is held is bounded (`room`).
    """

    def __init__(self, database: Database, settings: Settings, metrics: Metrics) -> None:
        self.database = database
        self.settings = settings
        self.metrics = metrics
        # What is backfilled is no sign of life when it is received, so that it goes with nothing else.
        self.groups, self.backfilled = (
            Batcher(commit, callers=1, max_weight=GROUP_HEARTBEATS, weigh=lambda sent: len(sent.heartbeats))
            for commit in (self._commit, self._backfill)
        )
        self.large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self.large_of = OwnTurns(LARGE_AT_A_TIME // 2)
        self.intake = Intake(settings, "heartbeats")

    async def record(
        self, session: Database | Client, batch: HeartbeatBatch, sender: str | None = None, *, backfill: bool = False
    ) -> EventsRecordedOut:
        """What became of them, after the commit."""
        rows = await self._store(session, SentHeartbeats(batch.heartbeats, sender), backfill)
        rejected = [
            *batch.refused,
            *(
                Rejection(index, row.verdict, row.detail or "")
                for index, row in zip(batch.indexes, rows, strict=True)
                if row.verdict not in (None, "duplicate")
            ),
        ]
        rejected.sort(key=lambda rejection: rejection.index)
        duplicates = sum(row.verdict == "duplicate" for row in rows)
        return EventsRecordedOut(batch.received, batch.received - duplicates - len(rejected), duplicates, rejected)

    async def record_one(
        self, session: Database | Client, heartbeat: HeartbeatIn, sender: str | None = None
    ) -> HeartbeatOut:
        """Raises Problem: 404 for a DPU that is not registered, 422 for an impossible clock."""
        row = (await self._store(session, SentHeartbeats([check(heartbeat)], sender)))[0]
        if row.verdict not in (None, "duplicate"):
            raise Problem("not_found" if row.verdict == "unknown_dpu" else "invalid", row.detail or "")
        if row.dpu is None or row.last_seen is None:
            raise LookupError("a heartbeat without a DPU was accepted")
        return HeartbeatOut(row.dpu, row.last_seen)

    async def _store(
        self, session: Database | Client, sent: SentHeartbeats, backfill: bool = False
    ) -> Sequence[HeartbeatRow]:
        with self.intake.hold(len(sent.heartbeats), client=name_of(session)):
            if not sent.heartbeats:
                return []
            if len(sent.heartbeats) >= GROUP_HEARTBEATS or not is_whole(session):
                async with self.large_of.of(name_of(session)), self.large:
                    return await self._commit_parts(sent, session, backfill)
            return await (self.backfilled if backfill else self.groups).ask(sent, name_of(session))

    async def _commit_parts(
        self, sent: SentHeartbeats, session: Database | Client, backfill: bool
    ) -> Sequence[HeartbeatRow]:
        rows: list[HeartbeatRow] = []
        for begin in range(0, len(sent.heartbeats), GROUP_HEARTBEATS):
            part = SentHeartbeats(sent.heartbeats[begin : begin + GROUP_HEARTBEATS], sent.sender)
            with told_in_part(is_begun=bool(rows)):
                rows += (await self._commit([part], session, backfill))[0]
        return rows

    async def _commit(
        self, asked: Sequence[SentHeartbeats], session: Database | Client | None = None, backfill: bool = False
    ) -> list[Sequence[HeartbeatRow]]:
        sizes = [len(sent.heartbeats) for sent in asked]
        heartbeats = [*chain.from_iterable(sent.heartbeats for sent in asked)]
        rows = await calls.record_heartbeats(
            session or self.database,
            [heartbeat.dpu for heartbeat in heartbeats],
            [heartbeat.mac_address for heartbeat in heartbeats],
            [heartbeat.timestamp for heartbeat in heartbeats],
            self.settings.auto_register,
            [sent.sender for sent in asked],
            sizes,
            backfill,
        )
        self.metrics.note_heartbeats(len(asked), rows)
        bounds = accumulate(sizes, initial=0)
        return [rows[begin:end] for begin, end in pairwise(bounds)]

    async def _backfill(self, asked: Sequence[SentHeartbeats]) -> list[Sequence[HeartbeatRow]]:
        return await self._commit(asked, backfill=True)
