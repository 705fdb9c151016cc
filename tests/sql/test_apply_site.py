import asyncio
import json
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from headcount.database.schema import SQL_DIR
from tests.factories import LONG_AGO, NOON, apply_site, build_house, differences, raw_count, record

SITE: dict[str, list[dict[str, Any]]] = {
    "spaces": [
        {"id": "room", "parent": "house"},
        {"id": "house", "time_zone": "Europe/Berlin", "reset_at": "04:00"},
    ],
    "doorways": [{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "room"]}],
    "dpus": [{"id": "d", "mac_address": "02:00:00:00:00:01"}],
    "placements": [{"dpu": "d", "doorway": "front", "mounted_in": None, "from": LONG_AGO.isoformat()}],
}


async def test_it_brings_a_whole_floor_plan_about_in_any_order(connection: asyncpg.Connection) -> None:
    assert await apply_site(connection, **SITE) == [
        ("space", "room", "created"),
        ("space", "house", "created"),
        ("doorway", "front", "created"),
        ("doorway", "inner", "created"),
        ("dpu", "d", "created"),
        ("placement", "d", "created"),
    ]
    assert await differences(connection) == []


async def test_it_changes_nothing_the_second_time(connection: asyncpg.Connection) -> None:
    await apply_site(connection, **SITE)
    before = await connection.fetch("select * from core.placement, core.schedule")
    assert {change for _, _, change in await apply_site(connection, **SITE)} == {"unchanged"}
    assert await connection.fetch("select * from core.placement, core.schedule") == before


async def test_it_says_what_it_changes(connection: asyncpg.Connection) -> None:
    await apply_site(connection, **SITE)
    changed = {**SITE, "spaces": [{"id": "house", "capacity": 5, "reset_at": None}, {"id": "new"}]}
    assert [row for row in await apply_site(connection, **changed) if row[2] != "unchanged"] == [
        ("space", "house", "updated"),
        ("space", "new", "created"),
    ]
    row = await connection.fetchrow("select * from api.get_space(space => 'house')")
    assert row is not None
    assert (row["capacity"], row["reset_at"], row["time_zone"], row["effective_reset_at"]) == (
        5,
        None,
        "Europe/Berlin",
        "never",
    )


@pytest.mark.parametrize(
    ("site", "sqlstate", "where"),
    [
        ({"spaces": [{"id": "a"}, {"id": "a b"}]}, "PT422", "spaces[1].id"),
        ({"spaces": [{"id": "a", "parent": "gone"}]}, "PT422", "spaces[0].parent"),
        ({"spaces": [{"id": "a", "parent": "b"}, {"id": "b", "parent": "a"}]}, "PT422", "spaces[1].parent"),
        ({"spaces": [{"id": "a", "parent": "a"}]}, "PT422", "spaces[0].parent"),
        ({"spaces": [{"id": "a", "time_zone": "Mars/Olympus"}]}, "PT422", "spaces[0].time_zone"),
        ({"spaces": [{"id": "a", "time_zone": "+02:00"}]}, "PT422", "spaces[0].time_zone"),
        ({"spaces": [{"id": "a", "reset_at": "24:00"}]}, "PT422", "spaces[0].reset_at"),
        ({"spaces": [{"id": "a", "capacity": -1}]}, "PT422", "spaces[0].capacity"),
        (
            {"spaces": [{"id": "a", "opening_hours": [{"day": 7, "open": "09:00", "close": "17:00"}]}]},
            "PT422",
            "spaces[0].opening_hours[0]",
        ),
        ({"doorways": [{"id": "w", "sides": [None, "gone"]}]}, "PT422", "doorways[0].sides[1]"),
        ({"doorways": [{"id": "w", "sides": [None, None]}]}, "PT422", "doorways[0].sides"),
        ({"doorways": [{"id": "w"}]}, "PT422", "doorways[0].sides"),
        ({"doorways": [{"id": "front", "sides": ["room", None]}]}, "PT409", "doorways[0].sides"),
        ({"dpus": [{"id": "e", "mac_address": "02:00"}]}, "PT422", "dpus[0].mac_address"),
        (
            {"placements": [{"dpu": "gone", "doorway": "front", "mounted_in": None}]},
            "PT422",
            "placements[0].dpu",
        ),
        (
            {"placements": [{"dpu": "front", "doorway": "front", "mounted_in": "room"}]},
            "PT422",
            "placements[0].mounted_in",
        ),
    ],
)
async def test_it_refuses_all_of_it_for_one_bad_thing(
    connection: asyncpg.Connection, site: dict[str, object], sqlstate: str, where: str
) -> None:
    await build_house(connection)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.fetch("select * from api.apply_site($1)", json.dumps({"spaces": [{"id": "good"}], **site}))
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == (sqlstate, where)
    assert await connection.fetchval("select count(*) from core.space") == 2
    assert await connection.fetchval("select count(*) from core.doorway") == 2


