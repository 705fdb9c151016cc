"""What a running database does to its rollups in between: refreshes them, is late with that, compresses chunks."""

from datetime import datetime

import asyncpg

CHUNKS = """
select format('%I.%I', c.chunk_schema, c.chunk_name) as name
from timescaledb_information.chunks c
join timescaledb_information.hypertables h using (hypertable_schema, hypertable_name)
left join timescaledb_information.continuous_aggregates a
  on a.materialization_hypertable_schema = c.hypertable_schema and a.materialization_hypertable_name = c.hypertable_name
where c.range_end > $1 and c.range_start < $2
  and ((c.hypertable_schema = 'core' and h.compression_enabled) or (a.view_schema = 'core' and a.compression_enabled))
order by c.range_start, name
"""


async def compress(owner: asyncpg.Connection, start: datetime, end: datetime, every: int) -> None:
    """Every so-manieth chunk of the events and of the rollups between two instants."""
    chunks = await owner.fetch(CHUNKS, start, end)
    for chunk in chunks[::every]:
        await owner.execute("select compress_chunk($1::text::regclass, if_not_compressed => true)", chunk["name"])


async def refresh(owner: asyncpg.Connection) -> None:
    await owner.execute("call core.refresh_rollups()")


async def rederive_due(owner: asyncpg.Connection) -> None:
    await owner.execute("call core.rederive_due()")


async def lag(owner: asyncpg.Connection, until: datetime) -> None:
    """As if the latest refresh had gone only so far."""
    await owner.execute(
        "update core.rollup_state set materialized_until = least(materialized_until, greatest(events_from, $1))", until
    )


async def lag_totals(owner: asyncpg.Connection, until: datetime) -> None:
    """As if core.dpu_total had been made only so far, as after the upgrade that brought it."""
    async with owner.transaction():
        await owner.execute("delete from core.dpu_total")
        await owner.execute("update core.rollup_state set totals_until = least(totals_until, $1)", until)
        await owner.execute("select core.add_totals('1970-01-01Z', totals_until) from core.rollup_state")


async def retain(owner: asyncpg.Connection, until: datetime) -> None:
    """Drops the events before, as an hour and some upkeep later."""
    await owner.execute("call core.retire_events($1)", until)
    assert await owner.fetchval("select events_from from api.get_retention()") == until
    await owner.execute("update core.rollup_state set retired_at = '-infinity'")
    await owner.execute("call core.drop_retired_chunks()")
    assert (
        await owner.fetchval("select count(*) from show_chunks('core.event', older_than => $1::timestamptz)", until)
        == 0
    )
