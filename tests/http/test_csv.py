"""CSV as spreadsheets write it: over HTTP, and by `headcount import`, which reads more."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from headcount.ingest.spreadsheets import SpreadsheetEvents
from tests.commands.support import headcount
from tests.http import body, problem

LINE = "2026-01-28T10:08:00Z"
PLAIN = f"timestamp,direction,dpu_id\n{LINE},1,s2\n"

READ: dict[str, bytes] = {
    "header": f"Timestamp, Direction, DPU_ID\n{LINE},1,s2\n".encode(),
    "blanks": f' "Time Stamp" ,DIRECTION,dpu-id\n{LINE},1,s2\n'.encode().replace(b' "Time Stamp" ', b"TIMESTAMP"),
    "semicolon": PLAIN.replace(",", ";").encode(),
    "tab": PLAIN.replace(",", "\t").encode(),
    "quoted semicolon": f'"timestamp";"direction";"dpu_id"\r\n"{LINE}";"1";"s2"\r\n'.encode(),
    "delimiter at the end": PLAIN.replace("\n", ",\n").encode(),
    "UTF-8 with BOM": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + PLAIN.replace(",", ";").encode("utf-16-be"),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "extra": (f"timestamp,direction,dpu_id,store\n{LINE},1,s2,x\n".encode(), "The column `store` is not known here"),
    "missing": (b"timestamp;direction;sensor\n", "There is no column `dpu_id`."),
    "twice": (b"timestamp,direction,dpu_id,Direction\n", "The column `direction` is there twice."),
    "UTF-16 without BOM": (PLAIN.encode("utf-16-le"), "UTF-16"),
    "UTF-32": (PLAIN.encode("utf-32"), "UTF-32"),
    "damaged UTF-16": (b"\xff\xfet\x00\x00\xd8x", "UTF-16"),
    "bars": (PLAIN.replace(",", "|").encode(), "commas, semicolons or tabs between them. It has `|` between them."),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def kept(connection: asyncpg.Connection) -> list[tuple[str, datetime, int]]:
    rows = await connection.fetch(
        "select d.id, e.time, e.direction from core.event e join core.dpu d on d.dpu_id = e.dpu_id order by e.time"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("name", READ)
async def test_it_reads_what_spreadsheets_write(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database_url: str, folder: Path, name: str
) -> None:
    answer = await client.post("/v1/events", content=READ[name], headers={"content-type": "text/csv"})
    assert body(answer)["accepted"] == 1, answer.text
    assert await kept(connection) == [("s2", datetime(2026, 1, 28, 10, 8, tzinfo=UTC), 1)]
    for content in (READ[name], gzip.compress(READ[name])):
        (folder / "file.csv").write_bytes(content)
        result = await headcount("import", "file.csv", url=database_url)
        assert "accepted 0, duplicates 1, rejected 0" in result.stdout, result.output


@pytest.mark.parametrize("name", REFUSED)
async def test_it_says_what_it_saw_where_it_cannot_read(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database_url: str, folder: Path, name: str
) -> None:
    content, sentence = REFUSED[name]
    answer = await client.post("/v1/events", content=content, headers={"content-type": "text/csv"})
    assert sentence in problem(answer, 422, "invalid", "line 1")["detail"]
    (folder / "file.csv").write_bytes(content)
    result = await headcount("import", "file.csv", url=database_url)
    assert result.exit_code == 1
    if not name.startswith("damaged"):
        assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert await kept(connection) == []


# What `headcount import` reads besides


async def test_it_reads_local_times_columns_of_other_names_and_words(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    text = (
        "Zeit;Richtung;Sensor;Filiale\n"
        "28.01.2026 10:00;in;s1;x\n"
        "28.01.2026, 10:00:01;OUT;s1;x\n"
        "2026-07-28 10:00:00;+1;s1;x\n"
        "2026/07/28 10:00:01,5;-3;s1;x\n"
        "2026-07-28T10:00:02+00:00;exit;s1;x\n"
    )
    (folder / "file.csv").write_bytes(text.encode("utf-16"))
    arguments = ["--map", "timestamp=Zeit", "--map", "direction=Richtung", "--map", "dpu=Sensor", "--ignore", "filiale"]
    refused = await headcount("import", "file.csv", *arguments, url=database_url)
    assert "accepted 1, duplicates 0, rejected 4" in refused.stdout
    assert (folder / "file.rejected.csv").read_text().count("give --zone, such as --zone Europe/Berlin") == 4
    result = await headcount("import", "file.csv", "--zone", "Europe/Berlin", *arguments, url=database_url)
    assert "accepted 4, duplicates 1, rejected 0" in result.stdout, result.output
    assert await kept(connection) == [
        ("s1", datetime(2026, 1, 28, 9, tzinfo=UTC), 1),
        ("s1", datetime(2026, 1, 28, 9, 0, 1, tzinfo=UTC), -1),
        ("s1", datetime(2026, 7, 28, 8, tzinfo=UTC), 1),
        ("s1", datetime(2026, 7, 28, 8, 0, 1, 500_000, tzinfo=UTC), -3),
        ("s1", datetime(2026, 7, 28, 10, 0, 2, tzinfo=UTC), -1),
    ]


async def test_utc_at_the_end_is_the_zone_of_a_time_however_that_is_written(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    times = [
        "2025-10-26 02:30 UTC",
        "2025/10/26 02:31UTC",
        "26.10.2025 02:32 UTC",
        "26.10.2025, 02:33:00,5 GMT",
        "2025-10-26T02:34:00 UTC",
        "2025-10-26T02:35:00.25UTC",
    ]
    lines = [f'"{time}";1;s1\n' for time in times]
    (folder / "file.csv").write_text("timestamp;direction;dpu_id\n" + "".join(lines))
    result = await headcount("import", "file.csv", "--zone", "Europe/Berlin", url=database_url)
    assert "accepted 6, duplicates 0, rejected 0" in result.stdout, result.output
    begin = datetime(2025, 10, 26, 2, 30, tzinfo=UTC)
    assert [(time - begin).total_seconds() for _, time, _ in await kept(connection)] == [0, 60, 120, 180.5, 240, 300.25]


async def test_it_rejects_local_times_that_were_twice_or_never(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    lines = [
        "2026-03-29 01:59:59",
        "2026-03-29 02:30:00",
        "2026-03-29 03:00:00",
        "2025-10-26 01:59:59",
        "2025-10-26 02:30:00",
        "2025-10-26T02:30:00+01:00",
        "31.02.2026 10:00",
        "03/04/2026 10:00",
        "yesterday",
    ]
    text = "timestamp,direction,dpu_id\n" + "".join(f"{line},1,s1\n" for line in lines)
    (folder / "file.csv").write_text(text)
    result = await headcount("import", "file.csv", "--zone", "Europe/Berlin", url=database_url)
    assert "accepted 4, duplicates 0, rejected 5" in result.stdout, result.output
    report = (folder / "file.rejected.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in report] == ["3", "6", "8", "9", "10"]
    for line, words in zip(
        report,
        (
            "does not exist in Europe/Berlin",
            "This local time occurs twice in Europe/Berlin (the clocks went back). "
            "Write its offset, such as 2025-10-26T02:30:00+02:00",
            "must be a time that there is",
            "must have its year first",
            "must be an RFC 3339 timestamp",
        ),
        strict=True,
    ):
        assert words in line


async def test_an_import_in_another_zone_does_not_go_on_where_the_first_stopped(
    connection: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    (folder / "file.csv").write_text("timestamp,direction,dpu_id\n2026-01-28 10:00,1,s1\n")
    for zone in ("Europe/Berlin", "Europe/Berlin", "Europe/London"):
        await headcount("import", "file.csv", "--zone", zone, url=database_url)
    assert await connection.fetchval("select count(*) from core.import") == 2
    assert len(await kept(connection)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--zone", "Berlin"], "IANA zone"),
        (["--map", "time=Zeit"], "FIELD=COLUMN"),
        (["--map", "timestamp"], "FIELD=COLUMN"),
        (["--map", "timestamp=a", "--map", "timestamp=b"], "FIELD=COLUMN"),
    ],
)
async def test_it_refuses_options_that_make_no_sense(
    database_url: str, folder: Path, arguments: list[str], words: str
) -> None:
    (folder / "file.csv").write_text(PLAIN)
    result = await headcount("import", "file.csv", *arguments, url=database_url)
    assert result.exit_code == 2
    assert words in result.stderr


async def test_the_options_are_for_events_alone(database_url: str, folder: Path) -> None:
    (folder / "file.csv").write_text("store_id,status,timestamp_utc\n")
    result = await headcount("import", "file.csv", "--zone", "Europe/Berlin", url=database_url)
    assert result.exit_code == 1
    assert "has no events" in result.stderr


def test_files_of_ours_are_read_at_once() -> None:
    lines = [f"{LINE},1,s2".encode()] * 100
    table = SpreadsheetEvents()
    header = table.read_header(b"timestamp,direction,dpu_id")
    slow: Callable[..., object] = table.of_cells

    def never(*_: object) -> object:
        raise AssertionError(slow)

    table.of_cells = never  # type: ignore[method-assign, assignment]
    assert table.decode_lines(header, lines).size == 100
    other = SpreadsheetEvents(names={"timestamp": "t"})
    assert other.read_header(b"direction;t;dpu").places == (2, 1, 0, None)