async def test_it_moves_the_boundary_when_the_tree_is_hung_anew(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await apply_site(connection, spaces=[{"id": "campus"}, {"id": "house", "parent": "campus"}])
    await apply_site(connection, spaces=[{"id": "room", "parent": "campus"}])
    assert await differences(connection) == []
    rows = await connection.fetch(
        """
        select s.id, w.id, b.inner_side from core.boundary b
        join core.space s on s.space_id = b.space_id join core.doorway w on w.doorway_id = b.doorway_id
        order by 1, 2
        """
    )
    assert [tuple(row) for row in rows] == [
        ("campus", "front", 2),
        ("house", "front", 2),
        ("house", "inner", 1),
        ("room", "inner", 2),
    ]


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_it_hangs_a_space_below_what_was_its_own_child(connection: asyncpg.Connection, is_reversed: bool) -> None:
    await apply_site(
        connection,
        spaces=[{"id": "a"}, {"id": "b", "parent": "a"}, {"id": "c", "parent": "b"}],
        doorways=[{"id": "front", "sides": [None, "c"]}],
        dpus=[{"id": "d"}],
        placements=[{"dpu": "d", "doorway": "front", "mounted_in": "c", "from": LONG_AGO.isoformat()}],
    )
    await record(connection, [("d", NOON, 3)])
    turned: list[dict[str, Any]] = [{"id": "a", "parent": "c"}, {"id": "c", "parent": None}, {"id": "b", "parent": "a"}]
    changes = await apply_site(connection, spaces=turned[::-1] if is_reversed else turned)
    in_order = [("space", "a", "updated"), ("space", "c", "updated"), ("space", "b", "unchanged")]
    assert changes == (in_order[::-1] if is_reversed else in_order)
    rows = await connection.fetch("select id, parent from api.list_spaces()")
    assert dict(map(tuple, rows)) == {"a": "c", "b": "a", "c": None}
    counts = await connection.fetch("select space, count from api.list_counts()")
    assert dict(map(tuple, counts)) == {"a": 0, "b": 0, "c": 3}
    assert await differences(connection) == []


async def test_new_things_are_added_together_as_they_would_be_one_by_one(connection: asyncpg.Connection) -> None:
    hours = [{"day": 0, "open": "09:00", "close": "17:00"}]
    spaces: list[dict[str, Any]] = [
        {"id": "hall", "parent": "house", "capacity": 5, "opening_hours": hours, "offline_after_seconds": 600},
        {"id": "house", "name": "House", "time_zone": "Europe/Berlin", "reset_at": "04:00"},
        {"id": "annex", "parent": None, "name": None, "opening_hours": None, "reset_at": "never"},
    ]
    doorways = [{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "hall"]}]
    dpus = [{"id": "d"}, {"id": "e"}]
    placements: list[dict[str, Any]] = [
        {"dpu": "d", "doorway": "front", "mounted_in": None, "from": LONG_AGO.isoformat()},
        {"dpu": "d", "doorway": "inner", "mounted_in": "hall", "from": "2026-02-01T00:00:00Z"},
        {"dpu": "e", "doorway": "inner", "mounted_in": "house", "from": LONG_AGO.isoformat()},
    ]

    async def stored() -> list[list[asyncpg.Record]]:
        assert await differences(connection) == []
        return [
            await connection.fetch(query)
            for query in (
                "select * from api.list_spaces()",
                "select d.id, d.offline_after_seconds, s.offline_after_seconds, s.first_from "
                "from core.dpu d join core.dpu_state s using (dpu_id) order by d.id",
                "select d.id, w.id, p.mounted_side, p.during from core.placement p join core.dpu d using (dpu_id) "
                "join core.doorway w using (doorway_id) where p.superseded_at is null order by d.id, p.during",
                "select s.id, d.id, f.sign, f.net, f.until_at from core.live_flow f join core.space s using (space_id) "
                "join core.dpu d using (dpu_id) order by s.id, d.id, f.from_at",
                "select distinct unnest(c.spaces) as id from core.change c order by id",
            )
        ]

    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("set local track_functions = 'all'")
    changes = await apply_site(connection, spaces=spaces, doorways=doorways, dpus=dpus, placements=placements)
    called = await connection.fetch("select funcname from pg_stat_xact_user_functions where schemaname = 'core'")
    together = await stored()
    await transaction.rollback()
    assert {change for _, _, change in changes} == {"created"}
    # however many there are
    assert {"put_space", "place_dpu"} & {row["funcname"] for row in called} == set()

    for space in (spaces[1], spaces[0], spaces[2]):
        await connection.fetch("select * from api.put_space($1, $2)", space["id"], json.dumps(space))
    await apply_site(connection, doorways=doorways, dpus=dpus)
    for placement in placements:
        await connection.fetch(
            "select * from api.record_placement($1, $2, $3, $4)",
            placement["dpu"],
            placement["doorway"],
            placement["mounted_in"],
            datetime.fromisoformat(placement["from"]),
        )
    assert await stored() == together


