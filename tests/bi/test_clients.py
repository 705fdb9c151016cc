"""The views, through the programs that people use."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from tests.bi.conftest import FLOORS, OPTIONS

SINCE = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5)
UNTIL = SINCE + timedelta(days=4)
RANGE = f"bucket >= '{SINCE.isoformat()}' and bucket < '{UNTIL.isoformat()}'"
COUNTS = f"select space, bucket, count, raw_count from bi.space_counts_15m where {RANGE}"


def as_analyst(url: str, scheme: str = "postgresql") -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, f"options={quote(OPTIONS)}")))
    return parts._replace(scheme=scheme, query=query).geturl()


async def series(connection: asyncpg.Connection, space: str) -> list[tuple[datetime, int, int, int]]:
    rows = await connection.fetch(
        """
        select c.start_at, c.count, c.entries, c.exits
        from api.list_space_counts(space => $1, from_at => $2, to_at => $3, grain => '15m', time_zone => 'UTC') c
        """,
        space,
        SINCE,
        UNTIL,
    )
    return [tuple(row) for row in rows]


def test_psql_describes_and_reads_the_views(tower: str) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")

    def psql(command: str) -> str:
        run = ["psql", "-X", "--no-align", "--tuples-only", as_analyst(tower), "--command", command]
        return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout

    assert "Start of the quarter-hour" in psql("\\d+ bi.space_counts_15m")
    assert psql("select space from bi.spaces order by path").split() == ["tower", "ground", "upper"]
    assert len(psql(COUNTS).splitlines()) == 3 * 4 * 96
    assert psql("show transaction_read_only").strip() == "on"


async def test_a_pivot_in_pandas_equals_the_series_of_the_api(tower: str, connection: asyncpg.Connection) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine(as_analyst(tower, "postgresql+psycopg"), poolclass=sqlalchemy.pool.NullPool)
    counts = pandas.read_sql(COUNTS, engine)
    flows = pandas.read_sql(f"select * from bi.space_flows_15m where {RANGE}", engine)
    pivot = counts.pivot_table(index="bucket", columns="space", values="count", aggfunc="sum")
    assert list(pivot.columns) == ["ground", "tower", "upper"]
    assert str(pivot.index.dtype).endswith("UTC]")
    for space in ("tower", *FLOORS):
        expected = await series(connection, space)
        assert [bucket.to_pydatetime() for bucket in pivot.index] == [row[0] for row in expected]
        assert list(pivot[space]) == [row[1] for row in expected]
        of_space = (
            flows[flows.space == space].set_index("bucket")[["entries", "exits"]].reindex(pivot.index, fill_value=0)
        )
        assert list(of_space.entries) == [row[2] for row in expected]
        assert list(of_space.exits) == [row[3] for row in expected]


async def test_duckdb_joins_the_views_with_a_file_of_its_own(
    tower: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    scanner = pytest.importorskip(
        "duckdb_extension_postgres_scanner",
        reason="DuckDB's postgres extension (duckdb-extension-postgres-scanner) is not installed",
    )
    [extension] = Path(scanner.__file__).parent.rglob("*.duckdb_extension")
    lake = duckdb.connect()
    lake.execute(f"load '{extension}'")
    lake.execute(f"attach '{as_analyst(tower)}' as headcount (type postgres, schema 'bi', read_only)")
    rents = tmp_path / "rent.csv"
    rents.write_text("space,rent\nground,100\nupper,80\n")
    found = lake.execute(
        f"""
        select c.space, any_value(r.rent), sum(c.count)::bigint from postgres_query('headcount', $$ {COUNTS} $$) c
        join read_csv('{rents}') r on r.space = c.space
        group by 1 order by 1
        """
    ).fetchall()
    expected = {space: sum(row[1] for row in await series(connection, space)) for space in FLOORS}
    assert found == [("ground", 100, expected["ground"]), ("upper", 80, expected["upper"])]
    assert lake.execute(
        f"select sum(count)::bigint from headcount.bi.space_counts_15m where space = 'upper' and {RANGE}"
    ).fetchone() == (expected["upper"],)
    with pytest.raises(duckdb.Error):
        lake.execute("delete from headcount.bi.resets")
