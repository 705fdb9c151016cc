"""Clients share one backend session; each must still find its own settings, role and reset."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from tests.embedded.conftest import Connect, fetch_tuple

SEEN = """
select current_user::text, session_user::text, current_setting('application_name'),
  current_setting('statement_timeout')"""


@pytest_asyncio.fixture
async def role(connect: Connect, schema: str) -> AsyncIterator[str]:
    owner = await connect()
    await owner.execute("create role headcount_service")
    yield "headcount_service"
    await owner.execute("drop owned by headcount_service; drop role headcount_service")


@pytest_asyncio.fixture
async def service(connect: Connect, role: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connected as the service connects."""
    return await connect(server_settings={"role": role, "application_name": "headcount", "statement_timeout": "30s"})


async def test_a_client_keeps_the_role_and_settings_it_connected_with(
    connect: Connect, service: asyncpg.Connection[asyncpg.Record]
) -> None:
    other = await connect()
    for _ in range(3):
        assert await fetch_tuple(service, SEEN) == ("headcount_service", "postgres", "headcount", "30s")
        assert await fetch_tuple(other, SEEN) == ("postgres", "postgres", "", "0")


async def test_transactions_of_clients_with_and_without_a_role_alternate(
    connect: Connect, service: asyncpg.Connection[asyncpg.Record]
) -> None:
    other = await connect()
    for _ in range(3):
        for client, user in ((service, "headcount_service"), (other, "postgres")):
            async with client.transaction():
                assert await client.fetchval("select current_user::text") == user
                assert await client.fetchval("select current_user::text") == user


@pytest.mark.parametrize("reset", ["reset all", "reset role", "discard all"])
async def test_a_reset_brings_back_the_role_and_settings_a_client_connected_with(
    connect: Connect, service: asyncpg.Connection[asyncpg.Record], reset: str
) -> None:
    other = await connect()
    await service.execute("set statement_timeout = '7s'")
    await service.execute("reset statement_timeout")
    await service.execute(reset)
    assert await other.fetchval("select current_user::text") == "postgres"
    assert await fetch_tuple(service, SEEN) == ("headcount_service", "postgres", "headcount", "30s")


async def test_a_role_set_later_is_the_clients_own(
    connect: Connect, service: asyncpg.Connection[asyncpg.Record]
) -> None:
    other = await connect()
    await other.execute("set role headcount_service")
    await service.execute("set role none")
    assert await other.fetchval("select current_user::text") == "headcount_service"
    assert await service.fetchval("select current_user::text") == "postgres"
    await other.execute("reset role")
    await service.execute("reset role")
    assert await other.fetchval("select current_user::text") == "postgres"
    assert await service.fetchval("select current_user::text") == "headcount_service"


async def test_the_role_decides_what_is_allowed(connect: Connect, service: asyncpg.Connection[asyncpg.Record]) -> None:
    other = await connect()
    await other.execute(
        """
        create table s.secret (x int);
        create function s.keep(x int) returns bigint language sql security definer
          set search_path = s, pg_temp
        return (select count(*) from s.secret) + x;
        create function s.add(x int) returns text language plpgsql security definer
          set search_path = s, pg_temp set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
        as $$ begin
          perform pg_advisory_xact_lock(1, x);
          insert into secret values (x);
          return current_user || current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction');
        end $$;
        grant usage on schema s to headcount_service;
        """
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute("insert into s.secret values (1)")
    assert await service.fetchval("select s.add(1)") == "postgres0"
    assert await other.fetchval("select s.keep(1)") == 2
    assert await service.fetchval("select s.keep(1)") == 2
    assert await service.fetchval("select current_user::text") == "headcount_service"
    setting = "select current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction')"
    assert await service.fetchval(setting) == await other.fetchval(setting) == "100000"


async def test_custom_settings_are_each_clients_own(connect: Connect) -> None:
    a, b = await connect(), await connect()
    c, start = await connect(server_settings={"my.start": "three"}), "select current_setting('my.start', true)"
    seen = "select current_setting('my.x', true)"
    await a.execute("select set_config('my.x', 'one', false)")
    await b.execute("set my.x = 'two'")
    await c.execute("set timezone = 'Europe/Berlin'")
    for _ in range(2):
        assert [await client.fetchval(seen) or "" for client in (a, b, c)] == ["one", "two", ""]
        assert [await client.fetchval(start) or "" for client in (a, b, c)] == ["", "", "three"]
    await a.execute("reset all")
    assert not await a.fetchval(seen)
    assert (await b.fetchval(seen), await c.fetchval(start)) == ("two", "three")


async def test_settings_of_a_transaction_end_with_it(connect: Connect) -> None:
    a, b = await connect(), await connect()
    async with a.transaction():
        await a.execute("select set_config('my.y', 'mine', true)")
        await a.execute("set local timezone = 'Asia/Tokyo'")
        assert await a.fetchval("select current_setting('my.y') || current_setting('timezone')") == "mineAsia/Tokyo"
    assert await b.fetchval("select current_setting('timezone')") == "UTC"
    assert await a.fetchval("select coalesce(current_setting('my.y', true), '')") == ""


async def test_every_client_finds_the_settings_of_an_ordinary_server(connect: Connect) -> None:
    a, other = await connect(), await connect()
    seen = """
        select current_setting('enable_seqscan'), current_setting('allow_system_table_mods'),
          current_setting('timezone'), current_setting('search_path'),
          current_setting('client_min_messages')"""
    ordinary = ("on", "off", "UTC", '"$user", public', "notice")
    assert await fetch_tuple(a, seen) == ordinary
    await a.execute("set enable_seqscan = off; set timezone = 'Asia/Tokyo'")
    assert await fetch_tuple(other, seen) == ordinary
    await a.execute("reset all")
    assert await fetch_tuple(a, seen) == ordinary


async def test_a_pooled_connection_is_reset_when_it_is_released(url: str) -> None:
    settings = {"application_name": "pooled", "timezone": "Europe/Berlin"}
    async with asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=settings) as pool:
        async with pool.acquire() as a:
            await a.execute("set my.z = 'left'; set timezone = 'Asia/Tokyo'")
        async with pool.acquire() as a:
            assert await fetch_tuple(
                a,
                "select coalesce(current_setting('my.z', true), ''), current_setting('timezone'),"
                " current_setting('application_name')",
            ) == ("", "Europe/Berlin", "pooled")


async def test_a_client_is_told_its_own_parameters(connect: Connect) -> None:
    a = await connect(server_settings={"timezone": "Asia/Tokyo", "application_name": "a"})
    assert await a.fetchval("select 1") == 1
    b = await connect()
    assert a.get_settings().TimeZone == "Asia/Tokyo"
    assert b.get_settings().TimeZone == "UTC"


async def test_a_client_may_connect_as_another_user(connect: Connect, role: str) -> None:
    owner = await connect()
    await owner.execute("alter role headcount_service login")
    a = await connect(user=role)
    assert await fetch_tuple(owner, "select current_user::text, session_user::text") == (
        "postgres",
        "postgres",
    )
    assert await fetch_tuple(a, "select current_user::text, session_user::text") == (role, role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await a.execute("create table s.t (x int)")
    await a.execute("reset all")
    assert await a.fetchval("select current_user::text") == role


async def test_it_refuses_an_unknown_role(connect: Connect) -> None:
    a = await connect(server_settings={"role": "nobody_at_all"})
    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="nobody_at_all"):
        await a.fetchval("select current_user::text")
