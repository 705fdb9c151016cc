"""A replay into compressed chunks loses nothing and counts nothing twice.

The regression that users of TimescaleDB report (timescaledb#7672): on a compressed chunk, `insert ... on conflict do
nothing` of several rows stored none of the rows behind the first one that was there already. Versions since then are
right again; what is held here is that the service's own way of storing and judging is right on whatever is installed.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import httpx
import pytest

from tests.properties.oracle import Event, World

FIRST_DAY = datetime(2024, 5, 6, tzinfo=UTC)
DAYS = 4
DPUS = ["p0", "p1", "p2"]

SITE = {
    "spaces": [{"id": "hall"}],
    "doorways": [{"id": "door", "sides": [None, "hall"]}],
    "dpus": [{"id": dpu} for dpu in DPUS],
    "placements": [
        {"dpu": dpu, "doorway": "door", "mounted_in": "hall", "from": "2024-01-01T00:00:00Z"} for dpu in DPUS
    ],
}


T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def stored_events() -> list[Event]:
    """Sixty events of each DPU on each of four days."""
    return [
        Event(dpu, FIRST_DAY + timedelta(days=day, minutes=7 * number), 1 if number % 3 else -1)
        for day in range(DAYS)
        for number in range(60)
        for dpu in DPUS
    ]


def late_events(day: int) -> list[Event]:
    """New ones between, before, at the instants of and behind the stored ones of a day."""
    start = FIRST_DAY + timedelta(days=day)
    return [
        Event("p0", start + timedelta(minutes=3), 1),
        Event("p1", start + timedelta(minutes=7), 2, sequence=1),
        Event("p1", start - timedelta(microseconds=1), 1),
        Event("p2", start + timedelta(hours=23), -1),
        Event("late", start + timedelta(minutes=7), 1),
    ]


class Replay:
    """The service with the oracle beside it."""

    def __init__(self, client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        self.client = client
        self.connection = connection
        self.world = World()
        self.world.put_space("hall", {})
        self.world.put_doorway("door", None, "hall")
        for dpu in DPUS:
            self.world.place(dpu, "door", "hall", datetime(2024, 1, 1, tzinfo=UTC))

    async def send(self, events: Sequence[Event]) -> None:
        verdicts = self.world.record(events, datetime.now(UTC))
        body = [
            {
                "dpu": event.dpu,
                "timestamp": event.time.isoformat(),
                "direction": event.direction,
                "sequence": event.sequence,
            }
            for event in events
        ]
        response = await self.client.post("/v1/events", json={"events": body})
        assert response.status_code == 200, response.text
        answer = response.json()
        rejected = [(refusal["index"], refusal["code"]) for refusal in answer["rejected"]]
        assert answer | {"rejected": rejected} == {
            "received": len(events),
            "accepted": verdicts.count("accepted"),
            "duplicates": verdicts.count("duplicate"),
            "rejected": [(index, verdict) for index, verdict in enumerate(verdicts) if verdict == "conflict"],
        }

    async def compress(self, days: Sequence[int]) -> None:
        for day in days:
            await self.connection.execute(
                """
                select compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, if_not_compressed => true)
                from timescaledb_information.chunks
                where hypertable_schema = 'core' and hypertable_name = 'event' and range_start = $1
                """,
                FIRST_DAY + timedelta(days=day),
            )
            assert await self.is_compressed(day)

    async def is_compressed(self, day: int) -> bool:
        return bool(
            await self.connection.fetchval(
                """
                select bool_and(is_compressed) from timescaledb_information.chunks
                where hypertable_schema = 'core' and hypertable_name = 'event' and range_start = $1
                """,
                FIRST_DAY + timedelta(days=day),
            )
        )

    async def check(self) -> None:
        """What is stored, and what is counted."""
        rows = await self.connection.fetch(
            "select d.id, e.time, e.direction, e.sequence from core.event e join core.dpu d on d.dpu_id = e.dpu_id"
        )
        assert sorted(tuple(row) for row in rows) == sorted(
            (event.dpu, event.time, event.direction, event.sequence) for event in self.world.events()
        )
        for hour in range(0, 24 * (DAYS + 1), 5):
            at = FIRST_DAY + timedelta(hours=hour)
            answer: Any = (await self.client.get("/v1/spaces/hall/count", params={"at": at.isoformat()})).json()
            assert answer["raw_count"] == self.world.raw_count("hall", at)


@pytest.fixture
async def replay(client: httpx.AsyncClient, connection: asyncpg.Connection) -> Replay:
    """Four days of events in four compressed chunks."""
    assert (await client.put("/v1/site", json=SITE)).status_code == 200
    replay = Replay(client, connection)
    await replay.send(stored_events())
    await replay.compress(range(DAYS))
    return replay


@pytest.mark.parametrize("size", [2, 60, 720])
@pytest.mark.parametrize("place", ["first", "in the middle", "last"])
async def test_it_stores_what_is_new_wherever_it_stands_in_a_replay(replay: Replay, place: str, size: int) -> None:
    events = stored_events()[: size - 1]
    position = {"first": 0, "in the middle": len(events) // 2, "last": len(events)}[place]
    await replay.send([*events[:position], Event("p1", FIRST_DAY + timedelta(minutes=1), 5), *events[position:]])
    await replay.check()


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
async def test_it_loses_nothing_of_a_shuffled_replay_in_batches(replay: Replay, size: int) -> None:
    generator = random.Random(size)
    events = stored_events()
    mixed = generator.sample(events, 150) if size == 1 else list(events)
    mixed += [late for day in range(DAYS) for late in late_events(day)]
    mixed += [Event(event.dpu, event.time, event.direction + 1) for event in generator.sample(events, 20)]
    mixed += generator.sample(mixed, 30)
    generator.shuffle(mixed)
    for batch in batches(mixed, size):
        await replay.send(batch)
    await replay.check()


async def test_it_loses_nothing_after_some_chunks_were_compressed_again(replay: Replay) -> None:
    events = stored_events()
    conflict = Event(events[-1].dpu, events[-1].time, 9)
    await replay.send([*late_events(0), *events, *late_events(2), conflict])
    await replay.compress([0, 1])
    later = [Event(late.dpu, late.time + timedelta(seconds=1), late.direction) for late in late_events(0)]
    await replay.send([conflict, *events, *late_events(0), *later, *late_events(1), *late_events(2), *late_events(3)])
    await replay.compress(range(DAYS))
    await replay.send([*reversed(events), *later, *late_events(3), conflict])
    await replay.check()


async def test_it_may_touch_more_rows_than_timescaledb_decompresses_by_default(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    limit = int(await connection.fetchval("show timescaledb.max_tuples_decompressed_per_dml_transaction"))
    per_dpu = 1000
    dpus = [f"q{number}" for number in range(limit // per_dpu + 5)]
    for some in batches(dpus, 10):
        await connection.execute(
            """
            select api.record_events(
              dpus => array_agg(d), times => array_agg(timestamptz '2024-05-06 UTC' + i * interval '1 minute'),
              directions => array_agg(1), sequences => array_agg(0::smallint))
            from unnest($1::text[]) d, generate_series(1, $2::int) i
            """,
            some,
            per_dpu,
        )
    await connection.execute("select compress_chunk(chunk) from show_chunks('core.event') chunk")

    replayed = []
    for dpu in dpus:
        replayed += [
            {"dpu": dpu, "timestamp": "2024-05-06T08:00:00Z", "direction": 1},
            {"dpu": dpu, "timestamp": "2024-05-06T08:00:00.5Z", "direction": 1},
            {"dpu": dpu, "timestamp": "2024-05-06T08:01:00Z", "direction": 2},
        ]
    answer = (await client.post("/v1/events", json={"events": replayed})).json()
    assert (answer["accepted"], answer["duplicates"]) == (len(dpus), len(dpus))
    assert {refusal["code"] for refusal in answer["rejected"]} == {"conflict"}
    assert len(answer["rejected"]) == len(dpus)
    stored = await connection.fetchrow("select count(*), sum(direction) from core.event")
    assert stored is not None
    assert tuple(stored) == (len(dpus) * (per_dpu + 1), len(dpus) * (per_dpu + 1))
