"""What channels of limited tokens get within an hour has a bound, and what waits in vain is settled in parts."""

from datetime import timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import build_house
from tests.notices.support import log, make_channel, tell, tell_all

MOST = 1000


@pytest.fixture
async def house(connection: asyncpg.Connection) -> asyncpg.Connection:
    await build_house(connection)
    return connection


async def make_limited(connection: asyncpg.Connection, *names: str, **fields: object) -> str:
    """Channels of a token that is limited to the house; its id."""
    token = await calls.create_token(connection, names[0].encode().ljust(32, b"x"), ["admin"], space="house")
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token.id)
        for name in names:
            await make_channel(connection, name, **fields)
    return token.id


async def tell_many(connection: asyncpg.Connection, kind: str, number: int, first: int = 1) -> None:
    await tell_all(connection, [(kind, incident, "room") for incident in range(first, first + number)])


async def make_limited_mail(connection: asyncpg.Connection) -> None:
    """A channel for e-mail, of the first limited token."""
    token = await connection.fetchval("select id from core.token order by token_id limit 1")
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token)
        await make_channel(connection, "mail", kind="email", url=None, to="person@example.org", events=["offline"])


async def told_of(connection: asyncpg.Connection, incident: int) -> list[tuple[str, str]]:
    rows = await connection.fetch(
        """
        select c.id, d.state from core.delivery d join core.channel c using (channel_id)
        where d.subject = $1 order by 1
        """,
        f"incident {incident}",
    )
    return [(row[0], row[1]) for row in rows]


async def count(connection: asyncpg.Connection) -> dict[tuple[str, str, str, str | None], int]:
    rows = await connection.fetch(
        """
        select c.id, n.kind, d.state, d.reason, count(*)
        from core.delivery d join core.channel c using (channel_id) join core.notice n using (notice_id)
        group by 1, 2, 3, 4
        """
    )
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


async def pass_time(connection: asyncpg.Connection, time: timedelta) -> None:
    await connection.execute("update core.delivery_rate set since = since - $1::interval", time)


