"""From silence to a notice: what outages amount to for a channel."""

import json

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import LONG_AGO, NOON, apply_site, seconds
from tests.notices.support import log, make_channel, told_at
from tests.sql.test_detect_outages import beat, build, run


async def send(connection: asyncpg.Connection) -> list[str]:
    """What goes out now, as its kinds."""
    claims = await calls.claim_deliveries(connection, 100)
    for claim in claims:
        await calls.finish_delivery(connection, claim.delivery, claim.claim, True, NOON, 1)
    return [claim.kind for claim in claims]


async def test_a_site_that_goes_dark_is_one_notice_and_its_return_another(connection: asyncpg.Connection) -> None:
    dpus = [f"d{number}" for number in range(300)]
    await build(connection, *dpus)
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, *dpus)
    await run(connection, NOON + seconds(1), NOON + seconds(8))
    assert await send(connection) == ["offline"]
    await beat(connection, NOON + seconds(9), *dpus)
    await run(connection, NOON + seconds(10), NOON + seconds(11))
    assert await send(connection) == ["online"]
    assert await log(connection) == [("hook", "offline", "delivered", None), ("hook", "online", "delivered", None)]


async def test_a_service_that_was_stopped_tells_nothing(connection: asyncpg.Connection) -> None:
    await build(connection, "a", "b", "c")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(1))
    stopped = NOON + seconds(20 * 60)
    await run(connection, stopped, stopped)
    await beat(connection, stopped + seconds(0.5), "a", "b", "c")
    await run(connection, stopped + seconds(1), stopped + seconds(2))
    assert await log(connection) == []


async def test_who_was_told_of_an_outage_that_was_none_is_told_so_once(connection: asyncpg.Connection) -> None:
    await build(connection, "a")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    assert await send(connection) == ["offline"]
    for at in (1.5, 3.0, 4.5):
        await beat(connection, NOON + seconds(at), "a", received=NOON + seconds(6))
    await beat(connection, NOON + seconds(6), "a")
    await run(connection, NOON + seconds(7), NOON + seconds(7))
    assert await send(connection) == ["correction"]
    await run(connection, NOON + seconds(8), NOON + seconds(8))
    assert await send(connection) == []


async def test_who_was_not_told_yet_hears_nothing_of_an_outage_that_was_none(connection: asyncpg.Connection) -> None:
    await build(connection, "a")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    for at in (1.5, 3.0, 4.5):
        await beat(connection, NOON + seconds(at), "a", received=NOON + seconds(6))
    await beat(connection, NOON + seconds(6), "a")
    await run(connection, NOON + seconds(7), NOON + seconds(7))
    assert await send(connection) == []
    assert {state for _, _, state, _ in await log(connection)} == {"cancelled"}


MINE, THEIRS = ("x0", "x1"), ("y0", "y1", "y2", "y3")
Told = list[tuple[str, str, list[str], str | None]]


async def build_parts(connection: asyncpg.Connection) -> None:
    """A site of two parts, most of its DPUs in theirs. Channels: `mine` of one part, `whole` of the site, `all`."""
    await apply_site(
        connection,
        spaces=[
            {"id": "site", "offline_after_seconds": 2},
            {"id": "mine", "parent": "site"},
            {"id": "room", "parent": "mine"},
            {"id": "theirs", "parent": "site"},
        ],
        doorways=[{"id": f"{part}-door", "sides": [part, None]} for part in ("room", "theirs")],
        dpus=[{"id": dpu} for dpu in MINE + THEIRS],
        placements=[
            {"dpu": dpu, "doorway": f"{part}-door", "mounted_in": part, "from": LONG_AGO}
            for part, dpus in (("room", MINE), ("theirs", THEIRS))
            for dpu in dpus
        ],
    )
    await make_channel(connection, "mine", under="mine")
    await make_channel(connection, "whole", under="site")
    await make_channel(connection, "all")


async def live(connection: asyncpg.Connection, start: int, end: int, *heard: str) -> None:
    """These are heard once a second; the others are silent."""
    for at in range(start, end):
        await beat(connection, NOON + seconds(at), *heard)
        await run(connection, NOON + seconds(at), NOON + seconds(at))


async def told(connection: asyncpg.Connection) -> dict[str, Told]:
    """What goes out, by channel."""
    found: dict[str, Told] = {}
    while claims := sorted(await calls.claim_deliveries(connection, 100), key=lambda claim: claim.delivery):
        for claim in claims:
            await calls.finish_delivery(connection, claim.delivery, claim.claim, True, NOON, 1)
            data = json.loads(claim.details)
            assert claim.kind == "correction" or (data["ended_at"] is None) == (claim.kind == "offline")
            found.setdefault(claim.channel, []).append((claim.kind, data["kind"], data["dpus"], data["space"]))
    return found


