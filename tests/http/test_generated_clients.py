"""What generators of clients make of GET /schema."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.npm import NodeMissing, find_node, npm_ci
from tests.factories import apply_site
from tests.http import body

pytestmark = pytest.mark.slow

NPM_FILES = Path(__file__).parent / "openapi"
# Media types beside JSON: the Python generator has no code for them, says so, and goes on with JSON.
OTHER_FORMATS = re.compile(r"Unsupported content type (?:application/msgpack|application/x-ndjson|text/csv)")


@pytest.fixture
async def description(client: httpx.AsyncClient, tmp_path: Path) -> Path:
    """The document in a file."""
    path = tmp_path / "headcount.json"
    path.write_bytes((await client.get("/schema")).content)
    return path


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    """A folder of which Python imports, until the test is over."""
    known = set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def run(*command: str | Path) -> str:
    """What a program says; it has to end well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_openapi_python_client_makes_a_client_that_works(
    client: httpx.AsyncClient, connection: asyncpg.Connection, description: Path, importable: Path
) -> None:
    await apply_site(connection, spaces=[{"id": "hall", "capacity": 8}])
    made = importable / "made_client"
    tool = Path(sys.executable).with_name("openapi-python-client")
    said = run(tool, "generate", "--path", description, "--output-path", made, "--meta", "none")

    warnings = re.findall(r"WARNING.*\n\n(.*)\n", said)
    assert said.count("WARNING") == len(warnings)
    assert [warning for warning in warnings if not OTHER_FORMATS.fullmatch(warning)] == []
    paths = body(await client.get("/schema"))["paths"].values()
    operations = {operation["operationId"] for path in paths for operation in path.values()}
    assert {file.stem for file in made.glob("api/*/*.py")} - {"__init__"} == operations

    ours = importlib.import_module("made_client").Client(base_url=str(client.base_url))
    ours.set_async_httpx_client(client)
    models = importlib.import_module("made_client.models")

    def operation(place: str) -> Any:
        return importlib.import_module(f"made_client.api.{place}").asyncio

    count = await operation("counts.get_count")("hall", client=ours)
    assert (count.space, count.count, count.capacity, count.dpus.placed) == ("hall", 0, 8, 0)
    doorway = models.DoorwayIn(sides=[None, "hall"])
    assert (await operation("floor_plan.put_doorway")("front", client=ours, body=doorway)).sides == [None, "hall"]
    problem = await operation("floor_plan.get_space")("cellar", client=ours)
    assert (problem.status, problem.code) == (404, "not_found")

    space = await operation("floor_plan.put_space")("nook", client=ours, body=models.SpaceIn(parent="hall", capacity=2))
    assert (space.id, space.parent, space.capacity) == ("nook", "hall", 2)
    placement = models.PlacementIn(doorway="front", mounted_in="hall", from_=datetime(2026, 1, 1, tzinfo=UTC))
    placed = await operation("floor_plan.record_placement")("dpu-1", client=ours, body=placement)
    assert placed.code == "not_found"
    await operation("floor_plan.put_dpu")("dpu-1", client=ours, body=models.DpuIn())
    placed = await operation("floor_plan.record_placement")("dpu-1", client=ours, body=placement)
    assert (placed.doorway, placed.from_) == ("front", datetime(2026, 1, 1, tzinfo=UTC))
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    events = [models.EventIn("dpu-1", noon - timedelta(minutes=1), direction) for direction in (3, 2**20)]
    events[1].sequence = 1
    sent = await operation("events.record_events")(client=ours, body=models.EventsIn(events=events[:1] * 2))
    assert (sent.received, sent.accepted, sent.duplicates, sent.rejected) == (2, 1, 1, [])
    at = await operation("counts.get_count")("hall", client=ours, at=noon)
    assert (at.count, at.at, at.dpus.placed) == (3, noon, 1)
    await operation("events.record_events")(client=ours, body=models.EventsIn(events=events))
    page = await operation("events.list_events")(client=ours, dpu="dpu-1", limit=1)
    assert [(event.direction, event.timestamp) for event in page.items] == [(3, events[0].timestamp)]
    rest = await operation("events.list_events")(client=ours, dpu="dpu-1", after=page.next_)
    assert [event.direction for event in rest.items] == [2**20]
    assert rest.next_ is None
    states = await operation("floor_plan.list_dpus")(client=ours, state=models.ListDpusState.ONLINE)
    assert [(dpu.id, dpu.state) for dpu in states.items] == [("dpu-1", "online")]
    refused = await operation("counts.get_count")("hall", client=ours, at=datetime.now(UTC) + timedelta(hours=1))
    assert (refused.status, refused.code) == (422, "invalid")


async def test_datamodel_code_generator_makes_models_that_read_our_answers(
    client: httpx.AsyncClient, connection: asyncpg.Connection, description: Path, importable: Path
) -> None:
    await apply_site(
        connection, spaces=[{"id": "hall"}], doorways=[{"id": "front", "sides": [None, "hall"]}], dpus=[{"id": "one"}]
    )
    said = run(
        *(Path(sys.executable).with_name("datamodel-codegen"), "--input", description, "--input-file-type", "openapi"),
        *("--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin"),
        *("--output", importable / "made_models.py"),
    )
    assert said == ""
    models = importlib.import_module("made_models")
    for address, name in (("/v1/spaces/hall", "SpaceOut"), ("/v1/doorways/front", "DoorwayOut")):
        answer = body(await client.get(address))
        assert getattr(models, name).model_validate(answer).id == answer["id"]
    assert [sensor["id"] for sensor in body(await client.get("/sensors"))] == ["one"]
    assert models.SensorOut.model_validate(body(await client.get("/sensors"))[0]).state == "never_seen"


async def test_openapi_typescript_makes_types_that_a_strict_compiler_takes(description: Path, tmp_path: Path) -> None:
    tools = install_from_npm(tmp_path)
    said = run(tools / "openapi-typescript", description, "--output", tmp_path / "headcount.ts")
    assert "warn" not in said.lower(), said
    (tmp_path / "use.ts").write_text(
        'import type { components, paths } from "./headcount";\n'
        'const sides: components["schemas"]["DoorwayIn"]["sides"] = [null, "hall"];\n'
        'type Report = paths["/v1/reports"]["post"]["requestBody"]["content"]["application/json"];\n'
        'export const report: Report = { under: sides[1] ?? "all", format: "csv" };\n'
    )
    assert run(tools / "tsc", "--noEmit", "--strict", tmp_path / "use.ts") == ""


def install_from_npm(folder: Path) -> Path:
    """Where the programs of tests/http/openapi/package.json are. Skips the test where npm cannot get them."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NPM_FILES / name, folder)
    try:
        npm = npm_ci(find_node(), folder)
        reason = npm.stdout.strip() if npm.returncode else None
    except (NodeMissing, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason is not None:
        reason = f"openapi-typescript cannot be fetched from npm: {reason}"
        if "npm" in os.environ.get("TEST_REQUIRED", ""):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder / "node_modules/.bin"


def test_the_lock_of_the_npm_packages_names_no_host_and_has_all_hashes() -> None:
    packages = json.loads((NPM_FILES / "package-lock.json").read_bytes())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())
