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
    }


async def test_a_capacity_that_goes_up_and_down_makes_no_more_than_that(house: asyncpg.Connection) -> None:
    await make_limited(house, "a")
    await tell_many(house, "offline", MOST - 1)
    for _ in range(5):
        for kind in ("over_capacity", "capacity_ok"):
            await tell(house, kind, None, "room")
    assert [row[1:] for row in (await log(house, "a"))[-3:]] == [
        ("over_capacity", "pending", None),
        ("capacity_ok", "pending", None),
        ("over_capacity", "suppressed", "too_many"),
    ]


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
