"""Requests with events that share a transaction, without a database."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.database.pool import Client
from headcount.ingest.formats import EventBatch, Refusal
from headcount.ingest.parts import STORED_IN_PART, SUSPECT_IN_PART
from headcount.ingest.writer import DAYS_AT_ONCE, GROUP_EVENTS, Writer
from headcount.settings import Settings
from headcount.wire.messages.events import EventsRecordedOut, Rejection, Verdict
from headcount.wire.problems import Problem
from tests.together.test_groups import turns

NOW = datetime.now(UTC)
SETTINGS = Settings(auth="off")


class Store:
    """Stands in for api.record_events: an event is told apart by its DPU alone. Some DPUs fail the statement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, poison: Sequence[str] = ()) -> None:
        self.poison = poison
        self.full: str | None = None
        self.why = "unavailable"
        self.seen: set[str] = set()
        self.groups: list[list[str]] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        monkeypatch.setattr(calls, "record_events", self.record)

    async def record(self, _session: object, dpus: Sequence[str], **_columns: object) -> list[Verdict]:
        self.groups.append(list(dpus))
        await self.may_commit.wait()
        if any(dpu in self.poison for dpu in dpus):
            raise ValueError("poison")
        if self.full in dpus:
            raise Problem(self.why, "Nothing was stored; try again.")
        verdicts = []
        for index, dpu in enumerate(dpus):
            if dpu.startswith("future"):
                verdicts.append(Verdict(index, "in_future", "It is ahead."))
            elif dpu in self.seen:
                verdicts.append(Verdict(index, "duplicate", ""))
            self.seen.add(dpu)
        return verdicts


def make_writer(settings: Settings = SETTINGS) -> Writer:
    found: Writer = create_app(settings).services.writer
    return found


def batch(
    *dpus: str, time: datetime = NOW, refusals: Sequence[Refusal] = (), indexes: Sequence[int] | None = None
) -> EventBatch:
    count = len(dpus)
    return EventBatch(dpus, [time] * count, [1] * count, [0] * count, indexes, refusals)


def accepted(count: int = 1) -> EventsRecordedOut:
    return EventsRecordedOut(count, count, 0, [])


async def record(writer: Writer, *batches: EventBatch) -> list[EventsRecordedOut | BaseException]:
    return await asyncio.gather(*(writer.record(writer.database, batch) for batch in batches), return_exceptions=True)


async def test_requests_that_arrive_together_share_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    assert await record(make_writer(), batch("a", "b"), batch("c"), batch()) == [accepted(2), accepted(), accepted(0)]
    assert store.groups == [["a", "b", "c"]]


async def test_each_is_told_of_its_own_events_by_their_own_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    Store(monkeypatch)
    refusal = Refusal(1, "`dpu` is missing.", "{}")
    answers = await record(
        make_writer(),
        batch("a", "future-1"),
        batch("b", "future-2", refusals=[refusal], indexes=[0, 2]),
        batch("c"),
        batch("future-3", "d"),
    )
    ahead = "It is ahead."
    assert answers == [
        EventsRecordedOut(2, 1, 0, [Rejection(1, "in_future", ahead)]),
        EventsRecordedOut(3, 1, 0, [Rejection(1, "invalid", "`dpu` is missing."), Rejection(2, "in_future", ahead)]),
        accepted(),
        EventsRecordedOut(2, 1, 0, [Rejection(0, "in_future", ahead)]),
    ]


async def test_what_a_neighbour_sent_first_is_a_duplicate_of_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Store(monkeypatch)
    answers = await record(make_writer(), batch("a"), batch("a"), batch("b", "a"))
    assert answers == [accepted(), EventsRecordedOut(1, 0, 1, []), EventsRecordedOut(2, 1, 1, [])]


