"""The store data beside the repository (it is not ours to copy), by command and over HTTP, against the oracle."""

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.commands.support import headcount
from tests.http.reporting import trigger, wait_for
from tests.properties.uptime_oracle import WINDOWS, Hours, Site, micros

STORES = Path(__file__).parents[3] / "shared" / "data" / "stores"
FILES = ("store_status.csv.gz", "menu_hours.csv.gz", "timezones.csv.gz")


def lines(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def read_instant(text: str) -> int:
    return micros(datetime.fromisoformat(re.sub(r"(?<=:\d\d)(\.\d+)?( UTC|Z)$", fraction, text)))


def fraction(match: re.Match[str]) -> str:
    return f".{(match[1] or '.')[1:]:0<6}+00:00"


def read_sites(folder: Path) -> dict[str, Site]:
    """What the files say, read by nothing of ours."""
    polls, hours = defaultdict(list), defaultdict(list)
    for line in lines(folder / FILES[0]):
        polls[line["store_id"]].append((read_instant(line["timestamp_utc"]), line["status"] == "active"))
    for line in lines(folder / FILES[1]):
        day = int(line.get("day") or line["dayOfWeek"])
        hours[line["store_id"]].append(Hours(day, line["start_time_local"], line["end_time_local"]))
    zones = {line["store_id"]: line["timezone_str"] for line in lines(folder / FILES[2])}
    return {
        site: Site(zones.get(site, "America/Chicago"), tuple(hours[site]), tuple(polls[site]))
        for site in sorted({*polls, *hours, *zones})
    }


# How many of the sites the oracle, which is slow, is asked about: one in so many.
@pytest.mark.parametrize(("name", "one_in"), [("hybrid2023", 1), ("real2023", 40)])
@pytest.mark.skipif(not STORES.is_dir(), reason="the data does not lie beside the repository")
@pytest.mark.timeout(900)
async def test_every_store_is_told_of_as_the_rule_says(
    client: httpx.AsyncClient,
    connection: asyncpg.Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    one_in: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = await headcount("import", *(STORES / name / file for file in FILES), url=database_url)
    assert result.exit_code == 0, result.output
    assert re.findall(r"rejected (\d+)", result.stdout) == ["0"] * 4
    sites = read_sites(STORES / name)
    latest = max(at for site in sites.values() for at, _ in site.polls)

    nows = [None, *(STORES / name / "nows.txt").read_text().split("\n")]
    for now in (now for now in nows if now is None or now.strip()):
        at = latest if now is None else read_instant(now.strip())
        report = await trigger(client) if now is None else await trigger(client, now=iso(now.strip()))
        assert (await wait_for(client, report))["rows"] == len(sites)
        rows = {
            row["site"]: [
                (row["hour_up"], row["hour_down"]),
                (row["day_up"], row["day_down"]),
                (row["week_up"], row["week_down"]),
            ]
            for row in await connection.fetch(
                "select w.* from core.report_row w join core.report r using (report_id) where r.id = $1", report
            )
        }
        assert rows.keys() == sites.keys()
        for site in list(sites)[::one_in]:
            expected = [sites[site].uptime(at - window, at, at) for window in WINDOWS]
            assert rows[site] == expected, f"{site} at {now}"
        for site, found in rows.items():
            if not sites[site].hours:
                assert [up + down for up, down in found] == list(WINDOWS), site
        assert await open_for(connection, at) == {site: found[2][0] + found[2][1] for site, found in rows.items()}


def iso(text: str) -> str:
    return text.removesuffix(" UTC").removesuffix("Z").replace(" ", "T") + "Z"


async def open_for(connection: asyncpg.Connection, now: int) -> dict[str, int]:
    """The business time of each site in the week before."""
    rows = await connection.fetch(
        """
        select s.id, core.measure(b.business) as open
        from core.list_business_times(
          (select array_agg(i) from core.list_sites() i),
          to_timestamp(0) + ($1::bigint - $2::bigint) * interval '1 microsecond',
          to_timestamp(0) + $1::bigint * interval '1 microsecond') b
        join core.space s using (space_id)
        """,
        now,
        WINDOWS[2],
    )
    return {row["id"]: row["open"] for row in rows}
