"""What asyncpg asks of the wire server, alone and with other clients in between."""

from __future__ import annotations

import asyncio
import io
import os
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
import pytest_asyncio

from tests.commands.support import PATIENCE
from tests.embedded.conftest import Connect, connecting, fetch_tuple, wait_until

START = datetime(2026, 1, 1, tzinfo=UTC)
READINGS = [(START + timedelta(seconds=i), i % 50, i * 0.5) for i in range(20_000)]


@pytest_asyncio.fixture
async def reading(connect: Connect, schema: str) -> None:
    """An empty hypertable, s.reading."""
    await (await connect()).execute(
        "create table s.reading (time timestamptz not null, device int, value float8);"
        "select create_hypertable('s.reading', 'time')"
    )


def as_text(separator: str) -> io.BytesIO:
    lines = (f"{time.isoformat()}{separator}{device}{separator}{value}\n" for time, device, value in READINGS)
    return io.BytesIO("".join(lines).encode())


# Bulk data


async def test_it_copies_binary_records_into_a_hypertable(connect: Connect, reading: None) -> None:
    a = await connect()
    assert await a.copy_records_to_table("reading", schema_name="s", records=READINGS) == "COPY 20000"
    row = await fetch_tuple(a, "select count(*), sum(value), max(time) from s.reading")
    assert row == (20_000, sum(value for _, _, value in READINGS), READINGS[-1][0])


@pytest.mark.parametrize(("form", "separator"), [("csv", ","), ("text", "\t")])
async def test_it_copies_text_into_a_hypertable(
    connect: Connect, reading: None, form: Literal["csv", "text"], separator: str
) -> None:
    a = await connect()
    await a.copy_to_table("reading", schema_name="s", source=as_text(separator), format=form)
    assert await a.fetchval("select sum(value) from s.reading") == sum(value for _, _, value in READINGS)


async def test_it_refuses_a_copy_with_a_bad_row_and_keeps_the_connection(connect: Connect, reading: None) -> None:
    a = await connect()
    rows = b"2026-01-01,1,1\nnot a date,2,2\n" + b"2026-01-01,1,1\n" * 50_000
    with pytest.raises(asyncpg.InvalidDatetimeFormatError):
        await a.copy_to_table("reading", schema_name="s", source=io.BytesIO(rows), format="csv")
    assert await a.fetchval("select count(*) from s.reading") == 0


async def test_it_copies_a_query_and_a_table_out(connect: Connect, reading: None, tmp_path: Path) -> None:
    a = await connect()
    await a.copy_records_to_table("reading", schema_name="s", records=READINGS)
    csv, binary = tmp_path / "csv", tmp_path / "binary"
    await a.copy_from_query("select * from s.reading", output=csv, format="csv")
    assert len(csv.read_text().splitlines()) == 20_000
    await a.copy_from_query("select * from s.reading", output=binary, format="binary")
    await a.copy_to_table("reading", schema_name="s", source=binary, format="binary")
    assert await a.fetchval("select count(*) from s.reading") == 40_000


async def test_it_fetches_a_million_rows(connect: Connect) -> None:
    a = await connect()
    rows = await a.fetch("select g, g::text from generate_series(1, 1000000) g")
    assert len(rows) == 1_000_000
    assert tuple(rows[-1]) == (1_000_000, "1000000")


async def test_it_takes_and_returns_large_parameters(connect: Connect) -> None:
    a = await connect()
    assert await a.fetchval("select length($1::text)", "y" * 50_000_000) == 50_000_000
    noise = os.urandom(5_000_000)
    assert await a.fetchval("select $1::bytea", noise) == noise


async def test_it_takes_arrays_of_ten_thousand_elements(connect: Connect, reading: None) -> None:
    a = await connect()
    times, devices, values = (list(column) for column in zip(*READINGS[:10_000], strict=True))
    await a.execute(
        "insert into s.reading select * from unnest($1::timestamptz[], $2::int[], $3::float8[])",
        times,
        devices,
        values,
    )
    assert await a.fetchval("select sum(value) from s.reading") == sum(values)
    rows = await a.fetch("select time, device, value from s.reading order by time")
    assert [tuple(row) for row in rows] == READINGS[:10_000]


