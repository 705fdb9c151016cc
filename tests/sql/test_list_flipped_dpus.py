from datetime import UTC, datetime

import asyncpg

from tests.factories import NOON, apply_site, build_house, hear, heard, listen, seconds, tick
from tests.http.guarded import new_token, token_id


async def test_it_tells_state_and_place(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await heard(connection, ("front", NOON), ("inner", NOON + seconds(1)), ("loose", NOON))
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(600.5))
    rows = await connection.fetch(
        "select * from api.list_flipped_dpus(array['front', 'inner', 'loose', 'unknown']) order by dpu"
    )
    assert [(*row[:6], sorted(row["spaces"])) for row in rows] == [
        ("front", "offline", NOON, NOON + seconds(600), "house", None, ["house"]),
        ("inner", "online", NOON + seconds(1), NOON + seconds(1), "house", "room", ["house", "room"]),
        ("loose", "offline", NOON, NOON + seconds(600), None, None, []),
    ]


async def test_it_tells_which_side_each_limited_token_sees(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await apply_site(connection, spaces=[{"id": "annex"}])
    house, room, annex = [
        await token_id(connection, await new_token(connection, "read", space=space))
        for space in ("house", "room", "annex")
    ]
    gone = await token_id(connection, await new_token(connection, "read", space="house"))
    await connection.execute("select api.revoke_token($1)", gone)
    await hear(connection, ("front", None), ("inner", None), ("loose", None))
    rows = await connection.fetch(
        "select * from api.list_flipped_dpus(array['front', 'inner', 'loose'], $1) order by dpu",
        [house, room, annex, gone, "tok_none"],
    )
    assert [dict(zip(row["seen_by"], row["seen_at"], strict=True)) for row in rows] == [
        {house: "house"},
        {house: "house", room: "room"},
        {},
    ]


async def test_it_tells_since_when_each_limited_token_sees_them(connection: asyncpg.Connection) -> None:
    """Without a break, whichever doorways they were above; what was before is nothing to the token."""
    await build_house(connection)
    await apply_site(
        connection,
        spaces=[{"id": "annex"}],
        doorways=[{"id": "annex-door", "sides": [None, "annex"]}],
        dpus=[{"id": "loose"}],
        placements=[
            {"dpu": "loose", "doorway": doorway, "mounted_in": space, "from": f"2026-03-0{day}T00:00:00Z"}
            for day, doorway, space in ((1, "inner", "room"), (2, "annex-door", "annex"), (3, "front", "house"))
        ],
    )
    await apply_site(
        connection,
        placements=[{"dpu": "loose", "doorway": "inner", "mounted_in": "room", "from": "2026-03-04T00:00:00Z"}],
    )
    tokens = {
        await token_id(connection, await new_token(connection, "read", space=space)): space
        for space in ("house", "room")
    }
    (row,) = await connection.fetch("select * from api.list_flipped_dpus(array['loose'], $1)", list(tokens))
    seen_from = dict(zip((tokens[token] for token in row["seen_by"]), row["seen_from"], strict=True))
    assert seen_from == {"house": datetime(2026, 3, 3, tzinfo=UTC), "room": datetime(2026, 3, 4, tzinfo=UTC)}


async def test_the_feed_names_those_that_turned(connection: asyncpg.Connection) -> None:
    cursor = await connection.fetchval("select cursor from api.list_changes()")

    async def flipped() -> list[str]:
        nonlocal cursor
        row = await connection.fetchrow("select * from api.list_changes($1)", cursor)
        assert row is not None
        cursor = row["cursor"]
        return sorted(row["dpus"])

    await build_house(connection)
    assert await flipped() == []
    await heard(connection, ("front", NOON), ("inner", NOON))
    assert await flipped() == ["front", "inner"], "heard of for the first time"
    await heard(connection, ("front", NOON + seconds(1)))
    assert await flipped() == []
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(600.5))
    assert await flipped() == ["inner"]
    await heard(connection, ("inner", NOON + seconds(601)), ("front", NOON + seconds(600.4)))
    assert await flipped() == ["inner"]
