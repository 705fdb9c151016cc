"""headcount import with the files of sites: polls, opening hours, zones."""

import csv
import gzip
import itertools
from pathlib import Path

import asyncpg
import pytest

from tests.commands.support import headcount

POLLS = """store_id,status,timestamp_utc
8419537941919820732,active,2023-01-22 12:09:39.388884 UTC
8419537941919820732,active,2023-01-22 12:09:39.388884 UTC
8419537941919820732,inactive,2023-01-22 12:09:39.388884 UTC
2,inactive,2023-01-20 17:04:15 UTC
2,active,2023-01-24T09:07:26.4+01:00
3,active,2023-01-24 09:07:26.441407 UTC
"""
HOURS = """store_id,dayOfWeek,start_time_local,end_time_local
2,0,09:00:00,12:00:00
2,0,13:00:00,23:59:59
4,6,22:00,00:00
"""
ZONES = """timezone_str,store_id
Asia/Beirut,2
Pacific/Honolulu,5
"""
FILES = {"polls.csv": POLLS, "hours.csv": HOURS, "zones.csv": ZONES}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def sites(connection: asyncpg.Connection) -> dict[str, tuple[str, int, int]]:
    """By id: zone, rows of hours, polls."""
    rows = await connection.fetch(
        """
        select s.id, h.time_zone, coalesce(jsonb_array_length(s.opening_hours), 0) as hours,
          (select count(*) from core.poll p where p.space_id = s.space_id) as polls
        from core.site join core.space s using (space_id)
        left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
        """
    )
    return {row["id"]: (row["time_zone"], row["hours"], row["polls"]) for row in rows}


EXPECTED = {
    "8419537941919820732": ("America/Chicago", 0, 2),
    "2": ("Asia/Beirut", 2, 2),
    "3": ("America/Chicago", 0, 1),
    "4": ("America/Chicago", 1, 0),
    "5": ("Pacific/Honolulu", 0, 0),
}


@pytest.mark.parametrize("order", list(itertools.permutations(FILES)), ids="-".join)
async def test_whatever_the_order_of_the_files_the_same_sites_come_out(
    connection: asyncpg.Connection, database_url: str, folder: Path, order: tuple[str, ...]
) -> None:
    for number, name in enumerate(order):
        content = FILES[name].encode()
        (folder / name).write_bytes(gzip.compress(content) if number == 1 else content)
    result = await headcount("import", *(folder / name for name in order), url=database_url)
    assert result.exit_code == 0, result.output
    assert await sites(connection) == EXPECTED
    again = await headcount("import", *(folder / name for name in order), url=database_url)
    assert "accepted 0, duplicates 11, rejected 0" in again.stdout
    assert await sites(connection) == EXPECTED


@pytest.mark.parametrize(
    ("header", "bad"),
    [
        (
            "store_id,status,timestamp_utc",
            [
                "7,up,2023-01-20 17:04:15 UTC",
                "7,active,2023-01-20 17:04:15",
                "7,active,yesterday",
                "x y,active,2023-01-20 17:04:15 UTC",
                "7,active",
                "7,active,2023-13-20 17:04:15 UTC",
                "7,active,1999-01-20 17:04:15 UTC",
            ],
        ),
        (
            "store_id,day,start_time_local,end_time_local",
            [
                "7,7,09:00:00,12:00:00",
                "7,,09:00:00,12:00:00",
                "7,1,9,12:00:00",
                "7,1,09:00:00,24:00:00",
                "7,1,09:00:00,12:60:00",
                ",1,09:00:00,12:00:00",
                "7,1,09:00:00",
            ],
        ),
        ("store_id,timezone_str", ["7,Mars/Olympus", "7,", "7", "no id!,Asia/Beirut", "7,right/UTC"]),
    ],
    ids=["polls", "hours", "zones"],
)
async def test_bad_lines_are_counted_and_kept_with_their_reasons_and_cost_no_other(
    connection: asyncpg.Connection, database_url: str, folder: Path, header: str, bad: list[str]
) -> None:
    good = {"polls": "1,active,2023-01-20 17:04:15 UTC", "hours": "1,1,09:00,12:00", "zones": "1,Asia/Beirut"}
    kind = "polls" if "status" in header else "zones" if "timezone" in header else "hours"
    lines = [line for one in bad for line in (one, good[kind])]
    (folder / "file.csv").write_text("\n".join([header, *lines]) + "\n")
    result = await headcount("import", folder / "file.csv", url=database_url)
    assert f"accepted 1, duplicates {len(bad) - 1}, rejected {len(bad)}" in result.stdout, result.output
    with (folder / "file.rejected.csv").open(newline="") as file:
        _, *rejected = csv.reader(file)
    assert [",".join(row[3:]) for row in rejected] == bad
    assert all(len(row[2]) > 10 for row in rejected), rejected
    assert set(await sites(connection)) <= {"1", "7"}
