"""What concerns a few sensors reads nothing of all the others, however many there are."""

import json
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tests.conftest import Scene
from tests.factories import apply_site
from tests.http.guarded import new_token

pytestmark = [pytest.mark.measured, pytest.mark.slow]

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
    "counts of a site": "select * from api.list_counts(under => 'site')",
    "a count now": "select * from api.get_count('site')",
    "a count at an instant": "select * from api.get_count('site', now() - interval '1 hour')",
    "a series": "select * from api.list_space_counts('site', now() - interval '6 hours', now(), '15m')",
    "an event": "select * from api.record_events('{dpu-1}', array[now()], '{1}', '{0}')",
    "a late event": "select * from api.record_events('{dpu-1}', array[now() - interval '1 day'], '{1}', '{0}')",
    "a placement": "select * from api.record_placement('dpu-1', 'door-2', 'room-2')",
    "a site that changes": """select * from api.apply_site('{"dpus": [{"id": "dpu-1", "name": "other"}]}')""",
    "a sensor that turned": "select * from api.list_flipped_dpus('{dpu-1}')",
    "silent sensors": "select api.detect_outages()",
    "spaces that are full": "select api.detect_over_capacity()",
    "a heartbeat": "select * from api.record_heartbeats('{dpu-1}', '{null}', array[now()])",
    "the spaces of a site": "select * from api.list_spaces(parent => 'site')",
    "the state of a sensor": "select * from api.get_dpu('dpu-1')",
    "the availability of a sensor": "select * from api.get_availability('dpu-1', now() - interval '1 day', now())",
    "the sensors of a site": "select * from api.list_sensors(space => 'site')",
    "the last events of a sensor": "select * from api.list_events(dpu => 'dpu-1')",
    "a reset": "select * from api.record_reset('room-1', 0)",
    "people now, in BI": "select n.count from bi.space_counts_now n where n.space in ('site', 'room-1')",
    "the flows of a day, in BI": """
        select f.entries from bi.space_flows_15m f where f.space = 'site' and f.bucket >= now() - interval '1 day'""",
    "the sensors of a room, in BI": """
        select d.state from bi.dpus d join bi.placements p on p.dpu = d.dpu where p.mounted_in = 'room-1'""",
}


async def build_others(connection: asyncpg.Connection, count: int = OTHERS) -> None:
    """A fleet as it is where each sensor has been heard once."""
    await connection.execute(f"""
        set local session_replication_role = replica;  -- each row is well, so none is looked up by foreign keys
        insert into core.space (id) select 'other-' || n from generate_series(1, {count}) n;
        insert into core.doorway (id, side_a_id) select 'other-' || n, n from generate_series(1, {count}) n;
        insert into core.boundary (space_id, doorway_id, inner_side) select n, n, 1 from generate_series(1, {count}) n;
        insert into core.dpu (id) select 'other-' || n from generate_series(1, {count}) n;
        insert into core.dpu_state (dpu_id, cumulative_count, first_time, latest_time, last_seen_at)
          select n, 1, now(), now(), now() from generate_series(1, {count}) n;
        insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at)
          select n, n, 1, '[2020-01-01 00:05:00+00,)', now() from generate_series(1, {count}) n;
        insert into core.live_space (space_id, since, base, until_at)
          select n, '-infinity', 0, 'infinity' from generate_series(1, {count}) n;
        insert into core.live_flow (space_id, dpu_id, from_at, until_at, sign, net)
          select n, n, '2020-01-01 00:05:00+00', 'infinity', 1, 0 from generate_series(1, {count}) n;
        analyze core.space, core.doorway, core.boundary, core.dpu, core.dpu_state, core.placement, core.live_space,
          core.live_flow;
    """)


async def count_read(connection: asyncpg.Connection) -> Counter[str]:
    """Rows read so far by table, with an index or without."""
    rows = await connection.fetch(
        "select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) as read from pg_stat_xact_user_tables"
    )
    return Counter({row["relname"]: row["read"] for row in rows})


async def read_by(connection: asyncpg.Connection, query: str, *arguments: object) -> Counter[str]:
    """Rows that a query reads by table."""
    async with connection.transaction():
        before = await count_read(connection)
        await connection.fetch(query, *arguments)
        return await count_read(connection) - before