async def test_what_is_of_many_days_is_stored_in_parts_the_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of its DPUs are not locked for long."""
    store = Store(monkeypatch)
    days = [3, 24, *range(25), 24]
    names = [*(f"{day}-{place}" for place, day in enumerate(days[:-1])), f"24-{days.index(24)}"]
    names[0] = "future-3"
    sent = EventBatch(
        names,
        [NOW - timedelta(days=day) for day in days],
        [1] * len(days),
        [0] * len(days),
        [place + 1 for place in range(len(days))],
        [Refusal(0, "`dpu` is missing.", "{}")],
    )
    for are_stored in (False, True):
        [answer] = await record(make_writer(), sent)
        assert isinstance(answer, EventsRecordedOut)
        assert (answer.received, answer.accepted, answer.duplicates) == (29, *((0, 27) if are_stored else (26, 1)))
        assert [item.index for item in answer.rejected] == [0, 1]
    groups = [{days[names.index(name)] for name in group} for group in store.groups]
    assert groups == [set(range(10)), set(range(10, 20)), set(range(20, 25))] * 2


@pytest.mark.parametrize("time", [NOW, NOW - timedelta(days=2)])
async def test_not_very_much_is_stored_at_once(monkeypatch: pytest.MonkeyPatch, time: datetime) -> None:
    """The rows of its DPUs are locked to the end, and others report them, too."""
    store = Store(monkeypatch)
    names = [f"d{number}" for number in range(2_500)]
    assert await record(make_writer(), batch(*names, time=time)) == [accepted(2_500)]
    assert [len(group) for group in store.groups] == [1_000, 1_000, 500]
    assert [name for group in store.groups for name in group] == names
    assert await record(make_writer(), batch(*names, time=time)) == [EventsRecordedOut(2_500, 0, 2_500, [])]


async def test_what_is_ahead_of_the_clock_is_stored_first_and_all_of_one_instant_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that nothing is stored where it makes the clock suspect, and the first of two that contradict stands."""
    store = Store(monkeypatch)
    instants = [NOW - timedelta(milliseconds=number // 2) for number in range(2_500)]
    latest = [NOW + timedelta(minutes=10), NOW + timedelta(days=1), NOW + timedelta(minutes=10)]
    names = [*(f"d{number}" for number in range(2_500)), "future-1", "future-2", "future-3"]
    sent = EventBatch(names, [*instants[::-1], *latest], [1] * 2_503, [0] * 2_503, range(1, 2_504))
    [answer] = await record(make_writer(), sent)
    assert isinstance(answer, EventsRecordedOut)
    assert (answer.accepted, [item.index for item in answer.rejected]) == (2_500, [2_501, 2_502, 2_503])
    assert [len(group) for group in store.groups] == [1_000, 1_000, 503]
    # the oldest of them is one of two of one instant
    assert store.groups[0] == ["d1502", *names[1_504:]]
    stored = [name for group in store.groups for name in group]
    for first, second in zip(names[:2_500:2], names[1:2_500:2], strict=True):
        assert stored.index(first) < stored.index(second)


async def test_what_is_backfilled_stays_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no clock suspect."""
    store, writer = Store(monkeypatch), make_writer()
    names = [f"d{number}" for number in range(1_500)]
    times = [NOW + timedelta(hours=1, milliseconds=number) for number in range(1_500)]
    await writer.record(writer.database, EventBatch(names, times, [1] * 1_500, [0] * 1_500), backfill=True)
    assert store.groups == [names[:1_000], names[1_000:]]


async def test_a_clock_that_a_later_part_makes_suspect_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than what else is to be tried again, and somebody has to look at it."""
    store = Store(monkeypatch)
    store.full, store.why = "d1100", "clock_suspect"
    names = [f"d{number}" for number in range(1_500)]
    [answer] = await record(make_writer(), batch(*names))
    assert isinstance(answer, Problem)
    assert (answer.kind.code, answer.detail, answer.headers) == (
        "clock_suspect",
        SUSPECT_IN_PART,
        {"Retry-After": "10"},
    )
    assert store.seen == set(names[:1_000])


async def test_where_a_part_fails_it_is_told_that_others_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    store.full = "12"
    [answer] = await record(
        make_writer(),
        EventBatch(
            [f"{day}" for day in range(25)], [NOW - timedelta(days=day) for day in range(25)], [1] * 25, [0] * 25
        ),
    )
    assert isinstance(answer, Problem)
    assert (answer.kind.status, answer.detail) == (503, STORED_IN_PART)
    assert store.seen == {f"{day}" for day in range(10)}


async def test_events_of_one_instant_stay_in_one_part_however_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    midnight = datetime(2024, 5, 5, 22, 30, tzinfo=UTC)
    times = [midnight, midnight.astimezone(timezone(timedelta(hours=2)))]
    times += [midnight + timedelta(days=day + 1) for day in range(10)]
    [answer] = await record(make_writer(), EventBatch(["d"] * 2 + ["e"] * 10, times, [1] * 12, [0] * 12))
    assert isinstance(answer, EventsRecordedOut)
    assert store.groups == [["e"] * 10, ["d"] * 2]


async def test_late_requests_of_many_days_make_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    writer = make_writer()
    late = [
        EventBatch(
            [f"d{number}-{day}" for day in range(10)],
            [NOW - timedelta(days=10 * number + day + 2) for day in range(10)],
            [1] * 10,
            [0] * 10,
        )
        for number in range(20)
    ]
    assert await record(writer, *late) == [accepted(10)] * 20
    assert max(map(len, store.groups)) <= 60


async def test_a_poisoned_request_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch, poison=["bad"])
    answers = await record(make_writer(), *(batch(name) for name in ("a", "b", "bad", "c", "d")))
    assert isinstance(answers.pop(2), ValueError)
    assert answers == [accepted()] * 4
    assert store.seen == {"a", "b", "c", "d"}


async def test_nobody_is_answered_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    asked = asyncio.create_task(writer.record(writer.database, batch("a")))
    await turns(20)
    assert store.groups == [["a"]]
    assert not asked.done()
    store.may_commit.set()
    assert await asked == accepted()


async def test_late_and_large_requests_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    large = [f"large-{number}" for number in range(GROUP_EVENTS)]
    asked = asyncio.create_task(
        record(make_writer(), batch("late-1", time=NOW - timedelta(days=2)), batch("a"), batch(*large), batch("b"))
    )
    await turns(20)
    assert sorted(store.groups, key=len) == [["late-1"], ["a", "b"], large]
    store.may_commit.set()
    assert await asked == [accepted(), accepted(), accepted(GROUP_EVENTS), accepted()]


@pytest.mark.parametrize("backfill", [False, True])
async def test_small_requests_of_many_days_are_not_gathered_in_one_transaction(
    monkeypatch: pytest.MonkeyPatch, backfill: bool
) -> None:
    """It would hold the rows of its DPUs as long as one request of all these days."""
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    older = [NOW - timedelta(days=2 + number) for number in range(48)]
    sent = [batch(f"{number}", time=time) for number, time in enumerate(older[:16])]
    sent += [
        EventBatch(
            [f"{first}", f"{first + 1}", f"{first + 2}", f"{first + 3}"], older[first : first + 4], [1] * 4, [0] * 4
        )
        for first in range(16, 48, 4)
    ]
    asked = [asyncio.create_task(writer.record(writer.database, one, backfill=backfill)) for one in sent]
    await turns()
    store.may_commit.set()
    assert await asyncio.gather(*asked) == [accepted(len(one.times)) for one in sent]
    days = [len({older[int(name)].date() for name in group}) for group in store.groups]
    assert sum(days) == 48
    assert max(days) <= DAYS_AT_ONCE


async def test_what_is_ahead_of_the_clock_goes_by_itself_whatever_else_is_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(monkeypatch)
    both = EventBatch(["old", "ahead"], [NOW - timedelta(days=2), NOW + timedelta(days=2)], [1, 1], [0, 0])
    await record(
        make_writer(), batch("a"), batch("future-1", time=NOW + timedelta(days=1)), batch("b"), both, batch("c")
    )
    assert sorted(store.groups) == [["a", "b", "c"], ["future-1", "old", "ahead"]]


async def test_one_client_that_sends_much_is_not_before_the_others_with_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    greedy, other = Client(writer.database, "greedy"), Client(writer.database, "other")
    asked = [asyncio.create_task(writer.record(greedy, batch(*[f"greedy-{n}"] * 999))) for n in range(20)]
    await turns()
    asked.append(asyncio.create_task(writer.record(other, batch("other"))))
    await turns()
    store.may_commit.set()
    await asyncio.gather(*asked)
    assert [set(group) for group in store.groups[:2]] == [{"greedy-0"}, {"greedy-1", "other"}]


async def test_large_requests_of_one_client_leave_turns_to_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    greedy, other = Client(writer.database, "greedy"), Client(writer.database, "other")
    asked = [
        asyncio.create_task(writer.record(client, batch(*[name] * GROUP_EVENTS)))
        for client, name in ((greedy, "1"), (greedy, "2"), (greedy, "3"), (greedy, "4"), (other, "5"))
    ]
    await turns(20)
    assert [group[0] for group in store.groups] == ["1", "2", "5"]
    store.may_commit.set()
    await asyncio.gather(*asked)
    assert len(store.groups) == 5
    assert not writer.large_of.clients


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        (msgspec.structs.replace(SETTINGS, max_waiting_events=3), batch("a", "b", "c")),
        (
            msgspec.structs.replace(SETTINGS, max_waiting_bytes=1_000),
            batch(refusals=[Refusal(0, "Each event must be an object.", "x" * 1_000)]),
        ),
    ],
    ids=["events", "bytes"],
)
async def test_more_than_it_can_hold_is_refused_at_once_and_taken_again_afterwards(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, held: EventBatch
) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer(settings)
    asked = asyncio.create_task(writer.record(writer.database, held))
    await turns()
    with pytest.raises(Problem) as refused:
        writer.intake.check()
    assert refused.value.kind.status == 503
    assert refused.value.headers["Retry-After"]
    with pytest.raises(Problem):
        await writer.record(writer.database, batch("d"))
    store.may_commit.set()
    await asked
    assert await writer.record(writer.database, batch("d")) == accepted()
    assert (writer.intake.items, writer.intake.bytes) == (0, 0)