async def test_it_refuses_a_tree_that_is_a_ring(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "a"}, {"id": "b"}, {"id": "c"}])
    ring = [{"id": "a", "parent": "b"}, {"id": "b", "parent": "c"}, {"id": "c", "parent": "a"}]
    with pytest.raises(asyncpg.PostgresError) as refused:
        await apply_site(connection, spaces=ring)
    assert (refused.value.sqlstate, refused.value.detail) == ("PT422", "spaces[2].parent")


async def test_it_changes_nothing_the_second_time_though_placements_overlap(connection: asyncpg.Connection) -> None:
    """A move written as people write it: here from then on, there from later on."""
    await build_house(connection)
    moved = [
        {"dpu": "new", "doorway": "front", "mounted_in": None, "from": "2026-01-01T00:00:00Z"},
        {"dpu": "new", "doorway": "inner", "mounted_in": "room", "from": "2026-02-01T00:00:00Z"},
        {"dpu": "new", "doorway": None, "from": "2026-02-10T00:00:00Z", "until": "2026-02-11T00:00:00Z"},
    ]
    site = {"dpus": [{"id": "new"}], "placements": moved}
    assert [change for kind, _, change in await apply_site(connection, **site) if kind == "placement"] == [
        "created",
        "created",
        "unchanged",
    ]
    rows = await connection.fetch("select * from core.placement order by placement_id")
    assert {change for _, _, change in await apply_site(connection, **site)} == {"unchanged"}
    assert await connection.fetch("select * from core.placement order by placement_id") == rows
    found = await connection.fetch("select doorway, from_at, until_at from api.list_placements('new')")
    assert [(row["doorway"], row["from_at"].month, row["until_at"] and row["until_at"].day) for row in found] == [
        ("front", 1, 1),
        ("inner", 2, 10),
        ("inner", 2, None),
    ]


@pytest.mark.concurrency
async def test_it_never_deadlocks_with_events_of_the_same_new_dpus(
    connection: asyncpg.Connection, database_url: str
) -> None:
    other = await asyncpg.connect(database_url)
    try:
        for number in range(20):
            ids = [f"d{number}-{index:03}" for index in range(200)]
            await asyncio.gather(
                apply_site(connection, dpus=[{"id": dpu} for dpu in reversed(ids)]),
                record(other, [(dpu, NOON, 1) for dpu in ids]),
            )
    finally:
        await other.close()
    assert await connection.fetchval("select count(*) from core.dpu") == 4_000


