import asyncpg
import pytest


@pytest.mark.parametrize("days", [8, 36_500, None])
async def test_it_holds_what_was_set(connection: asyncpg.Connection, days: int | None) -> None:
    await connection.execute("select api.set_retention(400)")
    assert tuple(await connection.fetchrow("select * from api.set_retention($1)", days) or ()) == (days, None)
    assert tuple(await connection.fetchrow("select * from api.get_retention()") or ()) == (days, None)


@pytest.mark.parametrize("days", [7, 0, -1, 36_501])
async def test_it_refuses_to_drop_what_is_hardly_in_yet(connection: asyncpg.Connection, days: int) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.execute("select api.set_retention($1)", days)
    assert getattr(refused.value, "sqlstate", None) == "PT422"
    assert getattr(refused.value, "detail", None) == "days"