async def test_a_costly_client_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events go by themselves, beside those of all others."""
    store = Store(monkeypatch)
    writer = make_writer()
    costly, other = Client(writer.database, "costly"), Client(writer.database, "other")
    writer.fresh.costly.note(["costly"])
    store.may_commit.clear()
    asked = [asyncio.create_task(writer.record(costly, batch(f"c{number}"))) for number in range(3)]
    asked += [asyncio.create_task(writer.record(other, batch(f"o{number}"))) for number in range(3)]
    await turns(20)
    assert sorted(store.groups) == [["c0"], ["c1"], ["o0", "o1", "o2"]]
    store.may_commit.set()
    assert await asyncio.gather(*asked) == [accepted()] * 6


async def test_the_last_eighth_of_the_room_is_for_clients_with_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients could fill all of it with a half each, and whoever makes tokens can be many clients."""
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer(msgspec.structs.replace(SETTINGS, max_waiting_events=800))
    large, small = batch(*(f"l{number}" for number in range(350))), batch("small")
    asked = [
        asyncio.create_task(writer.record(Client(writer.database, client), large)) for client in ("greedy", "greedier")
    ]
    await turns()
    with pytest.raises(Problem, match="wait for the database") as caught:
        await writer.record(Client(writer.database, "more"), batch(*(f"m{number}" for number in range(101))))
    assert caught.value.kind.status == 503
    with pytest.raises(Problem, match="wait"):
        await writer.record(Client(writer.database, "greedy"), small)
    asked.append(asyncio.create_task(writer.record(Client(writer.database, "other"), small)))
    await turns()
    store.may_commit.set()
    assert [answer.accepted for answer in await asyncio.gather(*asked)] == [350, 0, 1]