async def test_a_family_gets_so_many_within_an_hour_and_each_channel_says_once_that_it_has_no_more(
    house: asyncpg.Connection,
) -> None:
    await make_limited(house, "a", "b")
    await make_channel(house, "nobodys")
    await tell_many(house, "offline", MOST // 2 + 20)
    await tell_many(house, "offline", 5, MOST)
    half = MOST // 2
    expected = {
        ("a", "offline", "pending", None): half,
        ("b", "offline", "pending", None): half,
        ("a", "offline", "suppressed", "too_many"): 1,
        ("b", "offline", "suppressed", "too_many"): 1,
        ("nobodys", "offline", "pending", None): half + 25,
    }
    assert await count(house) == expected

    await pass_time(house, timedelta(minutes=59))
    await tell(house, "offline", 5000, "room")
    assert await count(house) == expected | {("nobodys", "offline", "pending", None): half + 26}
    await pass_time(house, timedelta(minutes=1))
    await tell(house, "offline", 5001, "room")
    assert (await log(house, "a"))[-1] == ("a", "offline", "pending", None)
    assert (await log(house, "b"))[-1] == ("b", "offline", "pending", None)


async def test_the_hour_of_one_family_is_not_that_of_another(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST + 10)
    await make_limited(house, "b")
    await tell(house, "offline", 5000, "room")
    assert await log(house, "b") == [("b", "offline", "pending", None)]


async def test_an_hour_that_began_ahead_of_the_clock_is_over(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST + 10)
    await pass_time(house, timedelta(hours=-2))
    await tell(house, "offline", 5000, "room")
    assert (await log(house, "a"))[-1] == ("a", "offline", "pending", None)


async def test_an_e_mail_counts_once_for_each_recipient(house: asyncpg.Connection) -> None:
    people = [f"person{number}@example.org" for number in range(50)]
    await make_limited(house, "mail", kind="email", url=None, to=people)
    await tell_many(house, "offline", 30)
    assert await count(house) == {
        ("mail", "offline", "pending", None): MOST // 50,
        ("mail", "offline", "suppressed", "too_many"): 1,
    }


async def test_the_end_of_what_was_told_is_told_beyond_that_and_no_other(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST + 10)
    await tell_many(house, "online", MOST + 10)
    assert await count(house) == {
        ("a", "offline", "pending", None): MOST,
        ("a", "offline", "suppressed", "too_many"): 1,
        ("a", "online", "pending", None): MOST,
        ("a", "online", "suppressed", "not_told"): 10,
    }


async def test_a_capacity_that_goes_up_and_down_makes_no_more_than_that(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    for _ in range(5):
        for kind in ("over_capacity", "capacity_ok"):
            await tell(house, kind, None, "room")
        await house.execute("update core.delivery_rate set deliveries = $1 where purpose = 'capacity'", MOST)
    assert [row[1:] for row in await log(house, "a")] == [
        ("over_capacity", "pending", None),
        ("capacity_ok", "pending", None),
        ("over_capacity", "suppressed", "too_many"),
        *[("capacity_ok", "suppressed", "not_told")] * 4,
    ]


async def test_outages_and_capacity_do_not_take_each_others_room(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST + 10)
    await tell(house, "over_capacity", None, "room")
    await tell(house, "capacity_ok", None, "room")
    assert (await log(house, "a"))[-2:] == [
        ("a", "over_capacity", "pending", None),
        ("a", "capacity_ok", "pending", None),
    ]


async def test_the_first_of_each_space_is_told_however_much_others_had(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await make_limited_mail(house)
    await tell_many(house, "offline", MOST + 10)
    for incident in (5000, 5001):
        await tell(house, "offline", incident, "house")
    assert await told_of(house, 5000) == [("a", "pending")]
    assert await told_of(house, 5001) == []


async def test_a_correction_of_what_was_told_is_told_beyond_that(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell(house, "offline", 1, "room")
    (claim,) = await calls.claim_deliveries(house, 10)
    await calls.finish_delivery(house, claim.delivery, claim.claim, True, claim.occurred_at, 1)
    await tell_many(house, "offline", MOST + 10, 2)
    await tell(house, "correction", 1, "room")
    assert (await log(house, "a"))[-1] == ("a", "correction", "pending", None)


async def test_a_notice_that_nobody_is_told_is_not_stored(house: asyncpg.Connection) -> None:
    await tell(house, "offline", 1, "room")
    assert await house.fetchval("select count(*) from core.notice") == 0
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST + 10)
    assert await house.fetchval("select count(*) from core.notice") == MOST + 1


async def test_what_is_muted_counts_as_well(house: asyncpg.Connection) -> None:
    await make_limited(house, "a", muted_until="2100-01-01T00:00:00Z")
    await tell_many(house, "offline", MOST + 10)
    assert await count(house) == {
        ("a", "offline", "suppressed", "muted"): MOST,
        ("a", "offline", "suppressed", "too_many"): 1,
    }


async def test_a_backlog_beyond_reach_is_cancelled_in_parts(house: asyncpg.Connection) -> None:
    token = await make_limited(house, "a")
    await tell_many(house, "offline", MOST)
    await pass_time(house, timedelta(hours=1))
    await tell_many(house, "offline", 300, MOST + 1)
    await calls.revoke_token(house, token)
    for cancelled in (MOST, MOST + 300):
        assert await calls.claim_deliveries(house, 100) == []
        assert (await count(house))["a", "offline", "cancelled", "out_of_reach"] == cancelled
    assert ("a", "offline", "pending", None) not in await count(house)


async def test_a_long_backlog_of_a_deleted_channel_is_cancelled_in_parts(house: asyncpg.Connection) -> None:
    await make_channel(house, "a")
    await tell_many(house, "offline", 10_500)
    await house.execute("select api.delete_channel('a')")
    assert (await count(house))["a", "offline", "cancelled", "channel_deleted"] == 10_000
    assert await calls.claim_deliveries(house, 100) == []
    assert await count(house) == {("a", "offline", "cancelled", "channel_deleted"): 10_500}


async def test_what_waits_too_long_behind_failures_is_given_up_without_a_try(house: asyncpg.Connection) -> None:
    await make_channel(house, "a")
    await tell_many(house, "offline", 50)
    (claim,) = await calls.claim_deliveries(house, 10, a_channel=1)
    await calls.finish_delivery(house, claim.delivery, claim.claim, False, claim.occurred_at, 1)
    await house.execute("update core.delivery set give_up_at = now() where delivery_id % 2 = 1")
    assert len(await calls.claim_deliveries(house, 10)) == 1
    assert await count(house) == {("a", "offline", "failed", None): 24, ("a", "offline", "pending", None): 26}


async def test_what_is_too_old_has_a_last_try_where_none_failed(house: asyncpg.Connection) -> None:
    await make_channel(house, "a")
    await tell_many(house, "offline", 3)
    await house.execute("update core.delivery set give_up_at = now()")
    assert len(await calls.claim_deliveries(house, 10)) == 3
