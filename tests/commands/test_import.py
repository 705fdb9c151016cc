"""headcount import."""

import asyncio
import csv
import gzip
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psycopg.conninfo
import pytest

from tests.commands.support import PATIENCE, environment, headcount, running

HEADER = "timestamp,direction,dpu_id\n"
LINE = b"2026-03-01T10:00:00Z,1,door"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(number: int, dpus: int = 50) -> Iterable[str]:
    """So many lines of events, all different."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for n in range(number):
        time = (start + timedelta(seconds=n)).isoformat().replace("+00:00", "Z")
        yield f"{time},{1 if n % 3 else -1},dpu-{n % dpus}\n"


def write(folder: Path, content: str | bytes, name: str = "events.csv") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


async def stored(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("select count(*) from core.event"))


def report(path: str = "events.rejected.csv") -> list[dict[str, str]]:
    """The reasons of each line, and the line itself."""
    with Path(path).open(errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    return [{**dict(zip(header[:3], row, strict=False)), "line": ",".join(row[3:])} for row in rows]


def reports(folder: Path) -> list[Path]:
    return list(folder.glob("*.rejected.csv"))


async def test_it_stores_the_events_of_a_file_and_says_how_many(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + "".join(events(250)))
    result = await headcount("import", path, url=database_url)
    assert result.exit_code == 0, result.output
    assert "accepted 250, duplicates 0, rejected 0" in result.stdout
    assert await stored(connection) == 250
    assert not reports(folder)


async def test_it_counts_a_file_once_however_often_it_is_imported(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + "".join(events(250)))
    await headcount("import", path, url=database_url)
    for _ in range(2):
        result = await headcount("import", path, url=database_url)
        assert result.exit_code == 0
        assert "accepted 0, duplicates 250, rejected 0" in result.stdout
    assert await stored(connection) == 250


async def test_it_counts_a_line_that_stands_twice_once(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    lines = list(events(100))
    path = write(folder, HEADER + "".join(lines + lines[:33]))
    result = await headcount("import", path, url=database_url)
    assert "accepted 100, duplicates 33, rejected 0" in result.stdout
    assert await stored(connection) == 100


@pytest.mark.parametrize(
    "content",
    [
        b"timestamp,direction,dpu_id\n2026-03-01T10:00:00Z,1,door\n",
        b"dpu_id,timestamp,direction\ndoor,2026-03-01T10:00:00Z,1\n",
        b"sequence,direction,dpu_id,timestamp\n0,1,door,2026-03-01T10:00:00Z\n",
        b'"timestamp","direction","dpu_id"\n"2026-03-01T10:00:00Z",1,"door"\n',
        b"timestamp,direction,dpu_id\r\n2026-03-01T11:00:00+01:00,+1,door\r\n",
        b"\xef\xbb\xbftimestamp,direction,dpu_id\n2026-03-01T10:00:00.000Z,1,door",
        b"timestamp,direction,dpu_id\n\n\n2026-03-01T10:00:00Z,1,door\n\r\n \n",
    ],
    ids=["plain", "other order", "sequence", "quoted", "CRLF", "BOM, no last line end", "blank lines"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "gzip"])
async def test_it_reads_every_way_to_write_the_file(
    connection: asyncpg.Connection, database_url: str, folder: Path, content: bytes, packed: bool
) -> None:
    # By its content, whatever the name says.
    path = write(folder, gzip.compress(content) if packed else content)
    result = await headcount("import", path, url=database_url)
    assert "accepted 1, duplicates 0, rejected 0" in result.stdout, result.output
    row = await connection.fetchrow("select time, direction, sequence from core.event")
    assert row is not None
    assert tuple(row) == (datetime(2026, 3, 1, 10, tzinfo=UTC), 1, 0)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"2026-03-01T10:00:00Z,1", "invalid"),
        (b"2026-03-01T10:00:00Z,1,door,0,0", "invalid"),
        (b"2026-03-01T10:00:00,1,door", "invalid"),
        (b"yesterday,1,door", "invalid"),
        (b"2026-03-01T10:00:00Z,one,door", "invalid"),
        (b"2026-03-01T10:00:00Z,2147483648,door", "invalid"),
        (b"2026-03-01T10:00:00Z,1," + b"d" * 65, "invalid"),
        (b"2026-03-01T10:00:00Z,1,d\xff\xfe", "invalid"),
        (b"2026-03-01T10:00:00Z,1,d\x00", "invalid"),
        (b'2026-03-01T10:00:00Z,1,"door', "invalid"),
        (b'"2026-03-01T10:00:00Z,1,door', "invalid"),
        (b'2026-03-01T10:00:00Z,1,do"or', "invalid"),
        (b"x" * 300_000, "invalid"),
        (b"9999-12-31T23:59:59Z,1,door", "in_future"),
        (b"2009-06-30T23:59:59Z,1,door", "too_old"),
        (b"2026-03-01T00:00:00Z,7,dpu-0", "conflict"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else value,
)
async def test_a_bad_line_costs_no_other_and_is_kept_with_the_reason(
    connection: asyncpg.Connection, database_url: str, folder: Path, line: bytes, code: str
) -> None:
    good = list(events(20))
    before, after = "".join(good[:10]).encode(), "".join(good[10:]).encode()
    path = write(folder, HEADER.encode() + before + line + b"\n" + after)
    result = await headcount("import", path, url=database_url)
    assert result.exit_code == 0
    assert "accepted 20, duplicates 0, rejected 1" in result.stdout, result.output
    assert "events.rejected.csv" in result.stdout
    assert await stored(connection) == 20
    (row,) = report()
    assert (row["line_number"], row["code"]) == ("12", code)
    assert row["detail"]
    kept = row["line"].encode(errors="surrogateescape")
    assert kept == line if len(line) < 1000 else line.startswith(kept)
    assert await connection.fetchval("select code from core.rejected_event") == code


@pytest.mark.parametrize(
    "content", ["", "time,space,state\n", "timestamp,direction\n", "2026-03-01T10:00:00Z,1,door\n", "\x00\n"]
)
async def test_it_refuses_another_header_and_names_the_file_and_what_it_wants(
    connection: asyncpg.Connection, database_url: str, folder: Path, content: str
) -> None:
    result = await headcount("import", write(folder, content, "polls.csv"), url=database_url)
    assert result.exit_code == 1
    assert "polls.csv" in result.stderr
    assert "timestamp,direction,dpu_id" in result.stderr
    assert "Traceback" not in result.output


async def test_it_refuses_before_it_stores_anything_when_one_of_several_files_will_not_do(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    good, bad = write(folder, HEADER + "".join(events(5))), write(folder, "a,b\n", "bad.csv")
    result = await headcount("import", good, bad, url=database_url)
    assert result.exit_code == 1
    assert await stored(connection) == 0


async def test_it_adds_up_several_files_and_keeps_their_rejected_lines_apart(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    one = write(folder, HEADER + "".join(events(5)) + "x\n", "a/events.csv")
    other = write(folder, gzip.compress((HEADER + "".join(events(8)) + "y\nz\n").encode()), "b/events.csv.gz")
    result = await headcount("import", one, other, url=database_url)
    assert f"{one}: accepted 5, duplicates 0, rejected 1" in result.stdout
    assert f"{other}: accepted 3, duplicates 5, rejected 2" in result.stdout
    assert "all 2 files: accepted 8, duplicates 5, rejected 3" in result.stdout
    assert [row["line"] for row in report()] == ["x"]
    assert [row["line"] for row in report("events.2.rejected.csv")] == ["y", "z"]


async def test_it_stores_what_is_before_the_damage_of_a_gzip_file(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    whole = gzip.compress((HEADER + "".join(events(2000))).encode())
    result = await headcount("import", write(folder, whole[: len(whole) // 2]), url=database_url)
    assert result.exit_code == 1
    assert "damaged" in result.stderr
    assert 0 < await stored(connection) < 2000
    result = await headcount("import", write(folder, whole), url=database_url)
    assert result.exit_code == 0
    assert await stored(connection) == 2000


@pytest.mark.parametrize("without_reasons", [False, True], ids=["as it is", "without the first three columns"])
@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("timestamp,direction,dpu_id\n2026-01-28 10:09,1,door\n2026-01-28 10:10,2,door\n", ()),
        ("\ufeffZeit;Richtung;Sensor\r\n2026-01-28 10:09;1;door\r\n2026-01-28 10:10;2;door\r\n", (
            "--map", "timestamp=Zeit", "--map", "direction=Richtung", "--map", "dpu_id=Sensor")),
        ('dpu_id\ttimestamp\tdirection\n"door"\t2026-01-28 10:09\t1\ndoor\t2026-01-28 10:10\t2\n', ()),
        ("store_id,status,timestamp_utc\n1,up,2026-01-28 10:09\n1,up,2026-01-28 10:10\n", ()),
    ],
    ids=["commas", "semicolons, names of others", "tabs, quotes", "polls"],
)  # fmt: skip
async def test_its_rejected_lines_can_be_corrected_and_imported(
    connection: asyncpg.Connection,
    database_url: str,
    folder: Path,
    content: str,
    options: tuple[str, ...],
    without_reasons: bool,
) -> None:
    result = await headcount("import", *options, write(folder, content), url=database_url)
    assert "accepted 0, duplicates 0, rejected 2" in result.stdout, result.output
    rejected = folder / "events.rejected.csv"
    text = rejected.read_text().replace("10:09", "10:09:00Z").replace("10:10", "10:10:00Z").replace(",up,", ",active,")
    if without_reasons:
        delimiter = text[len("line_number")]
        rows = csv.reader(text.splitlines(), delimiter=delimiter)
        text = "".join(delimiter.join(row[3:]) + "\n" for row in rows)
    rejected.write_text(text)
    result = await headcount("import", *options, rejected, url=database_url)
    assert "accepted 2, duplicates 0, rejected 0" in result.stdout, result.output
    assert rejected.exists()


async def test_lines_that_are_rejected_again_are_in_a_file_of_their_own(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + 'x\n2026-03-01T10:00:00Z,1,"door\n')
    await headcount("import", path, url=database_url)
    again = await headcount("import", path, folder / "events.rejected.csv", url=database_url)
    assert "all 2 files: accepted 0, duplicates 0, rejected 4" in again.stdout, again.output
    first = report("events.2.rejected.csv")
    assert [row["line"] for row in first] == ["x", '2026-03-01T10:00:00Z,1,"door']
    assert [row["line_number"] for row in first] == ["2", "3"]
    assert len(report("events.rejected.rejected.csv")) == 2


async def test_rejected_lines_never_go_through_a_symbolic_link(
    connection: asyncpg.Connection, database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, HEADER + "x\n")
    for link, target in (("events.rejected.csv", write(folder, "theirs", "theirs")), ("events.2.rejected.csv", "none")):
        os.symlink(target, link)
    result = await headcount("import", path, url=database_url)
    assert "the rejected lines are in events.3.rejected.csv" in result.stdout, result.output
    assert [row["line"] for row in report("events.3.rejected.csv")] == ["x"]
    assert (folder / "theirs").read_text() == "theirs"
    assert not (folder / "none").exists()
    # one that comes in between is not followed either
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    result = await headcount("import", write(folder, HEADER + "y\n"), url=database_url)
    assert result.exit_code == 1
    assert (folder / "theirs").read_text() == "theirs"


async def test_the_rejected_lines_of_a_file_with_other_columns_are_replaced(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    await headcount("import", write(folder, HEADER + "x\n"), url=database_url)
    await headcount("import", write(folder, "dpu_id,timestamp,direction\ny\n"), url=database_url)
    assert [row["line"] for row in report()] == ["y"]


async def test_the_rejected_lines_of_an_earlier_import_are_replaced(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + "x\n")
    await headcount("import", path, url=database_url)
    await headcount("import", path, url=database_url)
    assert [row["line"] for row in report()] == ["x"]
    await headcount("import", write(folder, HEADER + LINE.decode()), url=database_url)
    assert not reports(folder)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_after_a_kill_it_goes_on_behind_what_is_stored(
    connection: asyncpg.Connection, database_url: str, folder: Path, packed: bool
) -> None:
    lines = list(events(60_000))
    for n in range(0, len(lines), 1000):
        lines[n] = f"bad {n}\n"
    content = (HEADER + "".join(lines)).encode()
    path = write(folder, gzip.compress(content) if packed else content)

    async def done() -> int:
        return int(await connection.fetchval("select coalesce(max(lines), 0) from core.import"))

    proxy = Proxy(database_url)
    proxy.limits, proxy.holds = [1_500_000], True  # in a batch in the middle
    async with proxy.url(folder) as url:
        with running(folder, "import", path, DATABASE_URL=url) as process:
            async with asyncio.timeout(PATIENCE):
                await proxy.is_held.wait()
            process.kill()
    behind = await done()
    assert 0 < behind < 60_001, "it was to be killed in the middle"
    result = await headcount("import", path, url=database_url)
    assert result.exit_code == 0, result.output
    assert f"going on behind line {behind}" in result.stderr
    assert "accepted 59940, duplicates 0, rejected 60" in result.stdout
    assert await stored(connection) == 59_940
    assert [row["line"] for row in report()] == [f"bad {n}" for n in range(0, len(lines), 1000)]


async def test_its_memory_does_not_grow_with_the_file(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    measured = (
        "import resource, sys; from headcount.cli import main; main(sys.argv[1:], standalone_mode=False);"
        "print('KiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def kibibytes(path: Path) -> int:
        done = subprocess.run(
            [sys.executable, "-c", measured, "import", str(path)],
            env=environment(DATABASE_URL=database_url),
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout.rpartition("KiB")[2])

    small = await asyncio.to_thread(kibibytes, write(folder, HEADER + "".join(events(20_000)), "small.csv"))
    large = await asyncio.to_thread(kibibytes, write(folder, HEADER + "".join(events(300_000)), "large.csv"))
    assert await stored(connection) == 300_000
    assert large < small + 30_000


class Proxy:
    """Between the command and the database; cuts connections as it is told to."""

    def __init__(self, url: str) -> None:
        found = psycopg.conninfo.conninfo_to_dict(url)
        self.upstream = found
        # How many bytes of each connection, in turn, go to the server before it is cut.
        self.limits: list[int] = []
        self.holds = False  # whether it lets nothing more through then, instead of cutting
        self.is_held = asyncio.Event()
        self.cut_commit = False  # once: the commit is done, and the answer lost
        self.cuts = 0

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self.upstream["host"]), int(str(self.upstream.get("port") or 5432))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = self.limits.pop(0) if self.limits else 10**12
        server_reader, server_writer = await self._connect()

        async def up() -> None:
            nonlocal limit
            while data := await reader.read(65536):
                server_writer.write(data[:limit])
                await server_writer.drain()
                limit -= len(data)
                if limit <= 0 and self.holds:
                    self.is_held.set()
                    await reader.read()  # until the command is dead
                if limit <= 0:
                    self.cuts += 1
                    return

        async def down() -> None:
            while data := await server_reader.read(65536):
                if self.cut_commit and b"COMMIT\0" in data:
                    self.cut_commit = False
                    self.cuts += 1
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server_writer.close()
        writer.close()

    @asynccontextmanager
    async def url(self, folder: Path) -> AsyncIterator[str]:
        server = await asyncio.start_unix_server(self.serve, folder / ".s.PGSQL.5432")
        user, database = self.upstream["user"], self.upstream["dbname"]
        password = quote(str(self.upstream.get("password") or ""), safe="")
        try:
            yield f"postgresql://{user}:{password}@/{database}?host={quote(str(folder))}"
        finally:
            server.close()


async def test_it_goes_on_when_the_connection_was_lost(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + "".join(events(45_000)) + "bad\n")
    proxy = Proxy(database_url)
    # In the first batch, then at once for a while, then in a later batch, ...
    proxy.limits = [300_000, 1, 1, 1_200_000, 20, 700_000]
    async with proxy.url(folder) as url:
        result = await headcount("import", path, url=url)
    assert result.exit_code == 0, result.output
    assert proxy.cuts >= 5
    assert "accepted 45000, duplicates 0, rejected 1" in result.stdout
    assert await stored(connection) == 45_000
    assert [row["line_number"] for row in report()] == ["45002"]


async def test_it_counts_a_batch_once_when_only_the_answer_to_its_commit_was_lost(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    path = write(folder, HEADER + "bad\n" + "".join(events(15_000)))
    proxy = Proxy(database_url)
    proxy.cut_commit = True
    async with proxy.url(folder) as url:
        result = await headcount("import", path, url=url)
    assert proxy.cuts == 1
    assert "accepted 15000, duplicates 0, rejected 1" in result.stdout, result.output
    assert await stored(connection) == 15_000
    assert [row["line"] for row in report()] == ["bad"]


async def test_it_says_so_when_there_is_no_database(folder: Path) -> None:
    path = write(folder, HEADER + LINE.decode())
    result = await headcount("import", path, url="postgresql://nobody:secret@127.0.0.1:1/none")
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert "secret" not in result.output
    assert len(result.stderr.splitlines()) == 1
