"""headcount simulate, and the people it makes up."""

import csv
import gzip
import tomllib
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.commands.support import PATIENCE, free_port, headcount, running, serving

# The last days before and the first after the clocks go forward.
DAYS = ("--from", "2026-03-27", "--days", 4)


class Made:
    """What simulate wrote, read with means of its own."""

    def __init__(self, folder: Path) -> None:
        self.site: dict[str, Any] = tomllib.loads((folder / "site.toml").read_text())
        packed = folder / "events.csv.gz"
        self.content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / "events.csv").read_bytes()
        self.events = [
            (datetime.fromisoformat(row["timestamp"]), row["dpu_id"], int(row["direction"]))
            for row in csv.DictReader(self.content.decode().splitlines())
        ]

    def counts(self) -> list[tuple[datetime, dict[str, int]]]:
        """The number of people in each space after each event: by the definition, with no thought of speed."""
        parents = {space["id"]: space.get("parent") for space in self.site["spaces"]}
        sides = {doorway["id"]: doorway["sides"] for doorway in self.site["doorways"]}
        placed = {placement["dpu"]: placement for placement in self.site["placements"]}

        def spaces_around(place: str) -> set[str]:
            found = set()
            while place:
                found.add(place)
                place = parents[place] or ""
            return found

        now = dict.fromkeys(parents, 0)
        history = []
        for time, dpu, direction in sorted(set(self.events)):
            mounted = placed[dpu]["mounted_in"]
            (other,) = [side for side in sides[placed[dpu]["doorway"]] if side != mounted]
            for space in spaces_around(mounted) - spaces_around(other):
                now[space] += direction
            for space in spaces_around(other) - spaces_around(mounted):
                now[space] -= direction
            history.append((time, dict(now)))
        return history


async def simulate(folder: Path, *options: object) -> Made:
    result = await headcount("simulate", "--out", folder, *DAYS, *options, url="")
    assert result.exit_code == 0, result.output
    return Made(folder)


async def test_the_same_seed_makes_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    one = await simulate(tmp_path / "1", "--late", 0.1, "--repeat", 0.1, "--miss", 0.1)
    same = await simulate(tmp_path / "2", "--late", 0.1, "--repeat", 0.1, "--miss", 0.1, "--gzip")
    other = await simulate(tmp_path / "3", "--late", 0.1, "--repeat", 0.1, "--miss", 0.1, "--seed", 2)
    assert one.content == same.content
    assert one.site == same.site
    assert one.content != other.content


@pytest.mark.parametrize("spaces", [1, 2, 12, 130])
async def test_no_count_is_ever_negative_and_all_are_gone_at_night(tmp_path: Path, spaces: int) -> None:
    made = await simulate(tmp_path, "--spaces", spaces, "--dpus", 2 * spaces + 3, "--people", 400)
    history = made.counts()
    assert len(history) > 1000
    assert min(min(counts.values()) for _, counts in history) == 0
    assert max(counts["site"] for _, counts in history) > 20
    zone = ZoneInfo("Europe/Berlin")
    for (time, counts), (after, _) in pairwise([*history, (datetime.max.replace(tzinfo=UTC), {})]):
        night = time.astimezone(zone).replace(hour=4, minute=0, second=0, microsecond=0)
        if time < night <= after or after.year == 9999:
            assert not any(counts.values()), f"somebody is there at {night}"


async def test_there_is_more_to_do_on_weekdays_and_by_day(tmp_path: Path) -> None:
    made = await simulate(tmp_path)
    local = [time.astimezone(ZoneInfo("Europe/Berlin")) for time, _, _ in made.events]
    hours = Counter(time.hour for time in local)
    days = Counter(time.weekday() for time in local)
    assert hours[9] > 2 * hours[22]
    assert hours[4] == 0
    assert days[4] > days[5]
    assert days[0] > days[6]


async def test_it_makes_as_many_spaces_and_dpus_as_asked(tmp_path: Path) -> None:
    made = await simulate(tmp_path, "--spaces", 77, "--dpus", 200, "--people", 300)
    assert len(made.site["spaces"]) == 77
    assert len(made.site["dpus"]) == 200
    sides = {doorway["id"]: doorway["sides"] for doorway in made.site["doorways"]}
    mounted = Counter(sides[p["doorway"]].index(p["mounted_in"]) for p in made.site["placements"])
    assert min(mounted[0], mounted[1]) > 50, "the DPUs are mounted on different sides"