async def test_what_was_accepted_before_a_stop_is_committed_and_what_comes_later_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    asked = [asyncio.create_task(writer.record(writer.database, batch("a")))]
    await turns()
    asked.append(asyncio.create_task(writer.record(writer.database, batch("b"))))  # waits for the commit of the other
    await turns()
    stopping = asyncio.create_task(writer.intake.close())
    await turns()
    assert not stopping.done()
    with pytest.raises(Problem, match="stopping"):
        await writer.record(writer.database, batch("c"))
    store.may_commit.set()
    await stopping
    assert [await task for task in asked] == [accepted(), accepted()]
    assert store.seen == {"a", "b"}


async def test_a_stop_does_not_wait_for_ever_for_a_database_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer(msgspec.structs.replace(SETTINGS, statement_seconds=0.05))
    asked = asyncio.create_task(writer.record(writer.database, batch("a")))
    await turns()
    async with asyncio.timeout(30):
        await writer.intake.close()
    assert not asked.done()
    store.may_commit.set()
    await asked


async def test_a_client_that_goes_away_during_the_commit_takes_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(monkeypatch)
    store.may_commit.clear()
    writer = make_writer()
    gone, stays = (asyncio.create_task(writer.record(writer.database, batch(name))) for name in "ab")
    await turns()
    gone.cancel()
    await turns()
    store.may_commit.set()
    assert await stays == accepted()
    assert (writer.intake.items, writer.intake.bytes, writer.intake.is_idle.is_set()) == (0, 0, True)
