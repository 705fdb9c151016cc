"""Sensors that fall silent: outages, incidents and what is told of them. Thresholds are 2 seconds here."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from tests.factories import (
    LONG_AGO,
    NOON,
    apply_site,
    differences,
    hear,
    listen,
    raw_count,
    record,
    seconds,
    tick,
)


class Told(NamedTuple):
    """A notice: what, of which incident, where, when."""

    kind: str
    incident: int
    space: str | None
    occurred_at: datetime
    details: dict[str, Any]


class Notices:
    """Takes the place of core.add_notices."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def take(self) -> list[Told]:
        rows = await self.connection.fetch(
            """
            with taken as (delete from public.told returning *)
            select t.kind, t.incident_id, s.id, t.occurred_at, t.details
            from taken t left join core.space s on s.space_id = t.space_id
            order by t.number
            """
        )
        return [Told(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows]

    async def kinds(self) -> list[tuple[str, list[str]]]:
        return [(told.kind, told.details["dpus"]) for told in await self.take()]


@pytest_asyncio.fixture(loop_scope="session")
async def notices(connection: asyncpg.Connection) -> AsyncIterator[Notices]:
    definition = await connection.fetchval("select pg_get_functiondef('core.add_notices'::regproc)")
    await connection.execute(
        """
        create table public.told (
          number bigint generated always as identity,
          kind text, incident_id bigint, space_id integer, occurred_at timestamptz, details jsonb);
        create or replace function core.add_notices(
          kinds text[], incident_ids bigint[], space_ids integer[], occurred_ats timestamptz[], details jsonb[]
        ) returns void language sql as $$
          insert into public.told (kind, incident_id, space_id, occurred_at, details)
          select * from unnest(kinds, incident_ids, space_ids, occurred_ats, details)
        $$;
        """
    )
    try:
        yield Notices(connection)
    finally:
        await connection.execute(definition)
        await connection.execute("drop table public.told")


async def build(connection: asyncpg.Connection, *dpus: str, site: str = "site") -> None:
    """A site with one room, and DPUs above its door."""
    await apply_site(
        connection,
        spaces=[{"id": site, "offline_after_seconds": 2}, {"id": f"{site}-room", "parent": site}],
        doorways=[{"id": f"{site}-door", "sides": [f"{site}-room", site]}],
        dpus=[{"id": dpu} for dpu in dpus],
        placements=[
            {"dpu": dpu, "doorway": f"{site}-door", "mounted_in": f"{site}-room", "from": LONG_AGO} for dpu in dpus
        ],
    )


async def run(connection: asyncpg.Connection, start: datetime, end: datetime) -> None:
    """Ticks once a second."""
    at = start
    while at <= end:
        await tick(connection, at)
        at += seconds(1)


async def flips(connection: asyncpg.Connection) -> list[tuple[str, str, float]]:
    """In seconds since noon."""
    rows = await connection.fetch("select dpu, state, at from bi.dpu_flips order by at, dpu")
    return [(row["dpu"], row["state"], (row["at"] - NOON).total_seconds()) for row in rows]


async def beat(
    connection: asyncpg.Connection,
    at: datetime,
    *dpus: str,
    received: datetime | None = None,
    backfill: bool = False,
) -> None:
    """Heartbeats as if it were then."""
    await connection.execute(
        """
        select core.note_dpus_seen(
          core.list_dpu_ids($1), array_fill($2::timestamptz, array[cardinality($1::text[])]), $3, backfill => $4)
        """,
        list(dpus),
        at,
        received or at,
        backfill,
    )


async def report(
    connection: asyncpg.Connection,
    at: datetime,
    dpu: str,
    direction: int = 1,
    *,
    received: datetime | None = None,
    backfill: bool = False,
) -> None:
    """An event as if it were then."""
    await connection.execute(
        """
        select cardinality(s.ordinals)
        from core.store_events(core.list_dpu_ids(array[$1]), array[$2::timestamptz], array[$3::int], '{0}', $4, $5) s
        """,
        dpu,
        at,
        direction,
        received or at,
        backfill,
    )


async def state(connection: asyncpg.Connection, dpu: str, at: datetime) -> str | None:
    found: str | None = await connection.fetchval(
        """
        select core.get_dpu_state(
          s.last_seen_at, s.offline_at, s.armed_at, coalesce(s.offline_after_seconds, 600), $2, s.retired_at)
        from core.dpu_state s join core.dpu d on d.dpu_id = s.dpu_id and d.id = $1
        """,
        dpu,
        at,
    )
    return found


async def hang(connection: asyncpg.Connection, *dpus: str) -> None:
    """DPUs above the door of a room where nobody set a threshold."""
    await apply_site(
        connection,
        spaces=[{"id": "calm"}],
        doorways=[{"id": "calm-door", "sides": [None, "calm"]}],
        dpus=[{"id": dpu} for dpu in dpus],
        placements=[{"dpu": dpu, "doorway": "calm-door", "mounted_in": "calm", "from": LONG_AGO} for dpu in dpus],
    )


async def test_a_dpu_that_stops_is_offline_at_exactly_its_threshold(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """By the real clock, through the functions of the service."""
    await build(connection, "d")
    assert await connection.fetchval("select api.detect_outages()") == 0
    await hear(connection, ("d", None))
    heard = await connection.fetchval("select last_seen from api.get_dpu('d')")
    turned: list[datetime] = []
    async with asyncio.timeout(20):
        while not turned or await connection.fetchval("select count(*) from bi.incidents") == 0:
            if await connection.fetchval("select api.detect_outages()"):
                turned.append(await connection.fetchval("select clock_timestamp()"))
            await asyncio.sleep(0.2)
    assert len(turned) == 1
    assert turned[0] - (heard + seconds(2)) < seconds(5)
    assert await connection.fetchval("select at from bi.dpu_flips") == heard + seconds(2)
    await hear(connection, ("d", None))
    await connection.execute("select api.detect_outages()")
    back = await connection.fetchval("select last_seen from api.get_dpu('d')")
    assert [(told.kind, told.space, told.occurred_at) for told in await notices.take()] == [
        ("offline", "site-room", heard + seconds(2)),
        ("online", "site-room", back),
    ]


async def test_an_event_is_a_sign_of_life_as_well(connection: asyncpg.Connection) -> None:
    await build(connection, "d")
    await tick(connection, NOON)
    await report(connection, NOON, "d")
    await report(connection, NOON + seconds(1), "d")
    await listen(connection, NOON, NOON + seconds(9))
    await tick(connection, NOON + seconds(9))
    assert await flips(connection) == [("d", "offline", 3.0)]
    await report(connection, NOON + seconds(8), "d", received=NOON + seconds(9.5))
    assert await flips(connection) == [("d", "offline", 3.0), ("d", "online", 8.0)]
    assert await differences(connection) == []


async def test_a_clock_that_is_ahead_counts_as_now(connection: asyncpg.Connection) -> None:
    await record(connection, [("d", (await connection.fetchval("select now()")) + timedelta(minutes=4), 1)])
    row = await connection.fetchrow("select last_seen, state, clock_timestamp() as now from api.get_dpu('d')")
    assert row is not None
    assert row["last_seen"] < row["now"]


async def test_never_seen_is_not_offline(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "d")
    await run(connection, NOON, NOON + seconds(10))
    assert await connection.fetchval("select state from api.get_dpu('d')") == "never_seen"
    assert await notices.take() == []


async def test_the_services_own_absence_is_not_the_sensors_silence(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """Stopped for 20 minutes and started again."""
    await build(connection, "d")
    await run(connection, NOON, NOON + seconds(5))
    await beat(connection, NOON + seconds(5), "d")
    await run(connection, NOON + seconds(1205), NOON + seconds(1206))
    assert await flips(connection) == []
    await beat(connection, NOON + seconds(1206.5), "d")
    await run(connection, NOON + seconds(1207), NOON + seconds(1208))
    assert (await flips(connection), await notices.take()) == ([], [])
    await run(connection, NOON + seconds(1209), NOON + seconds(1213))
    assert await flips(connection) == [("d", "offline", 1208.5)]


async def test_five_seconds_without_a_look_are_no_absence(connection: asyncpg.Connection) -> None:
    await build(connection, "d")
    for gap, expected in ((5.0, [2.0]), (5.001, [])):
        await connection.execute("truncate core.listening, core.outage, core.first_sign restart identity cascade")
        await connection.execute("update core.dpu_state set last_seen_at = null, steady_from = null, offline_at = null")
        await tick(connection, NOON)
        await beat(connection, NOON, "d")
        await tick(connection, NOON + seconds(gap))
        assert [at for _, _, at in await flips(connection)] == expected


async def test_old_history_that_is_imported_makes_no_outages(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "d")
    await record(connection, [("d", NOON - timedelta(days=day), 1) for day in range(50)])
    await run(connection, NOON + timedelta(days=1), NOON + timedelta(days=1, seconds=1))
    assert (await flips(connection), await notices.take()) == ([], [])
    count = await connection.fetchrow("select * from api.get_count('site-room', $1)", NOON - timedelta(days=10.5))
    assert count is not None
    assert (count["dpus_placed"], count["dpus_online"]) == (1, 1)


async def test_counts_say_how_many_were_online_then_and_as_known_then(connection: asyncpg.Connection) -> None:
    await build(connection, "a", "b")
    await connection.execute("update core.placement set recorded_at = $1", LONG_AGO)

    async def online(at: float, known_at: datetime | None = None) -> int | None:
        found: int | None = await connection.fetchval(
            "select dpus_online from api.get_count('site-room', $1, $2)", NOON + seconds(at), known_at
        )
        return found

    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b")
    await run(connection, NOON + seconds(1), NOON + seconds(4))
    await beat(connection, NOON + seconds(5), "a")
    await tick(connection, NOON + seconds(6))
    assert [await online(at) for at in (-1, 0, 1.999999, 2, 4.999999, 5, 6)] == [0, 2, 2, 0, 0, 1, 1]
    assert await connection.fetchval("select dpus_online from api.get_count('site-room')") == 1
    # late: it was there at 1.5 and 3, so all the time
    await beat(connection, NOON + seconds(1.5), "a", received=NOON + seconds(7))
    await beat(connection, NOON + seconds(3.3), "a", received=NOON + seconds(7))
    assert [await online(at) for at in (2, 3.4, 4.9)] == [1, 1, 1]
    assert await online(3, NOON + seconds(6)) == 0, "as known before"
    assert await online(3, NOON + seconds(1)) == 2


async def test_an_outage_is_told_once_and_so_is_its_end(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "a", "b", "c", "d", "e")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c", "d", "e")
    await beat(connection, NOON + seconds(1), "b", "c", "d", "e")
    await tick(connection, NOON + seconds(1))
    await beat(connection, NOON + seconds(2.5), "b", "c", "d", "e")
    await tick(connection, NOON + seconds(2.5))
    assert await notices.take() == [], "it waits whether others follow"
    await beat(connection, NOON + seconds(4), "b", "c", "d", "e")
    await tick(connection, NOON + seconds(4.5))
    told = await notices.take()
    assert [(one.kind, one.space, one.occurred_at) for one in told] == [("offline", "site-room", NOON + seconds(2))]
    assert told[0].details == {
        "incident": str(told[0].incident),
        "kind": "dpu_offline",
        "dpus": ["a"],
        "dpu_count": 1,
        "space": "site-room",
        "started_at": "2026-03-04T12:00:02.000000Z",
        "ended_at": None,
        "corrected": False,
    }
    await beat(connection, NOON + seconds(5), "a", "b", "c", "d", "e")
    await tick(connection, NOON + seconds(5.5))
    await tick(connection, NOON + seconds(6.5))
    back = await notices.take()
    assert [(one.kind, one.incident, one.occurred_at) for one in back] == [
        ("online", told[0].incident, NOON + seconds(5))
    ]
    assert back[0].details["ended_at"] == "2026-03-04T12:00:05.000000Z"


async def test_one_that_was_over_before_it_was_told_is_told_whole(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """Down and up between two looks, or within the two seconds."""
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await tick(connection, NOON + seconds(1.9))
    await beat(connection, NOON + seconds(2.1), "d")
    assert await flips(connection) == [("d", "offline", 2.0), ("d", "online", 2.1)]
    await run(connection, NOON + seconds(3), NOON + seconds(5))
    assert [one.kind for one in await notices.take()] == ["offline", "online"]


async def test_a_late_heartbeat_corrects_what_was_told(connection: asyncpg.Connection, notices: Notices) -> None:
    """An hour late, with its device time: the outage is gone, and those who were told of it hear of that."""
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    await beat(connection, NOON + seconds(5.5), "d")
    await tick(connection, NOON + seconds(6))
    assert [one.kind for one in await notices.take()] == ["offline", "online"]
    hour = NOON + timedelta(hours=1)
    await beat(connection, NOON + seconds(1.8), "d", received=hour)
    await tick(connection, hour)
    assert await notices.take() == [], "shorter, and still an outage"
    (incident,) = await connection.fetch("select started_at, ended_at from bi.incidents")
    assert tuple(incident) == (NOON + seconds(3.8), NOON + seconds(5.5))
    await beat(connection, NOON + seconds(3.6), "d", received=hour)
    await beat(connection, hour, "d")
    await tick(connection, hour + seconds(1))
    await tick(connection, hour + seconds(1.5))
    (told,) = await notices.take()
    assert (told.kind, told.details["corrected"], told.details["dpus"]) == ("correction", True, ["d"])
    assert await flips(connection) == []
    assert await connection.fetchval("select availability from api.get_availability('d', $1, $2)", NOON, hour) == 1.0


async def test_a_correction_ends_an_incident_that_lasts(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert [one.kind for one in await notices.take()] == ["offline"]
    for at in (1.5, 3.0, 4.5):
        await beat(connection, NOON + seconds(at), "d", received=NOON + seconds(5.5))
    await tick(connection, NOON + seconds(6))
    assert [one.kind for one in await notices.take()] == ["correction"]
    assert await connection.fetchval("select count(*) from api.list_incidents(open => true)") == 0
    assert await connection.fetchval("select state from api.get_dpu('d')") == "online"
    await run(connection, NOON + seconds(7), NOON + seconds(10))
    assert [one.kind for one in await notices.take()] == ["offline"], "the next one is another one"


async def test_what_was_over_for_long_when_it_became_known_is_nothing_to_tell(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await connection.execute("update core.listening set until_at = $1", NOON + timedelta(hours=2))
    await beat(connection, NOON + seconds(10), "d", received=NOON + timedelta(hours=2), backfill=True)
    assert ("d", "online", 10.0) in await flips(connection)
    await tick(connection, NOON + timedelta(hours=2))
    await tick(connection, NOON + timedelta(hours=2, seconds=3))
    assert [(one.kind, one.details["started_at"][11:19]) for one in await notices.take()] == [("offline", "12:00:12")]


NAMES = [f"d{number:03}" for number in range(300)]


async def test_most_of_a_site_at_once_is_one_incident(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, *NAMES)
    await build(connection, "elsewhere", site="other")
    await tick(connection, NOON)
    await beat(connection, NOON, *NAMES, "elsewhere")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    told = {one.details["kind"]: one for one in await notices.take()}
    site, dpu = told["site_offline"], told["dpu_offline"]
    assert (site.kind, site.space, site.occurred_at) == ("offline", "site", NOON + seconds(2))
    assert (site.details["dpu_count"], site.details["dpus"]) == (300, NAMES[:100])
    assert (dpu.kind, dpu.space, dpu.details["dpus"]) == ("offline", "other-room", ["elsewhere"])

    await beat(connection, NOON + seconds(6), *NAMES[:149])
    await tick(connection, NOON + seconds(6))
    assert await notices.take() == []
    await beat(connection, NOON + seconds(6.5), *NAMES[:150])
    await beat(connection, NOON + seconds(6.6), *NAMES[150:298])
    await tick(connection, NOON + seconds(7))
    # over since half of them were back; two are still offline, and now by themselves
    assert [
        (one.kind, one.details["kind"], one.details["dpus"][:1], one.occurred_at) for one in await notices.take()
    ] == [
        ("offline", "dpu_offline", ["d298"], NOON + seconds(2)),
        ("offline", "dpu_offline", ["d299"], NOON + seconds(2)),
        ("online", "site_offline", ["d000"], NOON + seconds(6.5)),
    ]
    assert await connection.fetchval("select count(*) from core.outage where pending") == 0
    await beat(connection, NOON + seconds(7.5), *NAMES, "elsewhere")
    await tick(connection, NOON + seconds(8))
    assert sorted(one.details["dpus"][0] for one in await notices.take()) == ["d298", "d299", "elsewhere"]


async def test_incidents_of_that_minute_are_absorbed_and_later_ones_join(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    names = ["a", "b", "c", "d", "e"]
    await build(connection, *names)
    await tick(connection, NOON)
    await beat(connection, NOON, *names)
    alive, at = list(names), 0.0
    for gone in ("a", "b", "c", "d"):
        alive.remove(gone)
        for _ in range(5):
            at += 1
            await beat(connection, NOON + seconds(at), *alive)
            await tick(connection, NOON + seconds(at))
    found = [(one.kind, one.details["kind"], one.details["dpus"]) for one in await notices.take()]
    assert found == [
        ("offline", "dpu_offline", ["a"]),
        ("offline", "dpu_offline", ["b"]),
        ("offline", "site_offline", ["a", "b", "c"]),
    ]
    rows = await connection.fetch(
        "select kind, dpu, dpus, ended_at is null, absorbed_by is not null from bi.incidents order by incident::int"
    )
    assert [tuple(row) for row in rows] == [
        ("dpu_offline", "a", 1, False, True),
        ("dpu_offline", "b", 1, False, True),
        ("site_offline", None, 4, True, False),
    ]
    await beat(connection, NOON + seconds(at + 0.5), *names)
    await tick(connection, NOON + seconds(at + 1))
    back = at + 0.5
    assert [(one.kind, one.details["kind"], one.details["dpus"], one.occurred_at) for one in await notices.take()] == [
        ("online", "dpu_offline", ["a"], NOON + seconds(back)),
        ("online", "dpu_offline", ["b"], NOON + seconds(back)),
        ("online", "site_offline", ["a", "b", "c", "d"], NOON + seconds(back)),
    ]
    await beat(connection, NOON + seconds(at + 0.4), "a", received=NOON + seconds(at + 1.5))
    await tick(connection, NOON + seconds(at + 2))
    assert await notices.take() == [], "it was back a little earlier, and that is no end of its own"


async def test_two_are_never_most_of_a_site(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "a", "b")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await notices.kinds() == [("offline", ["a"]), ("offline", ["b"])]


@pytest.mark.parametrize("is_heard_first", [False, True])
async def test_one_that_is_taken_down_and_hung_up_again_falls_silent_a_second_time(
    connection: asyncpg.Connection, is_heard_first: bool
) -> None:
    """Both outages follow the same sign of life; neither the other sensors nor its own events wait for that."""
    await build(connection, "d", "e")
    await tick(connection, NOON)
    for dpu in ("d", "e"):
        await report(connection, NOON, dpu)
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    for at, doorway in ((6, None), (10, "site-door")):
        await connection.execute(
            "select core.place_dpu(d.dpu_id, $1, $2, $3, null, $3) from core.dpu d where d.id = 'd'",
            doorway,
            doorway and "site-room",
            NOON + seconds(at),
        )
        await connection.execute("select core.rederive_changed()")
        await connection.execute(
            "select core.rederive_offline_after(array(select dpu_id from core.dpu), $1)", NOON + seconds(at)
        )
        await run(connection, NOON + seconds(at), NOON + seconds(at + 1))
    # 12: two seconds since it was hung up again
    if not is_heard_first:
        await run(connection, NOON + seconds(12), NOON + seconds(13))
    await report(connection, NOON + seconds(13.5), "d", -1)
    await run(connection, NOON + seconds(14), NOON + seconds(14))
    assert [flip for flip in await flips(connection) if flip[0] == "d"] == [
        ("d", "offline", 2),
        ("d", "online", 6),
        ("d", "offline", 12),
        ("d", "online", 13.5),
    ]
    assert await differences(connection) == []


async def test_a_threshold_holds_from_where_a_dpu_is_mounted(connection: asyncpg.Connection) -> None:
    """Its space, or one above; mounted outside: the other side; nowhere: ten minutes. Moves change it."""
    await build(connection, "d")

    async def threshold() -> int | None:
        found: int | None = await connection.fetchval("select offline_after_seconds from core.dpu_state")
        return found

    assert await threshold() == 2
    await connection.execute("""select api.put_space('site-room', '{"offline_after_seconds": 30}')""")
    assert await threshold() == 30
    await apply_site(connection, spaces=[{"id": "annex", "offline_after_seconds": 60}])
    await apply_site(connection, doorways=[{"id": "out", "sides": [None, "annex"]}])
    await connection.execute("select api.record_placement('d', 'out', null, $1, null)", NOON)
    assert await threshold() == 60
    await connection.execute("""select api.put_space('annex', '{"offline_after_seconds": null}')""")
    assert await threshold() is None
    await connection.execute("""select api.put_space('annex', '{"parent": "site"}')""")
    assert await threshold() == 2
    await connection.execute("select api.record_placement('d', null, null, $1, null)", NOON)
    assert await threshold() is None
    soon = await connection.fetchval("select clock_timestamp() + interval '1 hour'")
    await connection.execute("select api.detect_outages()")
    await connection.execute("select api.record_placement('d', 'out', null, $1, null)", soon)
    assert await threshold() is None
    # the hour is over
    await connection.execute(
        "update core.placement set during = tstzrange(clock_timestamp(), null) where lower(during) = $1", soon
    )
    await connection.execute("select api.detect_outages()")
    assert await threshold() == 2


async def test_nothing_is_offline_from_before_it_was_first_heard(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """One old event of a sensor that nobody heard of, sent now."""
    await build(connection, "d", "e")
    await listen(connection, NOON - timedelta(hours=9), NOON)
    await report(connection, NOON - timedelta(hours=8), "d", received=NOON)
    await beat(connection, NOON - timedelta(hours=8), "e", received=NOON)
    assert await connection.fetchval("select min(last_seen_at) from core.dpu_state") == NOON
    await tick(connection, NOON + seconds(1))
    await tick(connection, NOON + seconds(1.9))
    assert [await state(connection, dpu, NOON + seconds(1.9)) for dpu in ("d", "e")] == ["online", "online"]
    assert (await flips(connection), await notices.take()) == ([], [])
    assert await connection.fetchval("select count(*) from core.outage") == 0
    assert await raw_count(connection, "site-room", NOON) == 1, "it counts"
    await tick(connection, NOON + seconds(3))
    assert await flips(connection) == [("d", "offline", 2.0), ("e", "offline", 2.0)]


async def test_what_is_backfilled_raises_nothing(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "d", "e")
    await listen(connection, NOON - timedelta(hours=9), NOON)
    for hour in (8, 5, 2):
        await report(connection, NOON - timedelta(hours=hour), "d", received=NOON, backfill=True)
        await beat(connection, NOON - timedelta(hours=hour), "e", received=NOON, backfill=True)
    await run(connection, NOON + seconds(1), NOON + seconds(9))
    assert (await flips(connection), await notices.take()) == ([], [])
    for dpu in ("d", "e"):
        assert await state(connection, dpu, NOON) == "quiet"
        assert await connection.fetchval("select last_seen from api.get_dpu($1)", dpu) == NOON - timedelta(hours=2)
    # from its first own message on its silence counts
    await report(connection, NOON + seconds(10), "d")
    await run(connection, NOON + seconds(11), NOON + seconds(13))
    assert await flips(connection) == [("d", "offline", 12.0)]
    assert await differences(connection) == []


async def test_silence_of_what_sends_only_events_means_nothing(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await hang(connection, "d", "beating")
    await tick(connection, NOON)
    await report(connection, NOON, "d")
    await beat(connection, NOON, "beating")
    await listen(connection, NOON, NOON + timedelta(hours=9))
    night = NOON + timedelta(hours=9)
    await run(connection, night, night + seconds(4))
    assert [await state(connection, "d", NOON + seconds(at)) for at in (599.999, 600)] == ["online", "quiet"]
    assert await flips(connection) == [("beating", "offline", 600.0)]
    assert await notices.kinds() == [("offline", ["beating"])]
    rows = await connection.fetch("select id, state, since from api.list_sensors()")
    assert [tuple(row) for row in rows] == [
        ("beating", "offline", NOON + seconds(600)),
        ("d", "quiet", NOON + seconds(600)),
    ]
    assert [row["id"] for row in await connection.fetch("select id from api.list_dpus(state => 'quiet')")] == ["d"]
    assert [row["id"] for row in await connection.fetch("select id from api.list_sensors(state => 'quiet')")] == ["d"]
    states = await connection.fetch("select dpu, state, offline_after_seconds from bi.dpus order by 1")
    assert [tuple(row) for row in states] == [("beating", "offline", 600), ("d", "quiet", 600)]
    # quiet ones are online: now and at any instant
    for at in (None, night):
        counted = await connection.fetchrow("select dpus_placed, dpus_online from api.get_count('calm', $1)", at)
        assert counted is not None
        assert tuple(counted) == (2, 1)
    before = await connection.fetchval("select count(*) from core.change where flipped_ids is not null")
    await report(connection, night + seconds(5), "d")
    await run(connection, night + seconds(6), night + seconds(9))
    assert await state(connection, "d", night + seconds(9)) == "online"
    assert await connection.fetchval("select count(*) from core.change where flipped_ids is not null") == before
    assert len(await flips(connection)) == 1
    assert await notices.take() == []
    assert await differences(connection) == []


async def test_receipt_is_a_sign_of_life_also_of_what_is_refused_but_not_of_duplicates(
    connection: asyncpg.Connection,
) -> None:
    await build(connection, "d")

    async def seen() -> float:
        found = await connection.fetchval("select last_seen_at from core.dpu_state")
        return float((found - NOON).total_seconds())

    await report(connection, NOON, "d", received=NOON + seconds(1))
    assert await seen() == 1
    await report(connection, NOON, "d", received=NOON + seconds(2))
    assert await seen() == 1, "a duplicate"
    await report(connection, NOON, "d", -1, received=NOON + seconds(3))
    assert await seen() == 3, "a conflict"
    await report(connection, NOON - timedelta(days=1), "d", received=NOON + seconds(4))
    assert await seen() == 4, "late, and new"
    await report(connection, NOON + timedelta(hours=1), "d", received=NOON + seconds(5))
    assert await seen() == 5, "in the future"
    await report(connection, LONG_AGO.replace(year=1999), "d", received=NOON + seconds(6))
    assert await seen() == 6, "too old"
    await report(connection, NOON + timedelta(hours=1), "d", received=NOON + seconds(7), backfill=True)
    await report(connection, NOON, "d", -1, received=NOON + seconds(7), backfill=True)
    await report(connection, NOON - timedelta(days=2), "d", received=NOON + seconds(7), backfill=True)
    assert await seen() == 6, "backfilled"
    await beat(connection, NOON + seconds(5), "d", received=NOON + seconds(8))
    assert await seen() == 8
    await beat(connection, NOON + seconds(5), "d", received=NOON + seconds(9))
    assert await seen() == 8, "a duplicate"
    await beat(connection, NOON + seconds(6), "d", received=NOON + seconds(10), backfill=True)
    assert await seen() == 8, "backfilled"


async def test_a_refused_message_through_the_service_is_heard(connection: asyncpg.Connection) -> None:
    """Also of a DPU that is new, and whose clock was never set; not of one that cannot be named."""
    ahead = await connection.fetchval("select clock_timestamp() + interval '1 hour'")
    assert await record(connection, [("unset", LONG_AGO.replace(year=1999), 1), ("ahead", ahead, 1)]) != []
    assert await hear(connection, ("beating", ahead)) == ["in_future"]
    assert await record(connection, [("unknown", ahead, 1)], auto_register=False) == [(0, "unknown_dpu")]
    rows = await connection.fetch("select dpu, state, last_seen_at < clock_timestamp() from bi.dpus order by 1")
    assert [tuple(row) for row in rows] == [
        ("ahead", "online", True),
        ("beating", "online", True),
        ("unset", "online", True),
    ]
    armed = await connection.fetch(
        "select d.id from core.dpu d join core.dpu_state s using (dpu_id) where s.armed_at > $1", NOON
    )
    assert [row["id"] for row in armed] == ["beating"], "it sends heartbeats"


async def test_silence_from_before_it_was_armed_does_not_count(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """Nor does silence after somebody has cleared the threshold: then the outage is over, and the DPU is quiet."""
    await hang(connection, "d")
    await tick(connection, NOON)
    await report(connection, NOON, "d")
    await listen(connection, NOON, NOON + timedelta(hours=9))

    async def say(seconds_: int | None, at: datetime) -> None:
        await connection.execute("update core.dpu set offline_after_seconds = $1", seconds_)
        await connection.execute("select core.rederive_offline_after(core.list_dpu_ids(array['d']), $1)", at)

    armed = NOON + timedelta(hours=9)
    assert await state(connection, "d", armed) == "quiet"
    await say(2, armed)
    await run(connection, armed, armed + seconds(1))
    assert await state(connection, "d", armed + seconds(1)) == "online", "armed, and not silent for 2 seconds since"
    await run(connection, armed + seconds(2), armed + seconds(5))
    assert await flips(connection) == [("d", "offline", 9 * 3600 + 2)]
    assert await notices.kinds() == [("offline", ["d"])]
    await say(None, armed + seconds(5.5))
    assert await state(connection, "d", armed + seconds(5.5)) == "quiet"
    await run(connection, armed + seconds(6), armed + seconds(9))
    assert await notices.kinds() == [("online", ["d"])]
    assert await flips(connection) == [("d", "offline", 9 * 3600 + 2), ("d", "online", 9 * 3600 + 5.5)]
    # a late sign still settles what was counted
    await report(connection, armed + seconds(1), "d", received=armed + seconds(9), backfill=True)
    assert await flips(connection) == [("d", "offline", 9 * 3600 + 3), ("d", "online", 9 * 3600 + 5.5)]
    assert await differences(connection) == []


async def test_its_own_threshold_goes_before_that_of_its_space(connection: asyncpg.Connection) -> None:
    await build(connection, "d")

    async def thresholds() -> tuple[int | None, int | None]:
        row = await connection.fetchrow(
            "select offline_after_seconds, effective_offline_after_seconds from api.get_dpu('d')"
        )
        assert row is not None
        return tuple(row)

    assert await thresholds() == (None, 2)
    await connection.execute("""select api.put_dpu('d', '{"offline_after_seconds": 30}')""")
    assert await thresholds() == (30, 30)
    await connection.execute("""select api.put_space('site-room', '{"offline_after_seconds": 40}')""")
    assert await thresholds() == (30, 30)
    assert await differences(connection) == []
    await connection.execute("""select api.put_dpu('d', '{"name": "Door"}')""")
    assert await thresholds() == (30, 30)
    await connection.execute("""select api.put_dpu('d', '{"offline_after_seconds": null}')""")
    assert await thresholds() == (None, 40)
    await connection.execute("select api.record_placement('d', null, null, $1, null)", LONG_AGO)
    assert await thresholds() == (None, 600)
    assert await differences(connection) == []


async def test_a_dpu_without_a_placement_is_offline_but_no_incident(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await apply_site(connection, dpus=[{"id": "spare", "offline_after_seconds": 2}])
    await tick(connection, NOON)
    await report(connection, NOON, "spare")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    assert await state(connection, "spare", NOON + seconds(6)) == "offline"
    assert await flips(connection) == [("spare", "offline", 2.0)]
    assert await connection.fetchval("select count(*) from core.incident") == 0
    assert await connection.fetchval("select count(*) from core.outage where pending") == 0
    await report(connection, NOON + seconds(7), "spare")
    await run(connection, NOON + seconds(8), NOON + seconds(9))
    assert await notices.take() == []


async def test_quiet_sensors_are_no_part_of_a_site_of_which_most_are_offline(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    """Nor are those that were never heard. One whose silence means nothing but that was heard just now is."""
    silent = [f"silent-{number}" for number in range(4)]
    await apply_site(
        connection,
        spaces=[{"id": "site"}],
        doorways=[{"id": "door", "sides": [None, "site"]}],
        dpus=[
            *({"id": dpu, "offline_after_seconds": 2} for dpu in ("a", "b", "c")),
            *({"id": dpu} for dpu in (*silent, "never")),
        ],
        placements=[
            {"dpu": dpu, "doorway": "door", "mounted_in": "site", "from": LONG_AGO}
            for dpu in ("a", "b", "c", "never", *silent)
        ],
    )
    await tick(connection, NOON - seconds(700))
    for dpu in silent:
        await report(connection, NOON - seconds(700), dpu)
    await run(connection, NOON - seconds(699), NOON)
    await beat(connection, NOON, "a", "b", "c")
    for dpu in silent[:2]:
        await report(connection, NOON, dpu)
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert [await state(connection, dpu, NOON + seconds(5)) for dpu in silent] == ["online"] * 2 + ["quiet"] * 2
    # three of five
    assert await notices.kinds() == [("offline", ["a", "b", "c"])]


async def test_three_of_a_site_are_not_most_where_others_are_heard(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    others = [f"other-{number}" for number in range(3)]
    await build(connection, "a", "b", "c")
    await apply_site(
        connection,
        dpus=[{"id": dpu, "offline_after_seconds": 3600} for dpu in others],
        placements=[{"dpu": dpu, "doorway": "site-door", "mounted_in": "site", "from": LONG_AGO} for dpu in others],
    )
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c", *others)
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await notices.kinds() == [("offline", ["a"]), ("offline", ["b"]), ("offline", ["c"])]


async def place(
    connection: asyncpg.Connection, dpu: str, doorway: str | None, start: datetime, until: datetime | None = None
) -> None:
    await connection.execute(
        "select api.record_placement($1, $2, $3, $4, $5)", dpu, doorway, doorway and "site-room", start, until
    )


async def incidents(connection: asyncpg.Connection) -> list[tuple[str, float | None]]:
    """By kind, how many seconds after noon it ended."""
    rows = await connection.fetch("select kind, ended_at from core.incident order by incident_id")
    return [(row["kind"], row["ended_at"] and (row["ended_at"] - NOON).total_seconds()) for row in rows]


async def test_the_incident_of_one_that_is_taken_down_ends_and_goes_on_where_it_is_hung_up_again(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    assert await notices.kinds() == [("offline", ["d"])]
    await place(connection, "d", None, NOON + seconds(5))
    await run(connection, NOON + seconds(7), NOON + seconds(8))
    assert await incidents(connection) == [("dpu_offline", 5)]
    assert await notices.take() == [], "it is not back"

    await connection.execute("select api.undo_placement('d', $1)", NOON + seconds(5))
    await run(connection, NOON + seconds(9), NOON + seconds(10))
    assert await incidents(connection) == [("dpu_offline", None)]
    # as planned, in a while: this time nobody changes the floor plan just then
    await place(connection, "d", None, NOON + seconds(13))
    await connection.execute("select core.rederive_moved($1)", NOON + seconds(12))
    await run(connection, NOON + seconds(11), NOON + seconds(12))
    assert await incidents(connection) == [("dpu_offline", None)]
    await connection.execute("select core.rederive_moved($1)", NOON + seconds(13))
    await run(connection, NOON + seconds(13), NOON + seconds(14))
    assert await incidents(connection) == [("dpu_offline", 13)]
    # that it is heard while it hangs nowhere moves nothing
    await beat(connection, NOON + seconds(15), "d")
    await run(connection, NOON + seconds(16), NOON + seconds(17))
    assert await incidents(connection) == [("dpu_offline", 13)]
    assert await notices.take() == []
    assert await connection.fetchval("select count(*) from core.outage where pending") == 0


async def test_an_incident_does_not_end_before_it_began(connection: asyncpg.Connection, notices: Notices) -> None:
    await build(connection, "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    await place(connection, "d", None, NOON - seconds(100))
    await run(connection, NOON + seconds(7), NOON + seconds(8))
    assert await incidents(connection) == [("dpu_offline", 2)]
    assert await notices.kinds() == [("offline", ["d"])]


async def test_one_that_moves_while_it_is_offline_keeps_its_incident(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "d")
    await apply_site(connection, doorways=[{"id": "back", "sides": ["site-room", "site"]}])
    await tick(connection, NOON)
    await beat(connection, NOON, "d")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    await place(connection, "d", "back", NOON + seconds(5))
    await run(connection, NOON + seconds(7), NOON + seconds(8))
    assert await incidents(connection) == [("dpu_offline", None)]
    await beat(connection, NOON + seconds(9), "d")
    await run(connection, NOON + seconds(10), NOON + seconds(11))
    assert await incidents(connection) == [("dpu_offline", 9)]
    assert await notices.kinds() == [("offline", ["d"]), ("online", ["d"])]


async def test_the_incident_of_a_site_ends_where_those_that_are_offline_are_taken_down(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "a", "b", "c", "d")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c", "d")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await notices.kinds() == [("offline", ["a", "b", "c", "d"])]
    await beat(connection, NOON + seconds(6), "a")
    for dpu in ("b", "c"):
        await run(connection, NOON + seconds(6), NOON + seconds(7))
        assert await incidents(connection) == [("site_offline", None)], dpu
        await place(connection, dpu, None, NOON + seconds(6))
    await run(connection, NOON + seconds(8), NOON + seconds(9))
    # of the two that still hang there one is offline, and now by itself
    assert await incidents(connection) == [("site_offline", 6), ("dpu_offline", None)]


@pytest.mark.concurrency
async def test_any_number_of_processes_look_and_hear_at_once(
    connection: asyncpg.Connection, database_url: str, notices: Notices
) -> None:
    """Three look as fast as they can while others bring signs: every outage is recorded and told exactly once."""
    names = [f"d{number}" for number in range(12)]
    await build(connection, *names[:6])
    await build(connection, *names[6:], site="other")
    sessions = [await asyncpg.connect(database_url, server_settings={"timezone": "UTC"}) for _ in range(7)]
    over = asyncio.Event()

    async def look(session: asyncpg.Connection) -> int:
        calls = 0
        while not over.is_set():
            calls += await session.fetchval("select api.detect_outages()") is not None
            await asyncio.sleep(0.01)
        return calls

    async def speak(session: asyncpg.Connection, mine: list[str]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + 12
        while loop.time() < end:
            # by turns, so that each is silent for up to some seconds
            chosen = [name for number, name in enumerate(mine) if int(loop.time() / (1.5 + number)) % 2]
            if chosen:
                await hear(session, *((name, None) for name in chosen))
                now = await session.fetchval("select clock_timestamp()")
                await record(session, [(name, now, 1) for name in reversed(chosen)])
            await asyncio.sleep(0.02)

    looking = [asyncio.create_task(look(session)) for session in sessions[:3]]
    try:
        await asyncio.gather(*(speak(session, names) for session in sessions[3:]))
        await hear(connection, *((name, None) for name in names))
        await asyncio.sleep(1)
        over.set()
        assert all(await asyncio.gather(*looking))
    finally:
        over.set()
        await asyncio.gather(*looking, return_exceptions=True)
        await asyncio.gather(*(session.close() for session in sessions))
    for _ in range(4):  # what is left of the two seconds
        await asyncio.sleep(0.8)
        await hear(connection, *((name, None) for name in names))
        await connection.execute("select api.detect_outages()")
    rows = await connection.fetch("select * from core.outage where superseded_at is null")
    assert len(rows) > 5
    assert all(row["incident_id"] for row in rows)
    incidents = {row["incident_id"]: row for row in await connection.fetch("select * from core.incident")}
    told = await notices.take()
    for incident_id, incident in incidents.items():
        kinds = [one.kind for one in told if one.incident == incident_id]
        # what was absorbed and goes on afterwards is told again, for those who did not hear of it
        assert kinds == ["offline"] * (len(kinds) - 1) + ["online"], dict(incident)
        assert len(kinds) > 1, dict(incident)
    assert await differences(connection) == []


async def test_a_repeated_event_whose_clock_was_ahead_is_no_sign_later(connection: asyncpg.Connection) -> None:
    """Its device time has come by then, but nobody was heard at it."""
    await build(connection, "d")
    await tick(connection, NOON)
    await report(connection, NOON + seconds(9), "d", received=NOON)
    await listen(connection, NOON, NOON + seconds(60))
    await tick(connection, NOON + seconds(60))
    await report(connection, NOON + seconds(9), "d", received=NOON + seconds(61))
    assert await flips(connection) == [("d", "offline", 2.0)]
    assert await connection.fetchval("select last_seen_at from core.dpu_state") == NOON


async def test_those_that_were_moved_to_another_site_do_not_count_in_the_incident_of_theirs(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "a", "b", "c", "d")
    await apply_site(
        connection,
        spaces=[{"id": "other", "offline_after_seconds": 2}],
        doorways=[{"id": "away", "sides": ["other", None]}],
    )
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c", "d")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await notices.kinds() == [("offline", ["a", "b", "c", "d"])]
    for dpu in ("a", "b"):
        await connection.execute("select api.record_placement($1, 'away', 'other', $2)", dpu, NOON + seconds(5))
    await run(connection, NOON + seconds(6), NOON + seconds(7))
    await beat(connection, NOON + seconds(8), "a")
    await run(connection, NOON + seconds(8), NOON + seconds(9))
    await beat(connection, NOON + seconds(9.5), "a", "b")
    await run(connection, NOON + seconds(10), NOON + seconds(11))
    assert await incidents(connection) == [("site_offline", None)], "c and d are still silent there"
    assert await notices.take() == []
    await beat(connection, NOON + seconds(11), "a", "b", "c")
    await run(connection, NOON + seconds(12), NOON + seconds(12))
    assert await incidents(connection) == [("site_offline", 11), ("dpu_offline", None)]
    assert await notices.kinds() == [("offline", ["d"]), ("online", ["a", "b", "c", "d"])]


async def test_the_incident_of_a_site_that_all_have_left_is_over_and_they_have_their_own_where_they_hang(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "a", "b", "c")
    await apply_site(
        connection,
        spaces=[{"id": "other", "offline_after_seconds": 2}],
        doorways=[{"id": "away", "sides": ["other", None]}],
    )
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await notices.kinds() == [("offline", ["a", "b", "c"])]
    for dpu in ("a", "b", "c"):
        await connection.execute("select api.record_placement($1, 'away', 'other', $2)", dpu, NOON + seconds(5))
    await run(connection, NOON + seconds(6), NOON + seconds(6))
    assert await incidents(connection) == [("site_offline", 6), *[("dpu_offline", None)] * 3]
    assert {(one.kind, one.space) for one in await notices.take()} == {("offline", "other")}
    await beat(connection, NOON + seconds(8), "a", "b", "c")
    await run(connection, NOON + seconds(8), NOON + seconds(9))
    assert await incidents(connection) == [("site_offline", 6), *[("dpu_offline", 8)] * 3]
    assert {(one.kind, one.space) for one in await notices.take()} == {("online", "other")}
    assert await connection.fetchval("select count(*) from core.outage where pending") == 0


async def test_the_incident_of_a_site_goes_on_where_the_site_becomes_part_of_another(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "a", "b", "c")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    await apply_site(connection, spaces=[{"id": "campus"}, {"id": "site", "parent": "campus"}])
    await run(connection, NOON + seconds(6), NOON + seconds(7))
    await beat(connection, NOON + seconds(8), "a", "b", "c")
    await run(connection, NOON + seconds(8), NOON + seconds(9))
    assert await incidents(connection) == [("site_offline", 8)]
    assert await notices.kinds() == [("offline", ["a", "b", "c"]), ("online", ["a", "b", "c"])]


async def backfill_every(connection: asyncpg.Connection, gap: float, until: datetime, *dpus: str) -> None:
    """Heartbeats that the sensors kept since noon."""
    at = NOON + seconds(gap)
    while at < until:
        await beat(connection, at, *dpus, received=until, backfill=True)
        at += seconds(gap)


async def pending(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("select count(*) from core.outage where pending")
    return found


async def test_late_signs_that_cut_an_outage_have_its_incident_looked_at_once(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    await build(connection, "a", "b", "c")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(60))
    assert [one.kind for one in await notices.take()] == ["offline"]
    await backfill_every(connection, 3, NOON + seconds(60), "a", "b", "c")
    parts = "select count(*) from core.outage where superseded_at is null and incident_id is not null"
    assert await connection.fetchval(parts) == 3 * 20
    assert await pending(connection) == 3
    await run(connection, NOON + seconds(61), NOON + seconds(64))
    assert await pending(connection) == 0
    await beat(connection, NOON + seconds(65), "a", "b", "c")
    await tick(connection, NOON + seconds(66))
    assert [(one.kind, one.occurred_at) for one in await notices.take()] == [("online", NOON + seconds(65))]
    assert await differences(connection) == []


async def test_how_much_is_read_of_the_incident_of_a_site_does_not_grow_with_its_outages(
    connection: asyncpg.Connection,
) -> None:
    await build(connection, "a", "b", "c")
    await tick(connection, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    await listen(connection, NOON, NOON + seconds(900))
    await backfill_every(connection, 3, NOON + seconds(900), "a", "b", "c")
    await connection.execute("analyze core.outage")
    async with connection.transaction():
        read = """
            select pg_stat_get_xact_tuples_fetched('core.outage'::regclass)
              + pg_stat_get_xact_tuples_returned('core.outage'::regclass)
            """
        before = await connection.fetchval(read)
        await connection.execute("select core.update_site_incidents('{1}', $1)", NOON + seconds(901))
        assert await connection.fetchval(read) - before < 30


async def test_more_outages_than_one_look_takes_are_told_in_the_next_ones(
    connection: asyncpg.Connection, notices: Notices
) -> None:
    names = [f"d{n:04}" for n in range(1500)]
    await build(connection, *names)
    await tick(connection, NOON)
    await beat(connection, NOON, *names)
    await run(connection, NOON + seconds(1), NOON + seconds(3))
    assert await pending(connection) == 1500
    at = NOON + seconds(5)
    assert await connection.fetchval("select cardinality(core.hold_pending($1))", at) == 1000
    assert await connection.fetchval("select count(*) from core.busy_dpu") == 0
    await run(connection, at, at + seconds(1))
    assert [(one.kind, one.details["dpu_count"]) for one in await notices.take()] == [("offline", 1500)]

    await beat(connection, at + seconds(2), *names)
    await tick(connection, at + seconds(2.5))
    assert await pending(connection) == 500
    await tick(connection, at + seconds(3))
    assert [(one.kind, one.details["kind"]) for one in await notices.take()] == [("online", "site_offline")]
    assert await pending(connection) == 0
    assert await differences(connection) == []


async def test_incidents_of_many_sensors_do_not_read_all_outages_each(connection: asyncpg.Connection) -> None:
    names = [f"d{n:02}" for n in range(40)]
    for number in range(0, 40, 2):
        await build(connection, *names[number : number + 2], site=f"s{number}")
    await tick(connection, NOON)
    await beat(connection, NOON, *names)
    await run(connection, NOON + seconds(1), NOON + seconds(5))
    assert await connection.fetchval("select count(*) from core.incident where kind = 'dpu_offline'") == 40
    await listen(connection, NOON, NOON + seconds(600))
    await backfill_every(connection, 6, NOON + seconds(600), *names)
    async with connection.transaction():
        read = """
            select sum(pg_stat_get_xact_tuples_returned(i.indexrelid))
            from pg_index i where i.indrelid = 'core.outage'::regclass
            """
        before = await connection.fetchval(read)
        await connection.execute(
            "select core.update_dpu_incidents(array(select incident_id from core.incident), $1)", NOON + seconds(601)
        )
        parts = await connection.fetchval("select count(*) from core.outage where superseded_at is null")
        assert parts == 40 * 100
        assert (await connection.fetchval(read) - before) / parts < 10
