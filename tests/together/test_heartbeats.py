"""Requests with heartbeats that share a transaction, without a database."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.ingest.heartbeats import GROUP_HEARTBEATS, HeartbeatBatch, Heartbeats
from headcount.settings import Settings
from headcount.wire.messages.events import EventsRecordedOut, Rejection
from headcount.wire.messages.sensors import HeartbeatIn, HeartbeatOut, HeartbeatRow
from headcount.wire.problems import Problem
from tests.together.test_groups import turns

NOW = datetime.now(UTC)


class Store:
    """Stands in for api.record_heartbeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[list[str]] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        monkeypatch.setattr(calls, "record_heartbeats", self.record)

    async def record(self, _session: object, dpus: Sequence[str], *_columns: object) -> list[HeartbeatRow]:
        self.groups.append(list(dpus))
        await self.may_commit.wait()
        if "poison" in dpus:
            raise ValueError("poison")
        if "busy" in dpus:
            raise Problem("unavailable", "The database is busy. Nothing was stored; try again.")
        verdicts = {"again": "duplicate", "future": "in_future", "unknown": "unknown_dpu"}
        return [HeartbeatRow(verdicts.get(dpu), "Why." if dpu in verdicts else None, dpu, NOW) for dpu in dpus]


def make_heartbeats(settings: Settings | None = None) -> Heartbeats:
    found: Heartbeats = create_app(settings or Settings(auth="off")).services.heartbeats
    return found


def batch(*dpus: str, refused: Sequence[Rejection] = (), indexes: Sequence[int] | None = None) -> HeartbeatBatch:
    return HeartbeatBatch([HeartbeatIn(dpu=dpu) for dpu in dpus], indexes or range(len(dpus)), refused)


async def test_what_arrives_together_shares_a_transaction_and_each_is_told_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, heartbeats = Store(monkeypatch), make_heartbeats()
    bad = Rejection(1, "invalid", "What?")
    answers = await asyncio.gather(
        heartbeats.record(heartbeats.database, batch("a", "again")),
        heartbeats.record_one(heartbeats.database, HeartbeatIn(dpu="b")),
        heartbeats.record(heartbeats.database, batch("future", "c", refused=[bad], indexes=[0, 2])),
        heartbeats.record(heartbeats.database, batch(refused=[bad])),
    )
    assert store.groups == [["a", "again", "b", "future", "c"]]
    assert list(answers) == [
        EventsRecordedOut(2, 1, 1, []),
        HeartbeatOut("b", NOW),
        EventsRecordedOut(3, 1, 0, [Rejection(0, "in_future", "Why."), bad]),
        EventsRecordedOut(1, 0, 0, [bad]),
    ]


async def test_a_single_one_is_told_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    Store(monkeypatch)
    heartbeats = make_heartbeats()
    for dpu, code in (("future", "invalid"), ("unknown", "not_found")):
        with pytest.raises(Problem, match="Why") as caught:
            await heartbeats.record_one(heartbeats.database, HeartbeatIn(dpu=dpu))
        assert caught.value.kind.code == code
    assert (await heartbeats.record_one(heartbeats.database, HeartbeatIn(dpu="again"))).last_seen == NOW


async def test_a_poisoned_one_fails_alone_and_large_ones_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store, heartbeats = Store(monkeypatch), make_heartbeats()
    many = batch(*(f"d{number}" for number in range(GROUP_HEARTBEATS)))
    answers = await asyncio.gather(
        *(heartbeats.record(heartbeats.database, one) for one in (batch("a"), batch("poison"), batch("b"), many)),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(1), ValueError)
    assert answers == [EventsRecordedOut(size, size, 0, []) for size in (1, 1, GROUP_HEARTBEATS)]
    assert sorted(map(len, store.groups))[-1] == GROUP_HEARTBEATS


async def test_too_many_are_refused_at_once_and_a_stop_commits_what_was_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, heartbeats = Store(monkeypatch), make_heartbeats(Settings(auth="off", max_waiting_events=2))
    store.may_commit.clear()
    asked = asyncio.create_task(heartbeats.record(heartbeats.database, batch("a", "b")))
    await turns()
    with pytest.raises(Problem, match="Too many") as caught:
        await heartbeats.record(heartbeats.database, batch("c"))
    assert caught.value.kind.status == 503
    stopping = asyncio.create_task(heartbeats.intake.close())
    await turns()
    assert not stopping.done()
    with pytest.raises(Problem, match="stopping"):
        await heartbeats.record_one(heartbeats.database, HeartbeatIn(dpu="c"))
    store.may_commit.set()
    await stopping
    assert await asked == EventsRecordedOut(2, 2, 0, [])
    assert heartbeats.intake.items == 0


async def test_many_are_stored_in_parts_and_answered_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction holds the rows of its DPUs, and who reports one of them waits."""
    store, heartbeats = Store(monkeypatch), make_heartbeats()
    names = [f"d{number}" for number in range(2 * GROUP_HEARTBEATS + 5)]
    names[GROUP_HEARTBEATS + 1], names[-1] = "future", "again"
    answer = await heartbeats.record(heartbeats.database, batch(*names))
    assert store.groups == [names[:1_000], names[1_000:2_000], names[2_000:]]
    received = len(names)
    assert answer == EventsRecordedOut(received, received - 2, 1, [Rejection(1_001, "in_future", "Why.")])


async def test_where_a_part_fails_it_is_told_that_others_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store, heartbeats = Store(monkeypatch), make_heartbeats()
    names = [*(f"d{number}" for number in range(GROUP_HEARTBEATS)), "busy"]
    with pytest.raises(Problem, match="part of the request") as caught:
        await heartbeats.record(heartbeats.database, batch(*names))
    assert caught.value.kind.status == 503
    assert store.groups == [names[:-1], ["busy"]]
    with pytest.raises(Problem, match="Nothing was stored"):
        await heartbeats.record(heartbeats.database, batch("busy"))