async def test_it_runs_executemany(connect: Connect, reading: None) -> None:
    a = await connect()
    await a.executemany("insert into s.reading values ($1, $2, $3)", READINGS[:5000])
    assert await a.fetchval("select count(*) from s.reading") == 5000


async def test_it_carries_arrays_json_ranges_and_composites(connect: Connect, schema: str) -> None:
    a = await connect()
    await a.execute("create type s.pair as (a int, b text)")
    assert await a.fetchval("select array[1, 2, null]::int[]") == [1, 2, None]
    assert await a.fetchval("""select '{"a": 1}'::jsonb""") == '{"a": 1}'
    assert tuple(await a.fetchval("select row(1, 'x')::s.pair")) == (1, "x")
    assert await a.fetchval("select tstzrange('2026-01-01', '2026-01-02')") == asyncpg.Range(
        START, START + timedelta(days=1)
    )


async def test_it_runs_several_statements_in_one_text(connect: Connect, schema: str) -> None:
    a = await connect()
    await a.execute("create table s.t (x int); insert into s.t values (1); insert into s.t values (2)")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await a.execute("insert into s.t values (3); select 1 / 0")
    assert await a.fetchval("select sum(x) from s.t") == 3


# Transactions


async def test_it_iterates_a_cursor(connect: Connect) -> None:
    a = await connect()
    async with a.transaction():
        rows = [row async for row in a.cursor("select * from generate_series(1, 20000)", prefetch=500)]
    assert len(rows) == 20_000


async def test_it_rolls_back_to_a_savepoint(connect: Connect, schema: str) -> None:
    a = await connect()

    async def insert_and_fail() -> None:
        async with a.transaction():
            await a.execute("insert into s.t values (1)")
            await a.execute("select 1 / 0")

    async with a.transaction():
        await a.execute("create table s.t (x int)")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await insert_and_fail()
        await a.execute("insert into s.t values (2)")
    assert await a.fetchval("select sum(x) from s.t") == 2


