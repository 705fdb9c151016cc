"""core.add_notices: who is told of what."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import apply_site
from tests.notices.support import log, make_channel, tell, tell_all


def closed_now() -> list[dict[str, object]]:
    """Opening hours of a second a day, half a day from now."""
    hour = (datetime.now(UTC).hour + 12) % 24
    return [{"day": day, "open": f"{hour:02}:00", "close": f"{hour:02}:00:01"} for day in range(7)]


async def build_campus(connection: asyncpg.Connection) -> None:
    await apply_site(
        connection,
        spaces=[
            {"id": "campus"},
            {"id": "house", "parent": "campus"},
            {"id": "room", "parent": "house"},
            {"id": "other", "parent": "campus"},
        ],
    )


async def set_state(connection: asyncpg.Connection, state: str, channel: str = "hook") -> None:
    """As if the newest delivery of a channel had come to this."""
    await connection.execute(
        """
        update core.delivery set state = $1, tries = 1, settled_at = case when $1 <> 'pending' then now() end
        where delivery_id = (
          select max(d.delivery_id) from core.delivery d join core.channel c using (channel_id) where c.id = $2)
        """,
        state,
        channel,
    )


async def test_a_channel_gets_the_kinds_that_its_events_stand_for(connection: asyncpg.Connection) -> None:
    await make_channel(connection, "all")
    for event in ("offline", "online", "over_capacity"):
        await make_channel(connection, event, events=[event])
    await tell_all(connection, [("offline", 1, None), ("online", 1, None)])
    assert await log(connection) == [
        ("all", "offline", "pending", None),
        ("offline", "offline", "pending", None),
        ("all", "online", "pending", None),
        ("online", "online", "pending", None),
    ]
    await connection.execute("truncate core.notice cascade")
    await apply_site(connection, spaces=[{"id": "room"}])
    await tell(connection, "over_capacity", None, "room")
    await tell(connection, "capacity_ok", None, "room")
    assert await log(connection) == [
        ("all", "over_capacity", "pending", None),
        ("over_capacity", "over_capacity", "pending", None),
        ("all", "capacity_ok", "pending", None),
        ("over_capacity", "capacity_ok", "pending", None),
    ]


async def test_every_channel_gets_the_same_notice_with_what_it_tells(connection: asyncpg.Connection) -> None:
    await make_channel(connection, "a")
    await make_channel(connection, "b")
    await apply_site(connection, spaces=[{"id": "room"}])
    await tell(connection, "offline", 7, "room", incident=7)
    b, a = await calls.list_deliveries(connection)
    assert a.notice == b.notice
    assert a.notice.startswith("msg_")
    assert (a.id, a.space, a.data["incident"], a.occurred_at) == ("1", "room", 7, datetime(2026, 3, 4, 12, tzinfo=UTC))
    await tell(connection, "offline", 8)
    assert (await calls.list_deliveries(connection))[0].notice != a.notice


async def test_under_a_space_a_channel_hears_of_that_and_what_lies_below(connection: asyncpg.Connection) -> None:
    await build_campus(connection)
    await make_channel(connection, "everything")
    await make_channel(connection, "below", under="house")
    spaces = ("campus", "house", "room", "other", None)
    await tell_all(connection, [("offline", number, space) for number, space in enumerate(spaces)])
    rows = await calls.list_deliveries(connection, "below")
    assert [row.space for row in reversed(rows)] == ["house", "room"]
    assert len(await calls.list_deliveries(connection, "everything")) == 5


async def test_a_muted_channel_is_told_nothing_and_the_log_says_why(connection: asyncpg.Connection) -> None:
    await make_channel(connection, "muted", muted_until=datetime.now(UTC) + timedelta(hours=1))
    await make_channel(connection, "no-longer", muted_until=datetime.now(UTC) - timedelta(seconds=1))
    await tell(connection, "offline")
    await tell(connection, "online")
    assert await log(connection, "muted") == [
        ("muted", "offline", "suppressed", "muted"),
        ("muted", "online", "suppressed", "not_told"),
    ]
    assert [state for _, _, state, _ in await log(connection, "no-longer")] == ["pending", "pending"]


async def test_where_it_is_closed_a_channel_that_wants_opening_hours_is_told_nothing(
    connection: asyncpg.Connection,
) -> None:
    await build_campus(connection)
    await apply_site(connection, spaces=[{"id": "house", "opening_hours": closed_now()}])
    await make_channel(connection, "hours", only_in_opening_hours=True)
    await make_channel(connection, "always")
    await tell_all(connection, [("offline", 1, "room"), ("offline", 2, "other"), ("offline", 3, None)])
    assert await log(connection, "hours") == [
        ("hours", "offline", "suppressed", "closed"),
        ("hours", "offline", "pending", None),
        ("hours", "offline", "pending", None),
    ]
    assert {state for _, _, state, _ in await log(connection, "always")} == {"pending"}


@pytest.mark.parametrize(("kind", "incident", "space"), [("online", 1, None), ("capacity_ok", None, "room")])
@pytest.mark.parametrize("state", ["pending", "delivered", "failed"])
async def test_whoever_was_told_of_the_beginning_is_told_of_the_end_whatever_holds_by_then(
    connection: asyncpg.Connection, kind: str, incident: int | None, space: str | None, state: str
) -> None:
    await build_campus(connection)
    await make_channel(connection)
    beginning = {"online": "offline", "capacity_ok": "over_capacity"}[kind]
    await tell(connection, beginning, incident, space)
    await set_state(connection, state)
    later = datetime.now(UTC) + timedelta(hours=1)
    await apply_site(connection, spaces=[{"id": "campus", "opening_hours": closed_now()}])
    await make_channel(connection, muted_until=later, only_in_opening_hours=True, under="other")
    await tell(connection, kind, incident, space)
    assert (await log(connection))[-1] == ("hook", kind, "pending", None)


async def test_whoever_was_not_there_at_the_beginning_is_not_told_of_the_end(connection: asyncpg.Connection) -> None:
    await tell(connection, "offline")
    await make_channel(connection, "later")
    await make_channel(connection, "ends-only", events=["online"])
    await tell(connection, "online")
    assert await log(connection) == [
        ("later", "online", "suppressed", "not_told"),
        ("ends-only", "online", "pending", None),
    ]


async def test_each_time_that_a_space_is_full_is_one_of_its_own(connection: asyncpg.Connection) -> None:
    await build_campus(connection)
    await make_channel(connection, muted_until=datetime.now(UTC) + timedelta(hours=1))
    await tell(connection, "over_capacity", None, "room")
    await tell(connection, "capacity_ok", None, "room")
    await make_channel(connection, muted_until=None)
    await tell(connection, "over_capacity", None, "room")
    await tell(connection, "capacity_ok", None, "room")
    assert [found[1:] for found in await log(connection)] == [
        ("over_capacity", "suppressed", "muted"),
        ("capacity_ok", "suppressed", "not_told"),
        ("over_capacity", "pending", None),
        ("capacity_ok", "pending", None),
    ]


async def test_a_correction_of_what_nobody_has_heard_of_yet_cancels_it(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell_all(connection, [("offline", 1, None), ("offline", 2, None), ("online", 1, None)])
    await tell(connection, "correction", 1)
    assert [found[1:] for found in await log(connection)] == [
        ("offline", "cancelled", "corrected"),
        ("offline", "pending", None),
        ("online", "cancelled", "corrected"),
        ("correction", "cancelled", "corrected"),
    ]


@pytest.mark.parametrize("state", ["pending", "delivered", "failed"])
async def test_a_correction_of_what_somebody_may_have_heard_of_is_told(
    connection: asyncpg.Connection, state: str
) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    await set_state(connection, state)
    await tell(connection, "online")
    await make_channel(connection, muted_until=datetime.now(UTC) + timedelta(hours=1))
    await tell(connection, "correction")
    assert [found[1:] for found in await log(connection)] == [
        ("offline", state, None),
        ("online", "pending", None),
        ("correction", "pending", None),
    ]


async def test_a_correction_of_what_is_being_sent_is_told(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    assert len(await calls.claim_deliveries(connection, 10)) == 1
    await tell(connection, "online")
    await tell(connection, "correction")
    assert [found[1:] for found in await log(connection)] == [
        ("offline", "pending", None),
        ("online", "pending", None),
        ("correction", "pending", None),
    ]


async def test_a_correction_of_what_was_suppressed_is_suppressed(connection: asyncpg.Connection) -> None:
    await make_channel(connection, muted_until=datetime.now(UTC) + timedelta(hours=1))
    await tell(connection, "offline")
    await make_channel(connection, muted_until=None)
    await tell(connection, "correction")
    assert [found[1:] for found in await log(connection)] == [
        ("offline", "suppressed", "muted"),
        ("correction", "suppressed", "not_told"),
    ]


async def test_notices_go_with_the_transaction_that_added_them(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    transaction = connection.transaction()
    await transaction.start()
    await tell(connection, "offline")
    await transaction.rollback()
    assert await log(connection) == []
    assert await connection.fetchval("select count(*) from core.notice") == 0


async def test_without_channels_nothing_waits(connection: asyncpg.Connection) -> None:
    await tell(connection, "offline")
    assert await connection.fetchval("select count(*) from core.delivery") == 0


async def test_notices_of_over_a_year_ago_are_forgotten(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await make_channel(connection, "gone")
    await tell_all(connection, [("offline", number, None) for number in range(3)])
    await calls.delete_channel(connection, "gone")
    await connection.execute(
        "update core.notice set created_at = created_at - interval '400 days' where incident_id < 2"
    )
    await connection.execute(
        "update core.channel set deleted_at = deleted_at - interval '400 days' where deleted_at is not null"
    )
    await connection.execute(
        "update core.delivery set state = 'failed', settled_at = now() where notice_id = 1 and state = 'pending'"
    )
    await connection.execute("select core.drop_old_notices()")
    assert await connection.fetchval("select array_agg(incident_id order by incident_id) from core.notice") == [1, 2]
    assert await connection.fetchval("select count(*) from core.channel") == 2