async def read_whole(connection: asyncpg.Connection, query: str, much: int = OTHERS // 10) -> set[str]:
    """The tables of which a query read much more than the site has."""
    return {table for table, rows in (await read_by(connection, query)).items() if rows >= much}


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
async def test_it_costs_what_the_site_has_and_not_what_the_fleet_has(
    connection: asyncpg.Connection, plans: str
) -> None:
    await build_others(connection)
    await connection.execute(f"set plan_cache_mode = {plans}")  # as a session has them from the sixth time on
    # its spaces come in the order of the whole tree
    assert await read_whole(connection, f"select * from api.apply_site('{json.dumps(SITE)}')") <= {"space"}
    read = {title: await read_whole(connection, query) for title, query in QUESTIONS.items()}
    assert {title: tables for title, tables in read.items() if tables} == {}


async def test_a_large_site_is_read_once_when_it_is_applied_and_not_by_what_was_planned_before(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("set jit = off")  # as the service has it
    await connection.fetch("select * from api.apply_site($1)", json.dumps(SITE))
    await connection.execute("analyze")  # all is small
    often = ("counts now", "a count now", "counts of a site", "an event", "a late event", "a heartbeat")
    for title in often * 6:  # then a session goes on with the plans that it has
        await connection.fetch(QUESTIONS[title])

    others = [f"other-{n}" for n in range(5_000)]
    site = {
        "spaces": [{"id": other} for other in others],
        "doorways": [{"id": other, "sides": [other, None]} for other in others],
        "dpus": [{"id": other} for other in others],
        "placements": [{"dpu": other, "doorway": other, "mounted_in": other} for other in others],
    }
    read = await read_by(connection, "select * from api.apply_site($1)", json.dumps(site))
    assert {table: rows for table, rows in read.items() if rows > 50 * len(others)} == {}
    assert {title: tables for title in often if (tables := await read_whole(connection, QUESTIONS[title]))} == {}


async def test_a_sensor_that_is_heard_for_the_first_time_reads_nothing_of_those_heard_since_it_was_planned(
    connection: asyncpg.Connection,
) -> None:
    others = OTHERS // 4
    await build_others(connection, others)
    await connection.execute("analyze core.first_sign, core.outage")  # still empty
    first_event = "select * from api.record_events('{new-%s}', array[now()], '{1}', '{0}')"
    await connection.fetch(first_event % 1)
    await connection.execute(f"""
        insert into core.first_sign (dpu_id, at, recorded_at) select n, now(), now() from generate_series(1, {others}) n
    """)
    assert await read_whole(connection, first_event % 2, others // 10) == set()


async def test_a_space_with_many_below_it_is_walked_once(connection: asyncpg.Connection) -> None:
    await connection.execute(f"""
        insert into core.space (id) values ('site');
        insert into core.space (id, parent_id) select 'room-' || n, 1 from generate_series(1, {OTHERS}) n;
        analyze core.space;
    """)
    async with connection.transaction():
        before = await count_read(connection)
        below = await connection.fetchval("select count(*) from core.list_subtree(1)")
        read = await count_read(connection) - before
    assert below == OTHERS + 1
    assert read["space"] <= 2 * OTHERS


OWN = 20
PAGE = "select * from api.list_incidents({}, max_rows => 21)"


async def build_part(connection: asyncpg.Connection) -> None:
    """A part of a site, with a token of it. In the part hang OWN sensors, in the rest of it as many."""
    spaces = ("part", "rest")
    await apply_site(
        connection,
        spaces=[{"id": "site"}, *({"id": space, "parent": "site"} for space in spaces)],
        doorways=[{"id": space, "sides": [space, None]} for space in spaces],
        dpus=[{"id": f"{space}-{n}"} for space in spaces for n in range(OWN)],
        placements=[
            {"dpu": f"{space}-{n}", "doorway": space, "mounted_in": space, "from": "2020-01-01T00:00:00Z"}
            for space in spaces
            for n in range(OWN)
        ],
    )
    await new_token(connection, "read", space="part")


async def add_incidents(connection: asyncpg.Connection, kind: str, count: int) -> None:
    """That are over: one after the other of each sensor by itself, or of all at once."""
    await connection.execute(
        """
        with made as (
          insert into core.incident (kind, space_id, dpu_id, started_at, ended_at, recorded_at)
          select $1, (select space_id from core.space where id = 'site'), d.dpu_id, t.at, t.at + interval '1 minute',
            t.at + interval '3 seconds'
          from generate_series(1, $2::integer) n
          cross join lateral (select timestamptz '2025-01-01 00:00:00+00' + n * interval '1 hour' as at) t
          left join core.dpu d on $1 = 'dpu_offline'
          returning incident_id, dpu_id, started_at
        )
        insert into core.incident_dpu (incident_id, dpu_id, offline_at)
        select m.incident_id, d.dpu_id, m.started_at
        from made m
        join core.dpu d on d.dpu_id = m.dpu_id or m.dpu_id is null
        """,
        kind,
        count,
    )
    await connection.execute("""
        insert into core.outage (dpu_id, heard_at, offline_at, back_at, detected_at, incident_id, pending,
          offline_after_seconds, recorded_at)
        select m.dpu_id, i.started_at - interval '10 minutes', i.started_at, i.ended_at, i.recorded_at, i.incident_id,
          false, 600, i.recorded_at
        from core.incident_dpu m
        join core.incident i on i.incident_id = m.incident_id;
        analyze core.incident, core.incident_dpu, core.outage, core.placement, core.doorway, core.dpu;
    """)


EACH = 200
ALL = 100


async def id_of_token(connection: asyncpg.Connection) -> str:
    return str(await connection.fetchval("select id from core.token"))


@pytest.fixture
async def of_sensors(connection: asyncpg.Connection, scene: Scene) -> str:
    """The id of the token of the part, and EACH incidents of each sensor."""
    if not await scene.is_there(("of_sensors",)):
        await build_part(connection)
        await add_incidents(connection, "dpu_offline", EACH)
        await scene.note("of_sensors")
    return await id_of_token(connection)


@pytest.fixture
async def of_sites(connection: asyncpg.Connection, scene: Scene) -> str:
    """The id of the token of the part, and ALL incidents of the whole site."""
    if not await scene.is_there(("of_sites",)):
        await build_part(connection)
        await add_incidents(connection, "site_offline", ALL)
        await scene.note("of_sites")
    return await id_of_token(connection)


async def spend(connection: asyncpg.Connection, token: str, query: str) -> tuple[Counter[str], int]:
    """Rows that a query reads by table, and the calls of functions, on behalf of a token."""
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{token}'")
        await connection.execute("set local track_functions = 'all'")
        made = "select coalesce(sum(calls), 0)::integer from pg_stat_xact_user_functions where schemaname = 'core'"
        before = await connection.fetchval(made)
        read = await read_by(connection, query)
        return read, await connection.fetchval(made) - before


@pytest.mark.parametrize(("open", "rows"), [("null", 21), ("false", 21), ("true", 0)])
async def test_a_page_of_incidents_is_looked_up_as_one_however_many_there_are(
    connection: asyncpg.Connection, of_sensors: str, open: str, rows: int
) -> None:
    query = PAGE.format(open)
    read, made = await spend(connection, of_sensors, query)
    assert made < 100
    # once through the ids of all; with open=true also through what may last
    assert read["incident_dpu"] <= 2 * OWN * EACH + 100
    assert max(read["incident"], read["outage"]) <= (2 * OWN * EACH if open == "true" else 200)
    assert max(read["placement"], read["dpu"], read["doorway"], read["space"]) <= 10 * OWN
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{of_sensors}'")
        assert len(await connection.fetch(query)) == rows


@pytest.mark.parametrize(("open", "rows"), [("null", 21), ("false", 21), ("true", 0)])
async def test_a_page_of_incidents_of_sites_is_looked_up_as_one(
    connection: asyncpg.Connection, of_sites: str, open: str, rows: int
) -> None:
    query = PAGE.format(open)
    read, made = await spend(connection, of_sites, query)
    assert made < 100
    # a few times the sensors that they have, seen or not
    assert max(read["incident_dpu"], read["outage"]) <= 5 * 2 * OWN * ALL
    assert max(read["incident"], read["placement"], read["doorway"], read["space"]) <= 10 * (OWN + ALL)
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{of_sites}'")
        assert len(await connection.fetch(query)) == rows
