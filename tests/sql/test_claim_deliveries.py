"""api.claim_deliveries: who sends what, and in which order."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

import asyncpg
import pytest

from headcount.database import calls
from headcount.wire.messages.notices import ClaimRow
from tests.factories import NOON, apply_site
from tests.notices.support import hasten, log, make_channel, tell, tell_all
from tests.sql.test_large_fleet import read_by

pytestmark = [pytest.mark.measured, pytest.mark.slow]


async def finish(connection: asyncpg.Connection, claim: ClaimRow, is_delivered: bool = True) -> str | None:
    return await calls.finish_delivery(connection, claim.delivery, claim.claim, is_delivered, NOON, 5)


async def put_off(connection: asyncpg.Connection) -> None:
    """What waits for its next try is due in an hour, and not while the test is under way."""
    await connection.execute(
        "update core.delivery set due_at = due_at + interval '1 hour' where state = 'pending' and tries > 0"
    )


async def test_it_gives_what_is_needed_to_send_it(connection: asyncpg.Connection) -> None:
    secret = "whsec_" + "QUJD" * 8
    await make_channel(connection, secret=secret)
    await tell(connection, "offline")
    (claim,) = await calls.claim_deliveries(connection, 10)
    assert (claim.kind, claim.channel, claim.channel_kind, claim.secret) == ("offline", "hook", "webhook", secret)
    assert claim.url == "https://receiver.example/hook"
    assert '"dpu_count"' in claim.details
    assert claim.notice.startswith("msg_")
    assert secret not in repr(claim)


async def test_what_is_claimed_is_left_alone_until_the_lease_runs_out(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    (first,) = await calls.claim_deliveries(connection, 10, 60)
    assert await calls.claim_deliveries(connection, 10) == []
    await connection.execute("update core.delivery set due_at = now()")
    (second,) = await calls.claim_deliveries(connection, 10)
    assert (first.notice, first.delivery) == (second.notice, second.delivery)
    assert first.claim != second.claim
    assert await finish(connection, first, is_delivered=False) == "pending"
    assert await calls.claim_deliveries(connection, 10) == [], "what the first one says costs the second nothing"
    assert await finish(connection, second) == "delivered"
    assert await calls.claim_deliveries(connection, 10) == []


async def test_what_arrived_has_arrived_whoever_sent_it(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    (first,) = await calls.claim_deliveries(connection, 10)
    await connection.execute("update core.delivery set due_at = now()")
    (second,) = await calls.claim_deliveries(connection, 10)
    assert await finish(connection, first) == "delivered"
    assert await finish(connection, second, is_delivered=False) == "delivered"
    (row,) = await calls.list_deliveries(connection)
    assert [found.delivered for found in row.tries] == [True, False]


async def test_of_one_incident_the_later_waits_for_the_earlier(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell_all(connection, [("offline", 1, None), ("online", 1, None), ("offline", 2, None)])
    claims = await calls.claim_deliveries(connection, 10)
    assert [claim.kind for claim in claims] == ["offline", "offline"]
    await finish(connection, claims[1])
    await finish(connection, claims[0], is_delivered=False)
    await put_off(connection)
    assert await calls.claim_deliveries(connection, 10) == []
    due = await connection.fetch("select due_at from core.delivery where state = 'pending'")
    assert due[0] == due[1], "it is not looked at again before that"
    await hasten(connection)
    (again,) = await calls.claim_deliveries(connection, 10)
    assert again.delivery == claims[0].delivery
    await finish(connection, again)
    (later,) = await calls.claim_deliveries(connection, 10)
    assert later.kind == "online", "at once, not when it was put off to"


async def test_what_is_given_up_holds_up_nothing(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell_all(connection, [("offline", 1, None), ("online", 1, None)])
    (claim,) = await calls.claim_deliveries(connection, 10)
    await connection.execute("update core.delivery set give_up_at = now() where delivery_id = $1", claim.delivery)
    assert await finish(connection, claim, is_delivered=False) == "failed"
    (later,) = await calls.claim_deliveries(connection, 10)
    assert later.kind == "online"


async def test_other_channels_do_not_wait(connection: asyncpg.Connection) -> None:
    await make_channel(connection, "slow")
    await make_channel(connection, "quick")
    for number in range(20):
        await tell(connection, "offline", number)
    first = await calls.claim_deliveries(connection, 100)
    assert Counter(claim.channel for claim in first) == {"slow": 4, "quick": 4}
    for claim in first:
        if claim.channel == "quick":
            await finish(connection, claim)
    second = await calls.claim_deliveries(connection, 100)
    assert Counter(claim.channel for claim in second) == {"quick": 4}


async def test_few_places_are_shared_by_all_channels(connection: asyncpg.Connection) -> None:
    for name in ("a", "b", "c"):
        await make_channel(connection, name)
    for number in range(5):
        await tell(connection, "offline", number)
    claims = await calls.claim_deliveries(connection, 3)
    assert sorted(claim.channel for claim in claims) == ["a", "b", "c"]


async def test_a_channel_that_fails_is_tried_with_one_at_a_time(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    for number in range(9):
        await tell(connection, "offline", number)
    for claim in await calls.claim_deliveries(connection, 100):
        await finish(connection, claim, is_delivered=False)
    await put_off(connection)
    failing_since = (await calls.get_channel(connection, "hook")).failing_since
    assert failing_since
    (claim,) = await calls.claim_deliveries(connection, 100)
    await finish(connection, claim, is_delivered=False)
    await put_off(connection)
    assert (await calls.get_channel(connection, "hook")).failing_since == failing_since
    (claim,) = await calls.claim_deliveries(connection, 100)
    await finish(connection, claim)
    assert (await calls.get_channel(connection, "hook")).failing_since is None
    assert len(await calls.claim_deliveries(connection, 100)) == 3


async def test_outages_come_before_capacity_however_much_of_it_waits(connection: asyncpg.Connection) -> None:
    spaces = [f"room-{number:03}" for number in range(250)]
    await apply_site(connection, spaces=[{"id": space} for space in spaces])
    await make_channel(connection)
    await tell_all(connection, [("over_capacity", None, space) for space in spaces])
    for kind in ("offline", "online"):
        await tell_all(connection, [(kind, incident, None) for incident in range(3)])
    subjects = []
    for _ in range(3):
        claims = await calls.claim_deliveries(connection, 100)
        subjects.append([claim.kind for claim in claims])
        assert [claim.delivery for claim in claims] == sorted(claim.delivery for claim in claims)
        for claim in claims:
            await finish(connection, claim)
    assert subjects == [["over_capacity", *["offline"] * 3], ["over_capacity", *["online"] * 3], ["over_capacity"] * 4]
    told = await connection.fetch(
        "select s.id from core.delivery d join core.notice n using (notice_id) join core.space s using (space_id) "
        "where d.tries > 0 order by d.delivery_id"
    )
    assert [row["id"] for row in told] == spaces[:6], "each kind in its order"


async def test_it_is_cheap_where_there_is_nothing_to_do(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    (claim,) = await calls.claim_deliveries(connection, 10)
    await finish(connection, claim)
    written = "select pg_current_wal_insert_lsn()"  # also by others on this server, now and then
    for _ in range(100):
        before = await connection.fetchval(written)
        assert await calls.claim_deliveries(connection, 10) == []
        if await connection.fetchval(written) == before:
            return
    pytest.fail("something is written each time")


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
@pytest.mark.parametrize("is_failing", [True, False])
async def test_it_costs_the_same_however_much_waits(
    connection: asyncpg.Connection, is_failing: bool, plans: str
) -> None:
    await make_channel(connection)
    await connection.execute(f"set plan_cache_mode = {plans}")
    try:
        read = []
        for waiting in (150, 2400):
            for first in range(0, waiting, 30):  # each incident waits with its end
                notices: list[tuple[str, int | None, str | None]] = [
                    (kind, waiting + first + n, None) for n in range(30) for kind in ("offline", "online")
                ]
                await tell_all(connection, notices)
            if is_failing:
                await connection.execute("update core.channel set failing_since = now()")
            # in the midst of it, when some were tried
            for claim in await calls.claim_deliveries(connection, 100):
                await finish(connection, claim, is_delivered=not is_failing)
            rows = await read_by(connection, "select * from api.claim_deliveries(100)")
            assert await connection.fetchval("select count(*) from core.delivery where claim is not null") >= 1
            read.append(rows["delivery"])
            await connection.execute("update core.delivery set state = 'cancelled', settled_at = now(), claim = null")
        assert read[1] <= read[0] + 100 < 1000  # of sixteen times as many
    finally:
        await connection.execute("reset plan_cache_mode")


async def test_what_waits_for_another_is_passed_over_also_where_that_is_much(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell_all(connection, [("offline" if n % 2 == 0 else "online", 1, None) for n in range(250)])
    await tell(connection, "offline", 2)
    incidents: set[str | None] = set()
    for _ in range(4):
        for claim in await calls.claim_deliveries(connection, 10):
            incidents.add(
                await connection.fetchval("select subject from core.delivery where delivery_id = $1", claim.delivery)
            )
    assert incidents == {"incident 1", "incident 2"}


@pytest.mark.concurrency
async def test_three_at_once_take_each_delivery_once_and_keep_the_order_and_the_limits(
    connection: asyncpg.Connection, database_url: str
) -> None:
    for name in ("a", "b"):
        await make_channel(connection, name)
    for number in range(40):
        await tell_all(connection, [("offline", number, None), ("online", number, None)])
    told: list[tuple[str, str, int]] = []
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def send_all() -> None:
        session = await asyncpg.connect(database_url)
        try:
            idle = 0
            while idle < 20:
                claims = await calls.claim_deliveries(session, 10)
                idle = 0 if claims else idle + 1
                for claim in claims:
                    under_way[claim.channel] += 1
                    most[claim.channel] = max(most[claim.channel], under_way[claim.channel])
                await asyncio.sleep(0.005)
                for claim in claims:
                    told.append((claim.channel, claim.kind, claim.delivery))
                    under_way[claim.channel] -= 1
                    await finish(session, claim)
        finally:
            await session.close()

    await asyncio.gather(*(send_all() for _ in range(3)))
    assert len(told) == len(set(told)) == 160
    assert {state for _, _, state, _ in await log(connection)} == {"delivered"}
    assert max(most.values()) <= 4
    order = {delivery: place for place, (_, _, delivery) in enumerate(told)}
    rows = await connection.fetch("select delivery_id, channel_id, subject from core.delivery order by delivery_id")
    last: dict[tuple[int, str], int] = {}
    for delivery, channel, subject in rows:
        assert last.get((channel, subject), -1) < order[delivery]
        last[channel, subject] = order[delivery]


@pytest.mark.concurrency
async def test_a_correction_and_a_claim_at_the_same_time_end_in_all_or_nothing(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await make_channel(connection)
    other = await asyncpg.connect(database_url)
    try:
        for number in range(30):
            await tell(connection, "offline", number)
            _, claims = await asyncio.gather(tell(connection, "correction", number), calls.claim_deliveries(other, 10))
            states = [state for _, _, state, _ in (await log(connection))[-2:]]
            assert states == (["pending", "pending"] if claims else ["cancelled", "cancelled"])
            for claim in claims:
                await finish(other, claim)
            for claim in await calls.claim_deliveries(other, 10):
                await finish(other, claim)
    finally:
        await other.close()


async def as_family(connection: asyncpg.Connection, channels: Sequence[str], space: str = "own") -> None:
    """Makes these channels by a token of that space, and then one below that."""
    await connection.execute("select api.put_space($1, '{}')", space)
    maker = await calls.create_token(connection, os.urandom(32), ["admin"], space=space)
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", maker.id)
        child = await calls.create_token(connection, os.urandom(32), ["admin"])
    for number, channel in enumerate(channels):
        async with connection.transaction():
            await connection.execute("select set_config('headcount.token', $1, true)", (maker, child)[number % 2].id)
            await make_channel(connection, channel, under=space)


async def test_a_family_of_limited_tokens_has_a_part_only_and_a_bounded_number_of_channels(
    connection: asyncpg.Connection,
) -> None:
    await as_family(connection, [f"slow-{number}" for number in range(20)])
    with pytest.raises(asyncpg.PostgresError, match="have 20 channels") as raised:
        await as_family_again(connection, "slow-20")
    assert raised.value.sqlstate == "PT409"
    await as_family_again(connection, "slow-0")  # what is there can be changed
    await make_channel(connection, "quick")
    await tell_all(connection, [("offline", number, "own") for number in range(10)])
    claims = await calls.claim_deliveries(connection, 100)
    assert Counter("quick" if claim.channel == "quick" else "slow" for claim in claims) == {"slow": 25, "quick": 4}
    assert await calls.claim_deliveries(connection, 100) == [], "as long as these are under way"
    await finish(connection, next(claim for claim in claims if claim.channel != "quick"))
    assert len(await calls.claim_deliveries(connection, 100)) == 1
    await connection.execute("select api.delete_channel('slow-0')")
    await as_family_again(connection, "slow-20")


async def as_family_again(connection: asyncpg.Connection, channel: str) -> None:
    token = await connection.fetchval(
        "select id from core.token where token_id = (select min(family_id) from core.channel)"
    )
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token)
        await make_channel(connection, channel)


async def test_it_names_the_first_of_the_family_that_made_the_channel(connection: asyncpg.Connection) -> None:
    await as_family(connection, ["limited"])
    await make_channel(connection, "anybodys")
    await tell(connection, "offline", 1, "own")
    first = await connection.fetchval(
        "select t.id from core.token t join core.channel c on c.family_id = t.token_id where c.id = 'limited'"
    )
    claims = {claim.channel: claim.family for claim in await calls.claim_deliveries(connection, 10)}
    assert claims == {"limited": first, "anybodys": None}
    assert (await calls.try_channel(connection, "limited")).family == first


async def test_families_take_turns(connection: asyncpg.Connection) -> None:
    await as_family(connection, [f"many-{number}" for number in range(20)])
    await tell_all(connection, [("offline", number, "own") for number in range(10)])
    await make_channel(connection, "late", under="own")
    await tell(connection, "offline", 11, "own")
    claims = await calls.claim_deliveries(connection, 2)
    assert {claim.channel for claim in claims} == {"many-0", "late"}


async def test_channels_that_fail_have_half_of_the_places_at_most(connection: asyncpg.Connection) -> None:
    for number in range(8):
        await make_channel(connection, f"failing-{number}")
    await connection.execute("update core.channel set failing_since = now()")
    await make_channel(connection, "well")
    await tell_all(connection, [("offline", number, None) for number in range(5)])
    claims = await calls.claim_deliveries(connection, 10, failing=5)
    assert Counter(claim.channel[:4] for claim in claims) == {"fail": 5, "well": 4}
    assert await calls.claim_deliveries(connection, 10, failing=5) == []