@pytest.mark.concurrency
async def test_what_changes_nothing_waits_for_nobody_and_holds_up_nobody(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Another transaction stores events all the while, and the same plan comes again and again."""
    await apply_site(connection, **SITE)
    (space, _), doorway, (dpu,), (placement,) = SITE["spaces"], SITE["doorways"][1], SITE["dpus"], SITE["placements"]
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select core.share_plan()")
            await connection.execute("set lock_timeout = '1s'")
            assert {change for _, _, change in await apply_site(connection, **SITE)} == {"unchanged"}
            await connection.execute("select api.put_space('room', $1)", json.dumps({"parent": space["parent"]}))
            await connection.execute("select api.put_doorway('inner', $1)", json.dumps({"sides": doorway["sides"]}))
            await connection.execute("select api.put_dpu('d', $1)", json.dumps({"mac_address": dpu["mac_address"]}))
            await connection.execute(
                "select api.record_placement('d', 'front', null, $1)", datetime.fromisoformat(placement["from"])
            )
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.execute("""select api.put_space('room', '{"capacity": 1}')""")
    finally:
        await connection.execute("reset lock_timeout")
        await other.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"spaces": [{"id": "room", "parent": None}]},
        {"spaces": [{"id": "room", "name": "Room"}]},
        {"spaces": [{"id": "house", "reset_at": None}]},
        {"spaces": [{"id": "house", "time_zone": "UTC"}]},
        {"spaces": [{"id": "house", "opening_hours": []}]},
        {"spaces": [{"id": "house", "offline_after_seconds": 5}]},
        {"spaces": [{"id": "new"}]},
        {"doorways": [{"id": "inner", "name": "Inner"}]},
        {"doorways": [{"id": "inner", "sides": ["room", "house"]}]},
        {"dpus": [{"id": "d", "mac_address": None}]},
        {"dpus": [{"id": "d", "name": "D"}]},
        {"placements": [{"dpu": "d", "doorway": "front", "mounted_in": "house", "from": NOON}]},
        {"placements": [{"dpu": "d", "doorway": "front", "mounted_in": None, "from": LONG_AGO - timedelta(days=1)}]},
        {"placements": [{"dpu": "d", "doorway": None, "from": NOON}]},
    ],
)
async def test_each_thing_that_differs_is_a_change(connection: asyncpg.Connection, changed: dict[str, Any]) -> None:
    await apply_site(connection, **SITE)
    for expected in ({"created", "updated"}, {"unchanged"}):
        ((_, _, change),) = await apply_site(connection, **changed)
        assert change in expected


async def test_a_tree_has_32_levels_at_most(connection: asyncpg.Connection) -> None:
    chain = [{"id": f"s{number}", "parent": f"s{number - 1}" if number else None} for number in range(33)]
    with pytest.raises(asyncpg.PostgresError) as caught:
        await apply_site(connection, spaces=chain)
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == ("PT422", "spaces[32].parent")
    assert "32 levels" in str(caught.value)
    await apply_site(connection, spaces=chain[:32])
    await apply_site(connection, spaces=[{"id": "top"}, {"id": "leaf"}])
    for space, parent in (("leaf", "s31"), ("s0", "top")):
        with pytest.raises(asyncpg.PostgresError) as caught:
            await connection.execute("select api.put_space($1, $2)", space, json.dumps({"parent": parent}))
        assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == ("PT422", "parent")
    await apply_site(connection, spaces=[{"id": "leaf", "parent": "s30"}])


@pytest.mark.parametrize("again", [{"name": "Second"}, {"sides": ["hall", None]}, {"retired": True}])
async def test_a_doorway_that_is_listed_twice_counts(connection: asyncpg.Connection, again: dict[str, Any]) -> None:
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "hall"}],
        doorways=[{"id": "d", "sides": [None, "hall"], "name": "First"}, {"id": "d", **again}],
        dpus=[{"id": "d"}],
        placements=[{"dpu": "d", "doorway": "d", "mounted_in": "hall", "from": LONG_AGO.isoformat()}],
    )
    await record(connection, [("d", NOON, 5)])
    assert await connection.fetchval("select raw_count from api.get_count(space => 'hall')") == 5
    assert await differences(connection) == []


async def test_the_migration_mends_doorways_that_counted_for_nobody(connection: asyncpg.Connection) -> None:
    await apply_site(connection, **SITE)
    await record(connection, [("d", NOON, -5)])
    async with connection.transaction():
        await connection.execute("select core.lock_plan()")
        await connection.execute("delete from core.boundary")
        await connection.execute("select core.rederive_live(array(select space_id from core.space))")
    assert await raw_count(connection, "house", NOON + timedelta(minutes=1)) == 0
    async with connection.transaction():
        await connection.execute((SQL_DIR / "repeatable" / "85_derived.sql").read_text())
    assert await raw_count(connection, "house", NOON + timedelta(minutes=1)) == 5
    assert await differences(connection) == []


# What is done for many at once, switched off.
ONE_BY_ONE = """
create or replace function core.add_doorways(doorways jsonb, out created jsonb) language sql
as $$ select '{}'::jsonb $$;
create or replace function core.name_new_dpus(dpus jsonb, created jsonb, out named jsonb) language sql
as $$ select '{}'::jsonb $$;
create or replace function core.list_valid_placements(placements jsonb, recorded_at timestamptz, out dpus text[],
  out durings tstzrange[]) language sql as $$ select null::text[], null::tstzrange[] $$;
"""
STATE = """
select
  (select json_agg((w.id, w.name, a.id, b.id, w.retired_at is not null) order by w.id) from core.doorway w
    left join core.space a on a.space_id = w.side_a_id left join core.space b on b.space_id = w.side_b_id)::text,
  (select json_agg((d.id, d.name, d.mac_address, d.offline_after_seconds, s.retired_at is not null,
    s.first_from::text, s.live_from::text) order by d.id) from core.dpu d join core.dpu_state s using (dpu_id))::text,
  (select json_agg((d.id, w.id, p.mounted_side, lower(p.during)::text, upper(p.during)::text)
    order by d.id, lower(p.during)) from core.placement p join core.dpu d using (dpu_id)
    join core.doorway w using (doorway_id) where p.superseded_at is null)::text,
  (select json_agg((s.id, w.id, b.inner_side) order by s.id, w.id) from core.boundary b
    join core.space s using (space_id) join core.doorway w using (doorway_id))::text,
  (select json_agg((s.id, d.id, f.sign, f.from_at::text, f.until_at::text, f.net) order by s.id, d.id, f.from_at)
    from core.live_flow f join core.space s using (space_id) join core.dpu d using (dpu_id))::text
"""


def odd_site(chance: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Mostly right, some of it there already, and now and then something that is wrong."""

    def one_of(*usual: object, odd: object) -> Any:
        return odd if chance.random() < 0.04 else chance.choice(usual)

    def ids(kind: str) -> list[Any]:
        return [one_of(f"{kind}-{chance.randrange(9)}", odd=chance.choice(["", "a b", "."])) for _ in range(4)]

    def maybe(**fields: object) -> dict[str, object]:
        return {name: value for name, value in fields.items() if chance.random() < 0.3}

    spaces = ["house", "room", "hall", None]
    return {
        "doorways": [
            {
                "id": id,
                "sides": one_of(*(chance.sample(spaces, 2) for _ in range(4)), odd=["house"]),
                **maybe(name=one_of("Door", None, odd="x"), retired=one_of(False, odd=True)),
            }
            for id in ids("door")
        ],
        "dpus": [
            {
                "id": id,
                **maybe(
                    name=one_of("Sensor", None, odd="x"),
                    mac_address=one_of(None, f"02:00:00:00:00:0{chance.randrange(9)}", odd="no"),
                    offline_after_seconds=one_of(None, 600, odd=-1),
                    retired=one_of(False, True, odd=False),
                ),
            }
            for id in ids("dpu")
        ],
        "placements": [
            {
                "dpu": one_of(f"dpu-{chance.randrange(9)}", "old", odd="nobody"),
                "doorway": one_of(*(f"door-{number}" for number in range(9)), None, odd="nowhere"),
                "mounted_in": one_of(*spaces, odd="nothing"),
                "from": one_of(*((LONG_AGO + timedelta(days=day)).isoformat() for day in range(5)), odd=None),
                **maybe(until=(LONG_AGO + timedelta(days=chance.randrange(2, 9))).isoformat()),
            }
            for _ in range(chance.randrange(3))
        ],
    }


async def test_what_is_done_together_is_what_would_be_done_one_by_one(connection: asyncpg.Connection) -> None:
    chance, outcomes = random.Random(7), Counter[str]()
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "room", "parent": "house"}, {"id": "hall"}],
        doorways=[{"id": "door-0", "sides": [None, "house"]}, {"id": "door-1", "sides": ["house", "room"]}],
        dpus=[{"id": "old"}],
        placements=[{"dpu": "old", "doorway": "door-0", "mounted_in": "house", "from": LONG_AGO.isoformat()}],
    )
    await record(connection, [("old", LONG_AGO + timedelta(days=2), 3)])

    async def outcome(site: dict[str, list[dict[str, Any]]], before: str) -> object:
        changing = connection.transaction()
        await changing.start()
        try:
            await connection.execute(before)
            changes = await apply_site(connection, **site)
            return changes, tuple(await connection.fetchrow(STATE) or ()), await differences(connection)
        except asyncpg.PostgresError as error:
            return error.sqlstate, str(error), error.detail, error.hint
        finally:
            await changing.rollback()

    for _ in range(60):
        site = odd_site(chance)
        together = await outcome(site, "select")
        assert together == await outcome(site, ONE_BY_ONE), site
        outcomes["refused" if isinstance(together, tuple) and isinstance(together[0], str) else "applied"] += 1
    assert min(outcomes["refused"], outcomes["applied"]) > 10, outcomes
