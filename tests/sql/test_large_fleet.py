"""What concerns a few sensors reads nothing of all the others, however many there are."""

import json
from collections import Counter
from typing import Any

import asyncpg

OTHERS = 20_000
DOORS = range(20)
SITE: dict[str, list[dict[str, Any]]] = {
    "spaces": [{"id": "site"}, *({"id": f"room-{n}", "parent": "site"} for n in DOORS)],
    "doorways": [{"id": f"door-{n}", "sides": [f"room-{n}", None]} for n in DOORS],
    "dpus": [{"id": f"dpu-{n}"} for n in DOORS],
    "placements": [
        {"dpu": f"dpu-{n}", "doorway": f"door-{n}", "mounted_in": f"room-{n}", "from": "2020-01-01T00:05:00Z"}
        for n in DOORS
    ],
}
QUESTIONS = {
    "counts now": "select * from api.list_counts(spaces => '{site,room-1}')",
    "a count now": "select * from api.get_count('site')",
    "a count at an instant": "select * from api.get_count('site', now() - interval '1 hour')",
    "a series": "select * from api.list_space_counts('site', now() - interval '6 hours', now(), '15m')",
    "an event": "select * from api.record_events('{dpu-1}', array[now()], '{1}', '{0}')",
    "a late event": "select * from api.record_events('{dpu-1}', array[now() - interval '1 day'], '{1}', '{0}')",
    "a placement": "select * from api.record_placement('dpu-1', 'door-2', 'room-2')",
    "a site that changes": """select * from api.apply_site('{"dpus": [{"id": "dpu-1", "name": "other"}]}')""",
    "people now, in BI": "select n.count from bi.space_counts_now n where n.space in ('site', 'room-1')",
    "the flows of a day, in BI": """
        select f.entries from bi.space_flows_15m f where f.space = 'site' and f.bucket >= now() - interval '1 day'""",
    "the sensors of a room, in BI": """
        select d.state from bi.dpus d join bi.placements p on p.dpu = d.dpu where p.mounted_in = 'room-1'""",
}


async def build_others(connection: asyncpg.Connection) -> None:
    """A fleet as it is where each sensor has been heard once."""
    await connection.execute(f"""
        insert into core.space (id) select 'other-' || n from generate_series(1, {OTHERS}) n;
        insert into core.doorway (id, side_a_id) select 'other-' || n, n from generate_series(1, {OTHERS}) n;
        insert into core.boundary (space_id, doorway_id, inner_side) select n, n, 1 from generate_series(1, {OTHERS}) n;
        insert into core.dpu (id) select 'other-' || n from generate_series(1, {OTHERS}) n;
        insert into core.dpu_state (dpu_id, cumulative_count, first_time, latest_time, last_seen_at)
          select n, 1, now(), now(), now() from generate_series(1, {OTHERS}) n;
        insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at)
          select n, n, 1, '[2020-01-01 00:05:00+00,)', now() from generate_series(1, {OTHERS}) n;
        insert into core.live_space (space_id, since, base, until_at)
          select n, '-infinity', 0, 'infinity' from generate_series(1, {OTHERS}) n;
        insert into core.live_flow (space_id, dpu_id, from_at, until_at, sign, net)
          select n, n, '2020-01-01 00:05:00+00', 'infinity', 1, 0 from generate_series(1, {OTHERS}) n;
        analyze core.space, core.doorway, core.boundary, core.dpu, core.dpu_state, core.placement, core.live_space,
          core.live_flow;
    """)


async def count_read(connection: asyncpg.Connection) -> Counter[str]:
    """Rows read without an index so far, by table."""
    rows = await connection.fetch("select relname, seq_tup_read from pg_stat_xact_user_tables")
    return Counter({row["relname"]: row["seq_tup_read"] for row in rows})


async def read_whole(connection: asyncpg.Connection, query: str) -> set[str]:
    """The tables of which a query read more rows, without an index, than a site has."""
    async with connection.transaction():
        before = await count_read(connection)
        await connection.fetch(query)
        after = await count_read(connection)
    return {table for table, rows in (after - before).items() if rows >= OTHERS}


async def test_it_costs_what_the_site_has_and_not_what_the_fleet_has(connection: asyncpg.Connection) -> None:
    await build_others(connection)
    questions = {"a new site": f"select * from api.apply_site('{json.dumps(SITE)}')"} | QUESTIONS
    read = {title: await read_whole(connection, query) for title, query in questions.items()}
    # of a site the order of its spaces is that of the whole tree
    assert {title: tables for title, tables in read.items() if tables} == {"a new site": {"space"}}
