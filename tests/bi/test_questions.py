"""The questions of docs/how-to/bi-questions.md, asked."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psycopg
import pytest

from headcount.demo.traffic import demo_site
from tests.bi.conftest import OPTIONS
from tests.factories import LONG_AGO, apply_site, record

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/bi-questions.md"
BOARD = json.loads((DOCUMENT.parents[2] / "deploy/grafana/dashboards/occupancy.json").read_text())
QUESTIONS = dict(
    re.findall(r"^## (.+?)\n(?:(?!^#).)*?```sql\n(.+?)```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
)


def ask(url: str, title: str) -> list[dict[str, object]]:
    with psycopg.connect(url, options=OPTIONS, row_factory=psycopg.rows.dict_row) as connection:
        query = QUESTIONS[title].replace("'main-building'", "'tower'")  # what the demo calls it
        return connection.execute(query.encode()).fetchall()


def test_there_are_eleven() -> None:
    assert len(QUESTIONS) == 11


def test_they_name_only_spaces_that_the_demo_has() -> None:
    demo = {space.id for space in demo_site(datetime.now(UTC), datetime.now(UTC)).spaces or ()}
    named = re.findall(r"(?:space|parent|mounted_in) = '(.+?)'", "".join(QUESTIONS.values()))
    assert "main-building" in named
    assert set(named) <= demo


def test_nothing_calls_a_peak_of_quarter_hours_exact() -> None:
    """What is shown says of which instants it is the peak."""
    for name in ("People", "Utilization", "Peak of quarter-hour ends against capacity"):
        [panel] = [panel for panel in BOARD["panels"] if panel["title"] == name]
        assert "end of" in panel["description"]
        assert "Between two ends" in panel["description"]
    section = DOCUMENT.read_text().split("## How high is the peak")[1].split("```")[0]
    assert "at the end of a quarter-hour" in section


@pytest.mark.parametrize(
    "condition",
    [
        "dpu = 'entrance' and time = %(time)s and sequence = 0",
        "time = %(time)s and direction = 1",
        "direction = 1 and sequence = 0 and time >= %(time)s",
        "direction in (1) and sequence = 0 and dpu in ('entrance')",
    ],
)
def test_several_constants_at_once_can_be_asked_of_compressed_days(tower: str, condition: str) -> None:
    """TimescaleDB 2.28.3 crashes the server where two of them reach a compressed chunk."""
    with psycopg.connect(tower) as owner:
        owner.execute("select compress_chunk(c) from show_chunks('core.event') c")
    with psycopg.connect(tower, options=OPTIONS, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(
            """
            select set_config(s.name, 'on', false) from pg_settings s
            where s.name = 'timescaledb.enable_composite_bloom_indexes'
            """
        )
        row = connection.execute("select min(time) from bi.events where direction = 1").fetchone()
        assert row is not None
        query = f"select count(*) from bi.events where {condition}"
        found = connection.execute(query.encode(), {"time": row[0]}).fetchone()
        assert found is not None
        assert found[0] > 0


@pytest.mark.parametrize("title", QUESTIONS)
def test_every_question_has_an_answer(tower: str, title: str) -> None:
    assert ask(tower, title) != []


def test_the_busiest_hour_of_a_floor_is_before_people_leave(tower: str) -> None:
    rows = ask(tower, "Which is the busiest hour of each floor?")
    assert [row["space"] for row in rows] == ["ground", "upper"]
    assert all(10 <= int(str(row["hour"])) <= 15 for row in rows)


def test_people_stay_about_as_long_as_they_did(tower: str) -> None:
    minutes = {row["space"]: float(str(row["minutes"])) for row in ask(tower, "How long do people stay?")}
    assert 300 < minutes["tower"] < 460


def test_a_doorway_out_of_which_people_only_go_drifts_most(tower: str) -> None:
    drift = {row["doorway"]: float(str(row["percent"])) for row in ask(tower, "Which doorways drift?")}
    assert drift["terrace"] == -100
    assert drift["stairs"] == 0  # of whole days


async def test_a_doorway_with_sensors_on_both_sides_does_not_drift_by_that(
    connection: asyncpg.Connection, tower: str
) -> None:
    """Three people go up below the one and down below the other: both see them walk away."""
    placement = {"dpu": "below", "doorway": "stairs", "mounted_in": "ground", "from": LONG_AGO.isoformat()}
    await apply_site(connection, dpus=[{"id": "below"}], placements=[placement])
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    times = [noon + n * timedelta(minutes=7, seconds=1) for n in range(3)]
    await record(connection, [(dpu, time, -1) for time in times for dpu in ("below", "stairs")], backfill=True)
    (stairs,) = [row for row in ask(tower, "Which doorways drift?") if row["doorway"] == "stairs"]
    assert stairs["surplus"] == 0


def test_a_floor_that_people_left_before_anybody_came_has_missed_people(tower: str) -> None:
    missed = {row["space"]: row["missed_at_least"] for row in ask(tower, "Where did sensors miss people?")}
    assert missed == {"tower": 1, "upper": 1}


def test_silent_sensors_are_named(tower: str) -> None:
    assert {row["dpu"] for row in ask(tower, "Which sensors are silent?")} == {"entrance", "stairs", "terrace"}


def test_sensors_whose_events_are_refused_are_named_with_the_reason(tower: str) -> None:
    (row,) = ask(tower, "Which sensors lose events, and why?")
    assert (row["dpu"], row["code"], row["events"], row["clock"]) == ("terrace", "clock_unset", 2, "unset")
    assert "Set the clock of the device." in str(row["what_to_do"])