@pytest.mark.parametrize("dark", [True, False])
async def test_a_part_is_told_of_its_own_while_the_rest_of_its_site_is_dark(
    connection: asyncpg.Connection, dark: bool
) -> None:
    await build_parts(connection)
    theirs = () if dark else THEIRS
    await live(connection, 0, 3, *MINE, *THEIRS)
    await live(connection, 3, 9, *MINE, *theirs)
    whole = ("offline", "site_offline", list(THEIRS), "site")
    assert await told(connection) == ({"whole": [whole], "all": [whole]} if dark else {})
    await live(connection, 9, 15, "x1", *theirs)
    offline, online = (("offline", "dpu_offline", ["x0"], "room"), ("online", "dpu_offline", ["x0"], "room"))
    everybody = {"mine", "whole", "all"}
    listening = {"mine"} if dark else everybody
    assert await told(connection) == {channel: [offline] for channel in listening}
    await live(connection, 15, 18, *MINE, *theirs)
    assert await told(connection) == {channel: [online] for channel in listening}
    # and anew
    await live(connection, 18, 24, "x0", *theirs)
    assert await told(connection) == {channel: [(*offline[:2], ["x1"], "room")] for channel in listening}
    # what is still offline when the others are back goes on, and only who did not hear of it is told
    await live(connection, 24, 27, "x0", *THEIRS)
    over = ("online", "site_offline", ["x0", "x1", *THEIRS], "site")
    ends = [(*offline[:2], ["x1"], "room"), over]
    assert await told(connection) == ({"whole": ends, "all": ends} if dark else {})
    await live(connection, 27, 30, *MINE, *THEIRS)
    assert await told(connection) == {channel: [(*online[:2], ["x1"], "room")] for channel in everybody}
    assert await connection.fetchval("select count(*) from core.outage where pending") == 0


@pytest.mark.parametrize("first", [True, False])
async def test_who_was_told_of_an_outage_is_told_of_its_end_also_if_the_site_went_dark_meanwhile(
    connection: asyncpg.Connection, first: bool
) -> None:
    """first: its end comes before that of the site."""
    await build_parts(connection)
    await live(connection, 0, 3, *MINE, *THEIRS)
    await live(connection, 3, 9, "x1", *THEIRS)
    offline, online = (("offline", "dpu_offline", ["x0"], "room"), ("online", "dpu_offline", ["x0"], "room"))
    everybody = ("mine", "whole", "all")
    assert await told(connection) == {channel: [offline] for channel in everybody}
    await live(connection, 9, 15, "x1")
    whole = ("offline", "site_offline", ["x0", *THEIRS], "site")
    assert await told(connection) == {"whole": [whole], "all": [whole]}
    back = MINE if first else ("x1", *THEIRS)
    end = ("online", *whole[1:])
    await live(connection, 15, 18, *back)
    ended = {channel: [online] for channel in everybody} if first else {"whole": [end], "all": [end]}
    assert await told(connection) == ended
    await live(connection, 18, 21, *MINE, *THEIRS)
    ended = {"whole": [end], "all": [end]} if first else {channel: [online] for channel in everybody}
    assert await told(connection) == ended
    assert {state for _, _, state, _ in await log(connection)} == {"delivered"}


async def test_a_part_of_a_site_that_goes_dark_at_once_is_told_of_each_of_its_own(
    connection: asyncpg.Connection,
) -> None:
    await build_parts(connection)
    await live(connection, 0, 3, *MINE, *THEIRS)
    await live(connection, 3, 9)
    found = await told(connection)
    assert found["mine"] == [("offline", "dpu_offline", [dpu], "room") for dpu in MINE]
    assert found["whole"] == found["all"] == [("offline", "site_offline", [*MINE, *THEIRS], "site")]
    # one of them was there all the time: that comes to light later
    for at in (3.5, 5.0, 6.5, 8.0):
        await beat(connection, NOON + seconds(at), "x0", received=NOON + seconds(9))
    await live(connection, 9, 12, *MINE, *THEIRS)
    found = await told(connection)
    assert found["mine"] == [("online", "dpu_offline", ["x1"], "room"), ("correction", "dpu_offline", ["x0"], "room")]
    assert [kind for kind, *_ in found["all"]] == ["online"]


async def test_without_channels_of_parts_a_site_that_goes_dark_is_one_incident(connection: asyncpg.Connection) -> None:
    await build_parts(connection)
    await calls.delete_channel(connection, "mine")
    await live(connection, 0, 3, *MINE, *THEIRS)
    await live(connection, 3, 9)
    assert await connection.fetchval("select array_agg(kind) from core.incident") == ["site_offline"]


async def test_one_that_goes_on_is_not_told_to_who_does_not_reach_it_any_more(connection: asyncpg.Connection) -> None:
    await build_parts(connection)
    token = await calls.create_token(connection, b"x" * 32, ["read", "admin"], space="mine")
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token.id)
        await make_channel(connection, "tenant", under="mine")
    await connection.execute("update core.channel set muted_until = now() + interval '1 day' where id <> 'all'")
    await live(connection, 0, 3, *MINE, *THEIRS)
    await live(connection, 3, 9, "x1")
    assert await log(connection, "tenant") == [("tenant", "offline", "suppressed", "muted")]
    await connection.execute("update core.channel set muted_until = null")
    await told_at(connection, NOON + seconds(8))
    moved = "select api.record_placement('x0', 'theirs-door', 'theirs', $1)"
    await connection.execute(moved, NOON + seconds(9))
    # the others are back: what is still offline goes on, and who did not hear of it is told
    await live(connection, 9, 12, "x1", *THEIRS)
    found = await told(connection)
    assert found["mine"] == [("offline", "dpu_offline", ["x0"], "room")]
    assert "tenant" not in found
    assert (await log(connection, "tenant"))[1:] == [("tenant", "offline", "suppressed", "out_of_reach")]
    # nor is it listed for whoever sees such channels
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token.id)
        listed = await calls.list_deliveries(connection, max_rows=10)
    assert {(row.channel, row.reason) for row in listed} == {("tenant", "muted"), ("mine", "muted")}
