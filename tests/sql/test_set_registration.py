"""api.set_registration: how many unknown DPUs may register themselves, and how many unknown spaces polls may make."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site, hear
from tests.http.guarded import new_token, token_id
from tests.sql.test_large_fleet import count_read


async def allow(
    connection: asyncpg.Connection, burst: int, per_hour: int = 0, max_unplaced: int = 1000, max_unnamed: int = 1000
) -> None:
    await calls.set_registration(connection, burst, per_hour, max_unplaced, max_unnamed)


async def send(connection: asyncpg.Connection, *dpus: str, senders: Sequence[tuple[str | None, int]] = ()) -> list[str]:
    """Records an event of each; returns the DPUs that are not registered, in their order."""
    verdicts = await calls.record_events(
        connection,
        dpus,
        [NOON] * len(dpus),
        [1] * len(dpus),
        [0] * len(dpus),
        senders=[sender for sender, _ in senders],
        sender_sizes=[size for _, size in senders],
    )
    assert {verdict.verdict for verdict in verdicts} <= {"unknown_dpu", "duplicate"}
    return [dpus[verdict.index] for verdict in verdicts if verdict.verdict == "unknown_dpu"]


async def registered(connection: asyncpg.Connection) -> set[str]:
    return {dpu.id for dpu in await calls.list_dpus(connection, max_rows=1000)}


async def new_id(connection: asyncpg.Connection) -> str:
    return await token_id(connection, await new_token(connection, "ingest"))


async def test_by_default_a_site_of_ten_thousand_can_send_at_once(connection: asyncpg.Connection) -> None:
    token = await new_id(connection)
    for batch in range(2):
        dpus = [f"dpu-{batch}-{number}" for number in range(5000)]
        assert await send(connection, *dpus, senders=[(token, 5000)]) == []
    assert await connection.fetchval("select count(*) from core.dpu") == 10_000


async def test_a_token_registers_so_many_at_once_and_as_many_an_hour_as_are_set(
    connection: asyncpg.Connection,
) -> None:
    await allow(connection, burst=3, per_hour=2)
    token = await new_id(connection)
    assert await send(connection, "d", "b", "a", "c", "b", senders=[(token, 5)]) == ["d"]
    assert await send(connection, "a", "d", senders=[(token, 2)]) == ["d"]
    (refused,) = await connection.fetch("select code, dpu, detail from core.rejected_event where dpu = 'd'")
    assert refused["code"] == "unknown_dpu"
    assert "(3 at once, and 2 an hour)" in refused["detail"]

    await connection.execute("update core.registrar set at = at - interval '90 minutes'")
    assert await send(connection, "d", "e", "f", "g", senders=[(token, 4)]) == ["g"]
    await connection.execute("update core.registrar set at = at - interval '9 days'")
    assert len(await send(connection, *(f"late-{n}" for n in range(9)), senders=[(token, 9)])) == 6


async def test_each_token_has_its_own_share_also_where_their_events_go_together(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=2)
    one, other = await new_id(connection), await new_id(connection)
    sent = ["a1", "a2", "a3", "b1", "b2", "n1", "n2", "n3"]
    assert await send(connection, *sent, senders=[(one, 3), (other, 2), (None, 3)]) == ["a3"]
    # known ones need no room
    assert await send(connection, *sent, senders=[(other, 8)]) == ["a3"]


async def test_in_all_so_many_are_registered_while_nobody_places_or_names_them(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=100, max_unplaced=3)
    assert await send(connection, "a", "b", "c", "d") == ["d"]
    verdicts = await calls.record_events(connection, ["d"], [NOON], [1], [0])
    assert "there are 3 DPUs already that nobody has placed or named" in verdicts[0].detail
    await calls.record_heartbeats(connection, ["e"], [None], [NOON])

    # whoever registers them by name is not bounded, and a place or a name makes room for others
    await apply_site(
        connection,
        spaces=[{"id": "hall"}],
        doorways=[{"id": "front", "sides": [None, "hall"]}],
        dpus=[{"id": "a", "name": "A"}, {"id": "d"}],
        placements=[{"dpu": "b", "doorway": "front", "mounted_in": "hall", "from": "2020-01-01T00:00:00Z"}],
    )
    await connection.execute("update core.registration set counted_at = counted_at - interval '11 seconds'")
    assert await send(connection, "d", "f", "g") == ["g"]
    assert await registered(connection) == {"a", "b", "c", "d", "f"}


async def test_heartbeats_register_as_few(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=2)
    token = await new_id(connection)
    rows = await calls.record_heartbeats(
        connection,
        ["x", None, None],
        [None, "02:00:00:00:00:01", "02:00:00:00:00:02"],
        [NOON] * 3,
        senders=[token],
        sender_sizes=[3],
    )
    assert [row.verdict for row in rows] == ["unknown_dpu" if row.dpu is None else None for row in rows]
    assert sum(row.dpu is not None for row in rows) == 2
    assert "(2 at once, and 0 an hour)" in str([row.detail for row in rows])
    assert len(await registered(connection)) == 2
    assert await hear(connection, ("y", NOON)) == [None]


async def test_what_is_refused_is_taken_once_there_is_room(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=0)
    token = await new_id(connection)
    assert await send(connection, "a", senders=[(token, 1)]) == ["a"]
    await allow(connection, burst=1, per_hour=1)
    await connection.execute("update core.registrar set at = at - interval '1 hour'")
    assert await send(connection, "a", senders=[(token, 1)]) == []
    assert await connection.fetchval("select count(*) from core.event") == 1


@pytest.mark.measured
async def test_many_new_ones_do_not_read_the_others_again_and_again(connection: asyncpg.Connection) -> None:
    """Also where the tables were small when they were analyzed."""
    await allow(connection, burst=10_000, max_unplaced=10_000)
    await send(connection, *(f"first-{n}" for n in range(60)))
    await connection.execute("analyze core.dpu")
    for group in range(6):  # from then on the plan is kept
        await send(connection, *(f"{group}-{n}" for n in range(200)))
    async with connection.transaction():
        before = await count_read(connection)
        await send(connection, *(f"last-{n}" for n in range(200)))
        read = await count_read(connection) - before
    assert read["dpu"] < 10_000


@pytest.mark.concurrency
async def test_the_bound_holds_over_processes(connection: asyncpg.Connection, database_url: str) -> None:
    await allow(connection, burst=20)
    token = await new_id(connection)
    others = [await asyncpg.connect(database_url) for _ in range(4)]
    try:
        await asyncio.gather(
            *(
                send(other, *(f"{number}-{n}" for n in range(10)), senders=[(token, 10)])
                for number, other in enumerate(others)
            )
        )
    finally:
        for other in others:
            await other.close()
    assert len(await registered(connection)) == 20


async def poll(connection: asyncpg.Connection, *spaces: str, sender: str | None = None) -> list[str]:
    """Records a poll of each; returns the spaces that are not created, in their order."""
    times = [await connection.fetchval("select clock_timestamp()")] * len(spaces)
    verdicts = await calls.record_polls(connection, spaces, times, [True] * len(spaces), sender=sender)
    assert {verdict.verdict for verdict in verdicts} <= {"unknown_space"}
    return [spaces[verdict.index] for verdict in verdicts]


async def spaces_of(connection: asyncpg.Connection) -> set[str]:
    return {row["id"] for row in await connection.fetch("select id from core.space")}


async def test_by_default_twenty_thousand_sites_can_be_polled_at_once(connection: asyncpg.Connection) -> None:
    token = await new_id(connection)
    for batch in range(2):
        assert await poll(connection, *(f"{batch}-{number}" for number in range(10_000)), sender=token) == []
    refused = await poll(connection, *(f"more-{number}" for number in range(2_000)), sender=token)
    assert len(refused) > 1_000  # some were earned meanwhile


async def test_polls_of_a_token_make_so_many_spaces_and_as_many_an_hour_as_are_set(
    connection: asyncpg.Connection,
) -> None:
    await allow(connection, burst=3, per_hour=2)
    token, other = await new_id(connection), await new_id(connection)
    assert await poll(connection, "d", "b", "a", "c", sender=token) == ["d"]
    (refused,) = await connection.fetch("select code, space, detail from core.rejected_poll")
    assert (refused["code"], refused["space"]) == ("unknown_space", "d")
    assert "(3 at once, and 2 an hour)" in refused["detail"]
    assert "PUT /v1/spaces/{id}" in refused["detail"]
    assert await poll(connection, "a", "d", sender=token) == ["d"]  # known ones need no room
    # DPUs have a share of their own, and so has each token
    assert await send(connection, "x", "y", "z", senders=[(token, 3)]) == []
    assert await poll(connection, "d", "o1", "o2", "o3", sender=other) == ["o3"]

    await connection.execute("update core.space_registrar set at = at - interval '90 minutes'")
    assert await poll(connection, "e", "f", "g", "h", sender=token) == ["h"]


async def test_in_all_polls_make_so_many_spaces_that_nobody_names(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=100, max_unnamed=4)
    assert await poll(connection, "a", "b", "c", "d", "e") == ["e"]
    times = [await connection.fetchval("select clock_timestamp()")]
    verdicts = await calls.record_polls(connection, ["e"], times, [True])
    assert "there are 4 spaces already that polls made and nobody has named" in verdicts[0].detail

    # whoever names them is not bounded, nor is an import, and what somebody has set up makes room for others
    await apply_site(
        connection, spaces=[{"id": "e"}, {"id": "a", "name": "A"}, {"id": "site"}, {"id": "b", "parent": "site"}]
    )
    await connection.execute("select api.put_space('c', '{\"time_zone\": \"Europe/Berlin\"}')")
    imported = [f"store-{n}" for n in range(9)]
    assert await calls.record_polls(connection, imported, times * 9, [True] * 9, assumed_zone="America/Chicago") == []
    await connection.execute("update core.space_registration set counted_at = now() - interval '11 seconds'")
    assert await poll(connection, "e", "f", "g", "h", "i") == ["i"]
    assert {"d", "e", "f", "g", "h", *imported} <= await spaces_of(connection)


async def test_spaces_that_polls_made_are_retired_at_once(connection: asyncpg.Connection) -> None:
    await allow(connection, burst=100, max_unnamed=3)
    assert await poll(connection, "a", "b", "c") == []
    await apply_site(connection, spaces=[{"id": "a", "name": "A"}, {"id": "site"}, {"id": "room", "parent": "site"}])
    cursor = await connection.fetchval("select cursor from api.list_changes()")
    assert await connection.fetchval("select core.retire_unnamed_spaces()") == 2
    changes = await calls.list_changes(connection, cursor)
    assert sorted(changes.spaces) == ["b", "c"]
    listed = await connection.fetch("select id, retired_at is null as is_used from core.space order by id")
    assert [row["id"] for row in listed if row["is_used"]] == ["a", "room", "site"]
    assert await connection.fetchval("select count(*) from core.poll") == 3
    # there is room again at once
    assert await poll(connection, "d", "e", "f", "g") == ["g"]


@pytest.mark.measured
async def test_many_new_spaces_do_not_read_the_others_again_and_again(connection: asyncpg.Connection) -> None:
    """Also where the tables were small when they were analyzed."""
    await allow(connection, burst=10_000, max_unnamed=10_000)
    await poll(connection, *(f"first-{n}" for n in range(60)))
    await connection.execute("analyze core.space")
    for group in range(6):  # from then on the plan is kept
        await poll(connection, *(f"{group}-{n}" for n in range(200)))
    async with connection.transaction():
        before = await count_read(connection)
        await poll(connection, *(f"last-{n}" for n in range(200)))
        read = await count_read(connection) - before
    assert read["space"] < 10_000


@pytest.mark.concurrency
@pytest.mark.parametrize(("burst", "most"), [(1, 1000), (5, 1)])
async def test_who_may_register_none_waits_for_nobody(
    connection: asyncpg.Connection, database_url: str, burst: int, most: int
) -> None:
    """One token could hold up all others by sending unknown ones on and on, which are refused."""
    await allow(connection, burst=burst, max_unplaced=most, max_unnamed=most)
    token, other = await new_id(connection), await asyncpg.connect(database_url)
    assert await poll(connection, "space", sender=token) == []
    assert await send(connection, "dpu", senders=[(token, 1)]) == []
    try:
        await other.execute("set lock_timeout = '2s'")
        async with connection.transaction():
            await connection.execute("select from core.registration, core.space_registration for update")
            assert await poll(other, "x", "space", sender=token) == ["x"]
            assert await send(other, "x", "dpu", "y", senders=[(token, 3)]) == ["x", "y"]
    finally:
        await other.close()
    detail = "1 at once, and 0 an hour" if burst == 1 else "there are 1 "
    for kind in ("event", "poll"):
        (refused,) = await connection.fetch(f"select distinct detail from core.rejected_{kind}")
        assert detail in refused["detail"]


@pytest.mark.concurrency
async def test_events_register_dpus_while_polls_make_spaces(connection: asyncpg.Connection, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    try:
        await other.execute("set lock_timeout = '2s'")
        async with connection.transaction():
            assert await poll(connection, "space") == []
            assert await send(other, "dpu") == []
    finally:
        await other.close()


@pytest.mark.concurrency
async def test_the_bound_on_spaces_holds_over_processes(connection: asyncpg.Connection, database_url: str) -> None:
    await allow(connection, burst=20)
    token = await new_id(connection)
    others = [await asyncpg.connect(database_url) for _ in range(4)]
    try:
        await asyncio.gather(
            *(poll(other, *(f"{number}-{n}" for n in range(10)), sender=token) for number, other in enumerate(others))
        )
    finally:
        for other in others:
            await other.close()
    assert len(await spaces_of(connection)) == 20


async def test_it_takes_nothing_negative_and_leaves_what_is_set_already(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="negative"):
        await allow(connection, burst=-1)
    await allow(connection, burst=5)
    row = "select xmin::text, burst from core.registration"
    before = await connection.fetchrow(row)
    await allow(connection, burst=5)
    assert await connection.fetchrow(row) == before
    assert before is not None
    assert before["burst"] == 5
