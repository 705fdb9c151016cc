"""deploy/grafana: what its panels ask has an answer, as the role that asks it. Grafana's macros are expanded here."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import yaml

from tests.bi.conftest import OPTIONS
from tests.conftest import Scene
from tests.factories import heard, listen, record, tick

FOLDER = Path(__file__).parents[2] / "deploy/grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))
}
PANELS = {f"{name}: {panel['title']}": panel for name, board in BOARDS.items() for panel in board["panels"]}
SOURCE = yaml.safe_load((FOLDER / "provisioning/datasources/headcount.yaml").read_text())["datasources"][0]
# Far more than any of them needs here, and far less than what somebody would wait for.
SECONDS = 10


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(tower: str, connection: asyncpg.Connection, scene: Scene) -> str:
    """The tower, with people in it just now, a sensor that nobody has placed, and two that fell silent."""
    if await scene.is_there(("fleet",)):
        return tower
    now = datetime.now(UTC)
    await listen(connection, now - timedelta(hours=2), now)
    await heard(connection, *((dpu, now - timedelta(hours=1)) for dpu in ("stairs", "terrace")))
    await tick(connection, now)
    await tick(connection, now + timedelta(seconds=3))
    await record(connection, [(dpu, now - timedelta(seconds=n), 1) for n in range(4) for dpu in ("entrance", "new")])
    await scene.note("fleet")
    return tower


def expand(sql: str, since: datetime, until: datetime, spaces: Sequence[str], interval: str = "15m") -> str:
    """As Grafana's data source does for a TimescaleDB. An interval is minutes here."""
    low, high = (f"'{at.isoformat()}'" for at in (since, until))
    minutes = int(interval.removesuffix("m"))
    sql = sql.replace("$__interval", interval).replace("$__timeFrom()", low).replace("$__timeTo()", high)
    sql = re.sub(r"\$__timeFilter\(([^()]+)\)", rf"\1 BETWEEN {low} AND {high}", sql)
    sql = re.sub(rf"\$__timeGroup\(([^(),]+), *{interval}\)", rf"time_bucket('{60 * minutes}.000s', \1)", sql)
    return sql.replace("${space:sqlstring}", ",".join(f"'{space}'" for space in spaces))


def ask(url: str, sql: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns, and the rows."""
    until = datetime.now(UTC)
    asked = expand(sql, until - timedelta(days=7), until, ("tower", "ground", "upper"))
    assert "$" not in asked, "a macro that is not expanded"
    options = f"{OPTIONS} -c statement_timeout={SECONDS * 1000}"
    with psycopg.connect(url, options=options, row_factory=psycopg.rows.dict_row) as connection:
        cursor = connection.execute(asked.encode())
        return [column.name for column in cursor.description or ()], cursor.fetchall()


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_has_an_answer_soon(fleet: str, name: str) -> None:
    panel = PANELS[name]
    [target] = panel["targets"]
    columns, rows = ask(fleet, target["rawSql"])
    assert rows != []
    assert len(set(columns)) == len(columns)
    if target["format"] == "time_series":
        times = [row["time"] for row in rows]
        assert all(isinstance(time, datetime) for time in times)
        assert times == sorted(times), "Grafana takes the times in the order in which they come"
        assert any(isinstance(value, int | float) for value in rows[0].values())
    named = [rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]]
    assert set(named) <= set(columns)


@pytest.mark.parametrize("name", BOARDS)
def test_a_variable_offers_every_space(fleet: str, name: str) -> None:
    [variable] = BOARDS[name]["templating"]["list"]
    _, rows = ask(fleet, variable["query"])
    assert [row["__value"] for row in rows] == ["tower", "ground", "upper"]
    assert rows[1]["__text"] == "tower/ground"
    assert variable["current"] == {}, "Grafana takes the first then: a whole site, and not every room"


def test_a_series_is_what_the_api_says(fleet: str, connection: asyncpg.Connection) -> None:
    _, rows = ask(fleet, PANELS["occupancy: People"]["targets"][0]["rawSql"])
    _, now = ask(fleet, PANELS["occupancy: People now"]["targets"][0]["rawSql"])
    latest = {row["space"]: row["people"] for row in rows}
    assert latest == {row["space"]: row["people"] for row in now}
    assert latest["tower"] >= 3  # four came, and until the night is over one went before


def test_sensors_that_nobody_placed_or_nobody_hears_are_named(fleet: str) -> None:
    _, silent = ask(fleet, PANELS["fleet-health: Silent sensors"]["targets"][0]["rawSql"])
    _, unplaced = ask(fleet, PANELS["fleet-health: Not placed"]["targets"][0]["rawSql"])
    _, [sums] = ask(fleet, PANELS["fleet-health: Sensors"]["targets"][0]["rawSql"])
    assert {row["dpu"] for row in silent} == {"stairs", "terrace"}
    assert [row["dpu"] for row in unplaced] == ["new"]
    assert sums == {"sensors": 4, "placed": 3, "online": 1, "offline": 2, "quiet": 0, "never_seen": 0, "not_placed": 1}


def test_there_are_the_two_dashboards_that_the_provider_reads() -> None:
    assert list(BOARDS) == ["fleet-health", "occupancy"]
    assert len({board["uid"] for board in BOARDS.values()}) == 2
    [provider] = yaml.safe_load((FOLDER / "provisioning/dashboards/headcount.yaml").read_text())["providers"]
    compose = yaml.safe_load((FOLDER.parents[1] / "compose.yaml").read_text())
    grafana = compose["services"]["grafana"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (home.parent.as_posix(), home.stem) == (provider["options"]["path"], "occupancy")
    # start.sh takes the password from its file
    given = {variable.removesuffix("_FILE") for variable in grafana["environment"]}
    assert set(re.findall(r"\$(\w+)", json.dumps(SOURCE))) <= given


def test_the_source_is_the_role_for_bi_and_can_do_without_secrets_in_the_file() -> None:
    assert (SOURCE["user"], SOURCE["uid"], SOURCE["jsonData"]["timescaledb"]) == ("headcount_bi", "headcount", True)
    assert SOURCE["secureJsonData"] == {"password": "$BI_PASSWORD"}


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_asks_the_source_and_lays_nothing_over_anything(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {(source["uid"], source["type"]) for source in sources} == {(SOURCE["uid"], SOURCE["type"])}
    for a, b in combinations((panel["gridPos"] for panel in panels), 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert a["x"] + a["w"] <= 24


@pytest.mark.parametrize("name", PANELS)
def test_what_grows_with_time_is_asked_for_a_range(name: str) -> None:
    """Of these views that have a row an event or a quarter-hour."""
    sql = PANELS[name]["targets"][0]["rawSql"]
    if re.search(r"bi\.(events|space_counts_15m|space_flows_15m)", sql):
        assert "$__time" in sql
