"""The cost of a question does not grow with the age of the history: which chunks each hot statement plans to read."""

from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.conftest import Scene
from tests.factories import LONG_AGO, NOON, apply_site, record

pytestmark = pytest.mark.slow

DAYS = 200
FIRST = NOON - timedelta(days=DAYS - 1)

# A chunk that is part of a plan is locked until the transaction ends; one that was excluded is not.
LOCKED = """
select coalesce(a.view_name, h.table_name) as owner
from pg_locks l
join pg_class r on r.oid = l.relation
join timescaledb_information.chunks c on c.chunk_name = r.relname
join _timescaledb_catalog.hypertable h on h.table_name = c.hypertable_name
left join timescaledb_information.continuous_aggregates a on a.materialization_hypertable_name = c.hypertable_name
-- the embedded database has one process, 0
where coalesce(l.pid, 0) = pg_backend_pid() and l.locktype = 'relation'
group by 1, c.chunk_name
"""


async def count_chunks(connection: asyncpg.Connection, statement: str, *arguments: object) -> dict[str, int]:
    """How many chunks of each hypertable or rollup a statement locks."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.fetch(statement, *arguments)
        return dict(Counter(row["owner"] for row in await connection.fetch(LOCKED)))
    finally:
        await transaction.rollback()


@pytest_asyncio.fixture
async def old_house(connection: asyncpg.Connection, scene: Scene) -> asyncpg.Connection:
    """Months of one door: `house` was never reset, `shop` is every day at 04:00; all of it is rolled up."""
    if await scene.is_there(("old_house",)):
        return connection
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "shop", "parent": "house", "reset_at": "04:00"}],
        doorways=[{"id": "door", "sides": [None, "shop"]}],
        dpus=[{"id": "door"}],
        placements=[{"dpu": "door", "doorway": "door", "mounted_in": "shop", "from": LONG_AGO.isoformat()}],
    )
    events = [("door", FIRST + number * timedelta(days=1), 1) for number in range(DAYS)]
    await record(connection, events)
    await connection.execute("call core.refresh_rollups()")
    await connection.execute("analyze")
    await scene.note("old_house")
    return connection


QUESTIONS: list[tuple[str, tuple[Any, ...], dict[str, int]]] = [
    ("select * from api.get_count('house')", (), {}),
    ("select * from api.get_count('shop')", (), {}),
    ("select * from api.list_counts()", (), {}),
    # a day of events; the rest is looked up
    (
        "select * from api.get_count('house', $1)",
        (NOON - timedelta(days=1, minutes=7),),
        {"event": 1},
    ),
    ("select * from api.get_count('shop', $1)", (FIRST + timedelta(minutes=7),), {"event": 1}),
    (
        "select * from api.list_counts(at => $1)",
        (FIRST + timedelta(days=9),),
        {"event": 1},
    ),
    # the day, and the one before in which the count began that it starts with
    (
        "select * from api.list_space_counts('shop', $1, $2, '15m')",
        (FIRST + timedelta(days=100), FIRST + timedelta(days=100, hours=6)),
        {"event": 1, "dpu_flow_15m_v1": 1},
    ),
    (
        "select * from api.list_space_counts('shop', $1, $2, '1h')",
        (FIRST + timedelta(days=100), FIRST + timedelta(days=130)),
        {"dpu_flow_15m_v1": 4},
    ),
    (
        "select * from api.list_events(dpu => 'door', from_at => $1, to_at => $2)",
        (FIRST, FIRST + timedelta(hours=6)),
        {"event": 1},
    ),
    (
        "select * from api.list_events(space => 'shop', from_at => $1, to_at => $2)",
        (FIRST + timedelta(days=150), FIRST + timedelta(days=150, hours=6)),
        {"event": 1},
    ),
    (
        "select * from api.list_readings('door', $1, $2)",
        (FIRST + timedelta(days=150), FIRST + timedelta(days=150, hours=6)),
        {"event": 1},
    ),
    (
        "select * from api.record_events(array['door'], array[$1::timestamptz], array[1], array[1::smallint])",
        (FIRST + timedelta(days=100, minutes=1),),
        {"event": 1},
    ),
    (
        "select * from bi.space_counts_15m where space = 'shop' and bucket >= $1 and bucket < $2",
        (FIRST + timedelta(days=150), FIRST + timedelta(days=150, hours=6)),
        {"event": 1, "dpu_flow_15m_v1": 3},
    ),
]


# The first, as it writes nothing: the next one has the house as it is.
async def test_a_statement_without_bounds_plans_them_all(old_house: asyncpg.Connection) -> None:
    chunks = await count_chunks(old_house, "select sum(direction) from core.event")
    assert chunks == {"event": DAYS}


async def test_hot_statements_plan_only_the_chunks_they_need(old_house: asyncpg.Connection) -> None:
    surplus = {}
    for statement, arguments, most in QUESTIONS:
        for _ in range(7):  # beyond the sixth call a plan could be a generic one
            chunks = await count_chunks(old_house, statement, *arguments)
        if more := {owner: count for owner, count in chunks.items() if count > most.get(owner, 0)}:
            surplus[statement] = more
    assert surplus == {}