async def test_it_lets_a_second_client_wait_for_an_open_transaction(connect: Connect) -> None:
    a, b = await connect(), await connect()
    async with a.transaction():
        await a.execute("select 1")
        waiting = asyncio.create_task(b.fetchval("select 2"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert await waiting == 2


async def test_it_rolls_back_when_a_client_dies_in_a_transaction(connect: Connect, schema: str) -> None:
    a, dying = await connect(), await connect()
    await a.execute("create table s.t (x int)")
    await dying.execute("begin")
    await dying.execute("insert into s.t values (1)")
    dying.terminate()
    assert await a.fetchval("select count(*) from s.t") == 0


@pytest_asyncio.fixture
async def connect_impatiently(impatient_url: str) -> AsyncIterator[Connect]:
    """To a database that soon ends whoever keeps others waiting."""
    async for connect in connecting(impatient_url):
        yield connect


async def test_it_ends_a_client_that_idles_in_a_transaction_while_others_wait(connect_impatiently: Connect) -> None:
    a, idle = await connect_impatiently(), await connect_impatiently()
    await a.execute("create table t (x int)")
    await idle.execute("begin")
    await idle.execute("insert into t values (1)")
    assert await a.fetchval("select count(*) from t") == 0
    with pytest.raises((asyncpg.IdleInTransactionSessionTimeoutError, asyncpg.InterfaceError)):
        await idle.execute("commit")
    assert idle.is_closed()


async def test_it_ends_a_client_that_stops_sending_a_copy_while_others_wait(connect_impatiently: Connect) -> None:
    a, idle = await connect_impatiently(), await connect_impatiently()
    await a.execute("create table t (x int)")
    is_begun = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"1\n" * 1000
        is_begun.set()
        await asyncio.Event().wait()
        yield b"1\n"

    copy = asyncio.create_task(idle.copy_to_table("t", source=source(), format="text"))
    await is_begun.wait()
    assert await asyncio.wait_for(a.fetchval("select count(*) from t"), PATIENCE) == 0
    copy.cancel()
    await asyncio.wait([copy])


async def test_it_lets_a_long_statement_run_while_others_wait(connect: Connect) -> None:
    a, b = await connect(), await connect()
    working = asyncio.create_task(
        a.execute("do $$ begin loop exit when clock_timestamp() > now() + interval '2 s'; end loop; end $$")
    )
    await asyncio.sleep(0.1)
    assert await b.fetchval("select 1") == 1
    assert await working == "DO"


async def test_a_nested_connection_fails_instead_of_hanging(impatient_url: str) -> None:
    async with asyncpg.create_pool(impatient_url, min_size=2, max_size=2) as pool:

        async def nest() -> None:
            async with pool.acquire() as outer, outer.transaction():
                await outer.execute("select 1")
                async with pool.acquire() as inner:
                    await asyncio.wait_for(inner.fetchval("select 1"), PATIENCE)
                await outer.execute("select 1")

        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await nest()


async def test_transfers_between_accounts_keep_the_total_while_clients_come_and_die(
    url: str, connect: Connect, schema: str
) -> None:
    """Transfers, failures, readers and dying clients at once: no reader ever sees a wrong total."""
    owner = await connect()
    await owner.execute("create table s.account (id int primary key, balance int)")
    await owner.execute("insert into s.account select g, 100 from generate_series(1, 20) g")
    end = time.monotonic() + 4
    counts = {"transfers": 0, "failures": 0, "reads": 0, "deaths": 0}

    def is_over() -> bool:
        return time.monotonic() > end and all(counts.values())

    async with asyncpg.create_pool(url, min_size=2, max_size=12) as pool:

        async def transfer(seed: int) -> None:
            choice = random.Random(seed)
            while not is_over():
                try:
                    async with pool.acquire() as a, a.transaction():
                        giver, taker = choice.sample(range(1, 21), 2)
                        await a.execute("update s.account set balance = balance - 1 where id = $1", giver)
                        if choice.random() < 0.1:
                            await a.execute("select 1 / 0")
                        await a.execute("update s.account set balance = balance + 1 where id = $1", taker)
                        await a.execute(f"select set_config('app.user', '{seed}', true)")
                        assert await a.fetchval("select current_setting('app.user')") == str(seed)
                    counts["transfers"] += 1
                except asyncpg.DivisionByZeroError:
                    counts["failures"] += 1

        async def read() -> None:
            while not is_over():
                assert await pool.fetchval("select sum(balance) from s.account") == 2000
                counts["reads"] += 1
                await asyncio.sleep(0.001)

        async def die() -> None:
            while not is_over():
                a = await asyncpg.connect(url)
                await a.execute("begin")
                await a.execute("update s.account set balance = balance - 50 where id = 1")
                a.terminate()
                counts["deaths"] += 1
                await asyncio.sleep(0.02)

        await asyncio.gather(*(transfer(seed) for seed in range(8)), *(read() for _ in range(4)), die(), die())
    assert await owner.fetchval("select sum(balance) from s.account") == 2000


# Statements


async def test_prepared_statements_of_the_same_name_are_each_clients_own(connect: Connect) -> None:
    a, b = await connect(), await connect()
    one, two = await a.prepare("select 1", name="same"), await b.prepare("select 2", name="same")
    assert [await one.fetchval(), await two.fetchval(), await one.fetchval()] == [1, 2, 1]


async def test_unnamed_statements_of_two_clients_do_not_mix(connect: Connect) -> None:
    a, b = await connect(statement_cache_size=0), await connect(statement_cache_size=0)

    async def add(client: asyncpg.Connection[asyncpg.Record], number: int) -> list[int]:
        return [await client.fetchval(f"select $1::int + {number}", i) for i in range(200)]

    sums = await asyncio.gather(add(a, 1000), add(b, 5000))
    assert list(sums) == [list(range(1000, 1200)), list(range(5000, 5200))]


async def test_an_idle_prepared_statement_keeps_nobody_waiting(connect: Connect) -> None:
    a, b = await connect(), await connect()
    statement = await a.prepare("select $1::int")
    assert await asyncio.wait_for(b.fetchval("select 2"), PATIENCE) == 2
    assert await statement.fetchval(1) == 1


async def test_a_failing_prepare_leaves_the_connection_usable(connect: Connect) -> None:
    a = await connect()
    with pytest.raises(asyncpg.UndefinedTableError):
        await a.prepare("select * from nowhere")
    assert await a.fetchval("select 1") == 1


async def test_a_client_leaves_no_prepared_statement_behind(connect: Connect) -> None:
    a, leaving = await connect(), await connect()
    await leaving.prepare("select 123456", name="left")
    await leaving.execute("prepare made_in_sql as select 654321")
    await leaving.close()

    async def are_gone() -> bool:
        left = "select count(*) from pg_prepared_statements where statement ~ '12345[6]|65432[1]'"
        return bool(await a.fetchval(left) == 0)

    await wait_until(are_gone)


@pytest.mark.parametrize("text", ["discard all", "deallocate all"])
@pytest.mark.parametrize("simple", [True, False])
async def test_clearing_the_session_leaves_other_clients_statements_alone(
    connect: Connect, text: str, simple: bool
) -> None:
    a, b = await connect(), await connect()
    statement = await b.prepare("select 2", name="same")
    cleared = await a.prepare("select 1", name="same")
    assert await cleared.fetchval() == 1
    if simple:
        await a.execute(text)
    else:
        await (await a.prepare(text)).fetch()
    assert await (await a.prepare("select 3", name="same")).fetchval() == 3
    assert await statement.fetchval() == 2


# Notifications


async def test_it_delivers_notifications_to_those_who_listen(connect: Connect) -> None:
    a, b = await connect(), await connect()
    got: dict[str, list[object]] = {"a": [], "b": []}

    def hear_a(*heard: object) -> None:
        got["a"].append(heard[-1])

    def hear_b(*heard: object) -> None:
        got["b"].append(heard[-1])

    await a.add_listener("chan", hear_a)
    await b.add_listener("chan", hear_b)
    await b.add_listener('Chan "q"', hear_b)
    await a.execute("notify chan, 'one'")
    await b.execute("select pg_notify('chan', 'two')")
    await a.fetchval("select pg_notify($1, $2)", 'Chan "q"', "three")
    async with a.transaction():
        await a.execute("notify chan, 'four'")
        await asyncio.sleep(0.1)
        assert "four" not in got["b"]
    await wait_until(lambda: (len(got["a"]), len(got["b"])) == (3, 4))
    assert got == {"a": ["one", "two", "four"], "b": ["one", "two", "three", "four"]}

    await b.remove_listener("chan", hear_b)
    await a.execute("notify chan, 'five'")
    await wait_until(lambda: got["a"][-1] == "five")
    await b.fetchval("select 1")
    assert got["b"][-1] == "four"
    await b.reset()


# Cancel and timeouts


async def test_it_cancels_a_running_statement(connect: Connect) -> None:
    a = await connect()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await a.fetchval("select count(*) from generate_series(1, 10000000000)", timeout=0.3)
    assert await a.fetchval("select 1") == 1
    assert time.monotonic() - begun < PATIENCE / 2


async def test_it_cancels_a_statement_that_waits_for_its_turn(connect: Connect) -> None:
    a, b = await connect(), await connect()
    async with a.transaction():
        await a.execute("select 1")
        with pytest.raises(TimeoutError):
            await b.fetchval("select 3", timeout=0.3)
    assert await b.fetchval("select 4") == 4


async def test_statement_timeout_ends_a_statement(connect: Connect) -> None:
    a = await connect(server_settings={"statement_timeout": "1s"})
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await a.fetchval("select count(*) from generate_series(1, 200000000)")
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await a.execute("select count(*) from generate_series(1, 200000000)")
    assert await a.fetchval("select 1") == 1


# What one session for all cannot hide (docs/explanation/embedded-database.md tells people so)


async def test_temporary_tables_are_seen_by_all_and_go_with_the_last_who_uses_them(connect: Connect) -> None:
    a, b = await connect(), await connect()
    await a.execute("create temp table shared_by_all (x int)")
    assert await b.fetchval("select count(*) from shared_by_all") == 0
    await a.close()

    async def is_gone() -> bool:
        try:
            await b.fetchval("select count(*) from shared_by_all")
        except asyncpg.UndefinedTableError:
            return True
        return False

    await wait_until(is_gone)


async def test_session_advisory_locks_are_always_granted(connect: Connect) -> None:
    a, b = await connect(), await connect()
    assert await a.fetchval("select pg_try_advisory_lock(7)")
    assert await b.fetchval("select pg_try_advisory_lock(7)")


async def test_it_refuses_an_unknown_database(url: str) -> None:
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url, database="nowhere")
