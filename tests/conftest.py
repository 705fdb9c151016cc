"""Fixtures of the whole suite: a migrated database, emptied for each test, and the app on it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Collection, Generator, Iterator

import asyncpg
import httpx
import pytest
import pytest_asyncio

from headcount.app import create_app
from headcount.http.asgi import App
from headcount.live import apart
from headcount.settings import Settings
from tests.http.streams import client_of
from tests.lanes import Lane, choose_lane
from tests.rewriting import pytest_sessionstart
from tests.skips import pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_sessionfinish", "pytest_sessionstart", "pytest_terminal_summary"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing of what is collected becomes garbage, so no collection of garbage looks through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first: begun last, it would keep one worker busy when the others have done all."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def lane() -> Iterator[Lane]:
    with choose_lane() as lane:
        yield lane


@pytest.fixture(scope="session")
def is_embedded(lane: Lane) -> bool:
    return lane.is_embedded


@pytest.fixture(autouse=True)
def _skip_what_needs_concurrency(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("concurrency") and request.getfixturevalue("is_embedded"):
        pytest.skip("needs sessions that run at the same time: set TEST_DATABASE_URL to a real TimescaleDB")


@pytest.fixture(autouse=True)
def _no_count_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the live stream, however busy this machine is."""
    monkeypatch.setattr(apart, "GROUP_SECONDS", 60.0)
    monkeypatch.setattr(apart, "LONG_SECONDS", 60.0)


@pytest.fixture(scope="session")
def database_url(lane: Lane) -> Iterator[str]:
    """A freshly migrated database that all tests share."""
    with lane.database(migrated=True, is_long_lived=True) as url:
        yield url


@pytest.fixture
def fresh_database_url(lane: Lane) -> Iterator[str]:
    """An empty database, not migrated, of the test's own."""
    with lane.database(migrated=False) as url:
        yield url


@pytest.fixture
def own_database_url(lane: Lane) -> Iterator[str]:
    """A migrated database of the test's own."""
    with lane.database(migrated=True) as url:
        yield url


# Truncating makes new files for a table and each of its indexes, ten times the work of deleting a few rows. Deleted
# ones leave traces, so what measures how much is read gets tables that are truncated.
EMPTY = """
do $$
declare
  r record;
begin
  loop
    begin
      -- who waits for one while it holds others, and a service that is still at it, would wait for each other
      execute (
        select 'lock table ' || string_agg(format('%I.%I', schemaname, tablename), ', ')
          || ' in access exclusive mode nowait'
        from pg_tables where schemaname = 'core' and tablename <> 'rollup_state'
      );
      exit;
    exception when lock_not_available then
      perform pg_sleep(0.01);
    end;
  end loop;
  set local session_replication_role = replica;  -- no triggers and no foreign keys
  for r in
    select c.oid::regclass as name, pg_relation_size(c.oid) as bytes,
      exists (select from pg_inherits i where i.inhparent = c.oid) as has_chunks
    from pg_class c
    where c.relnamespace = 'core'::regnamespace and c.relkind in ('r', 'p') and c.relname <> 'rollup_state'
  loop
    if r.has_chunks or r.bytes > 262144 then
      execute format('truncate %s cascade', r.name);
    elsif r.bytes > 0 then
      execute format('delete from %s', r.name);
    end if;
  end loop;
  perform setval(format('%I.%I', s.schemaname, s.sequencename)::regclass, s.start_value, false)
  from pg_sequences s where s.schemaname = 'core' and s.last_value is not null;
  if exists (
    select from _timescaledb_catalog.continuous_agg a
    join _timescaledb_catalog.hypertable h on h.id = a.mat_hypertable_id
    join pg_inherits i on i.inhparent = format('%I.%I', h.schema_name, h.table_name)::regclass
  ) then
    truncate core.dpu_flow_15m_v1;
  end if;
  update core.rollup_state
  set materialized_until = '2000-01-01 00:00:00+00', keep_days = null, events_from = '-infinity', retired_at = null,
    horizon_at = '2010-01-01 00:00:00+00', goal_at = '-infinity', refreshing_from = '-infinity',
    refreshing_until = '-infinity', totals_until = '-infinity';
end
$$
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    # compiling statements pays where chunks have statistics; services switch it off, too
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC", "jit": "off"})
    yield connection
    await connection.close()


# The next transaction that writes gets this number: as long as it stays, nothing was written.
NEXT_WRITER = "select pg_snapshot_xmax(pg_current_snapshot())::text"


@pytest.fixture(scope="session")
def emptied_before() -> list[str]:
    """NEXT_WRITER, when the tables were emptied."""
    return []


class Scene:
    """What a fixture put into empty tables: it stays for the next test that asks for it, as long as nothing is written.

    `name`: of the fixture.
    """

    def __init__(self, owner: asyncpg.Connection) -> None:
        self.owner = owner
        self.name = ""
        self.built_before = ""  # NEXT_WRITER, when it was built

    async def is_there(self, names: Collection[str]) -> bool:
        """Whether one of these was built, and nothing was written since."""
        return self.name in names and self.built_before == await self.owner.fetchval(NEXT_WRITER)

    async def note(self, name: str) -> None:
        self.name, self.built_before = name, await self.owner.fetchval(NEXT_WRITER)


@pytest.fixture(scope="session")
def scene(_owner: asyncpg.Connection) -> Scene:
    return Scene(_owner)


@pytest_asyncio.fixture(loop_scope="session")
async def connection(
    _owner: asyncpg.Connection, emptied_before: list[str], scene: Scene, request: pytest.FixtureRequest
) -> asyncpg.Connection:
    """A connection as the owner of everything; all tables are empty, or hold a scene that the test asks for."""
    if await scene.is_there(request.fixturenames):
        return _owner
    is_measured = request.node.get_closest_marker("measured")
    if is_measured or emptied_before != [await _owner.fetchval(NEXT_WRITER)]:
        await _owner.execute(EMPTY.replace("262144", "0") if is_measured else EMPTY)
        emptied_before[:] = [await _owner.fetchval(NEXT_WRITER)]
    return _owner


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(database_url: str) -> AsyncIterator[App]:
    app = create_app(Settings(database_url=database_url, auth="off", jobs=False, send_notices=False))
    is_up, may_stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:  # begun and ended in one task, as App's own task group wants it
        async with app.lifespan():
            is_up.set()
            await may_stop.wait()

    life = asyncio.create_task(live())
    started = asyncio.create_task(is_up.wait())
    await asyncio.wait({life, started}, return_when=asyncio.FIRST_COMPLETED)
    yield app
    may_stop.set()
    await life


@pytest_asyncio.fixture(loop_scope="session")
async def client(app: App, connection: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service in process; all tables are empty."""
    async with client_of(app) as client:
        yield client