async def test_no_two_events_have_the_same_identity(tmp_path: Path) -> None:
    made = await simulate(tmp_path, "--spaces", 2, "--people", 20_000)
    assert len({(time, dpu) for time, dpu, _ in made.events}) == len(made.events) > 50_000


async def test_events_are_missed_repeated_late_and_out_of_order_as_asked(tmp_path: Path) -> None:
    plain = await simulate(tmp_path / "plain")
    number = len(plain.events)
    assert plain.events == sorted(plain.events, key=lambda event: event[0])
    missed = await simulate(tmp_path / "miss", "--miss", 0.2)
    assert set(missed.events) < set(plain.events)
    assert len(missed.events) == pytest.approx(0.8 * number, rel=0.05)
    repeated = await simulate(tmp_path / "repeat", "--repeat", 0.2)
    assert set(repeated.events) == set(plain.events)
    assert len(repeated.events) == pytest.approx(1.2 * number, rel=0.05)
    for option, least, most in (
        ("--late", timedelta(minutes=5), timedelta(hours=6)),
        ("--shuffle", timedelta(0), timedelta(minutes=1)),
    ):
        made = await simulate(tmp_path / option.strip("-"), option, 0.3)
        assert sorted(made.events) == sorted(plain.events)
        latest = made.events[0][0]
        behind = []
        for time, _, _ in made.events:
            latest = max(latest, time)
            behind.append(latest - time)
        overtaken = [gap for gap in behind if gap]
        assert len(overtaken) == pytest.approx(0.3 * number, rel=0.15 if option == "--late" else 0.9)
        assert max(behind) <= most
        assert max(behind) > least


async def test_what_it_makes_can_be_applied_and_imported_and_counts_to_nobody(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    made = await simulate(tmp_path, "--late", 0.1, "--repeat", 0.1, "--shuffle", 0.3, "--dpus", 30)
    distinct = len(set(made.events))
    assert (await headcount("apply", tmp_path / "site.toml", url=database_url)).exit_code == 0
    result = await headcount("import", tmp_path / "events.csv", url=database_url)
    assert f"accepted {distinct}, duplicates {len(made.events) - distinct}, rejected 0" in result.stdout
    # In the middle of the day each count is the oracle's, at the end each is 0 without the help of a reset.
    history = made.counts()
    at = datetime(2026, 3, 27, 12, tzinfo=UTC)
    expected = [counts for time, counts in history if time <= at][-1]
    answer = (await client.get("/v1/counts", params={"at": at.isoformat()})).json()
    assert {count["space"]: count["raw_count"] for count in answer["counts"]} == expected
    assert expected["site"] > 10
    before_reset = datetime(2026, 3, 31, 1, 59, tzinfo=UTC)
    answer = (await client.get("/v1/counts", params={"at": before_reset.isoformat()})).json()
    assert {count["raw_count"] for count in answer["counts"]} == {0}
    assert (await headcount("verify", url=database_url)).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--out", "x", "--url", "http://127.0.0.1:1"),
        ("--out", "x", "--live"),
        ("--out", "x", "--dpus", "3"),
        ("--out", "x", "--zone", "Mars/Olympus"),
        ("--out", "x", "--from", "tomorrow"),
        ("--out", "x", "--late", "1.5"),
        ("--url", "nonsense"),
    ],
)
async def test_it_refuses_options_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = await headcount("simulate", *options, url="")
    assert result.exit_code == 2, result.output
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


def test_live_traffic_comes_with_heartbeats_and_history_is_no_sign_of_life(
    own_database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    site = ("--url", url, "--spaces", 2, "--people", 50)

    def sensors() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{url}/sensors", timeout=PATIENCE).json()
        return found

    with serving(tmp_path, own_database_url, port):
        with running(tmp_path, "simulate", *site, "--from", "2026-03-27", "--days", 1) as history:
            assert history.process.wait(PATIENCE) == 0, history.said
        assert {sensor["state"] for sensor in sensors()} == {"quiet"}
        with running(tmp_path, "simulate", *site, "--days", 0, "--live") as live:
            live.wait_until(lambda: {sensor["state"] for sensor in sensors()} == {"online"})
        assert all(sensor["last_heartbeat"] for sensor in sensors())
