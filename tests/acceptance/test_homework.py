"""Two rooms, two DPUs and a file of events with a replay in it: by command and over HTTP, against plain Python.

The file is the one of the original homework where it lies beside the repository (it is not ours to copy), and one of
our own making everywhere.
"""

import asyncio
import csv
import io
import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

ROOT = Path(__file__).parents[2]
HOMEWORK = ROOT.parent / "shared" / "data" / "density" / "dpu_data.csv"

FLOOR_PLAN = """
[[spaces]]
id = "A"

[[spaces]]
id = "B"

[[doorways]]
id = "X"
sides = ["", "A"]

[[doorways]]
id = "Z"
sides = ["A", "B"]

[[dpus]]
id = "283"

[[dpus]]
id = "423"

[[placements]]
dpu = "283"
doorway = "X"
mounted_in = "A"
from = 2018-01-01T00:00:00Z

[[placements]]
dpu = "423"
doorway = "Z"
mounted_in = "A"
from = 2018-01-01T00:00:00Z
"""

SITE = {
    "spaces": [{"id": "A"}, {"id": "B"}],
    "doorways": [{"id": "X", "sides": [None, "A"]}, {"id": "Z", "sides": ["A", "B"]}],
    "dpus": [{"id": "283"}, {"id": "423"}],
    "placements": [
        {"dpu": "283", "doorway": "X", "mounted_in": "A", "from": "2018-01-01T00:00:00Z"},
        {"dpu": "423", "doorway": "Z", "mounted_in": "A", "from": "2018-01-01T00:00:00Z"},
    ],
}

FIGURES = [
    datetime(2018, 2, 26, 17, tzinfo=UTC),
    datetime(2018, 2, 27, 12, tzinfo=UTC),
    datetime(2018, 3, 2, 16, 39, 37, 240_000, tzinfo=UTC),
]


@dataclass(frozen=True)
class File:
    content: bytes
    accepted: int
    duplicates: int

    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.content.decode())))

    @cached_property
    def seen(self) -> set[tuple[str, datetime, int]]:
        return {(row["dpu_id"], datetime.fromisoformat(row["timestamp"]), int(row["direction"])) for row in self.rows()}

    def counts(self, at: datetime) -> dict[str, int]:
        """The few lines of plain Python: a DPU hangs in A each time, 283 at the way out and 423 at the way to B."""
        outer = sum(direction for dpu, time, direction in self.seen if dpu == "283" and time <= at)
        inner = sum(direction for dpu, time, direction in self.seen if dpu == "423" and time <= at)
        return {"A": outer + inner, "B": -inner}

    def instants(self) -> list[datetime]:
        """The instants to hold, and every tenth event's own with a microsecond before and after it."""
        times = sorted({datetime.fromisoformat(row["timestamp"]) for row in self.rows()})
        around = [time + timedelta(microseconds=step) for time in times[::10] for step in (-1, 0, 1)]
        return [*FIGURES, times[0] - timedelta(days=1), *around, times[-1], times[-1] + timedelta(days=1)]


def make_file() -> File:
    """Of our own making: 400 events, of which a stretch of 25 was sent twice, some numbers without quotes."""
    generator = random.Random(2018)
    start = datetime(2018, 2, 24, 8, tzinfo=UTC)
    times = sorted(start + timedelta(milliseconds=at) for at in generator.sample(range(6 * 86_400_000), 400))
    lines = []
    for number, time in enumerate(times):
        direction, dpu = generator.choice([1, 1, -1]), generator.choice(["283", "423"])
        quote = "" if number % 7 == 0 else '"'
        stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f'"{stamp}",{quote}{direction}{quote},"{dpu}"'
        lines += [line, line] if 200 <= number < 225 else [line]
    return File("\n".join(['"timestamp","direction","dpu_id"', *lines]).encode(), 400, 25)


def homework_file() -> File:
    """563 events. Its description says 562 (529 without repeats): the last line, without a line end, not counted."""
    if not HOMEWORK.exists():
        pytest.skip("the homework's file is not beside the repository")
    return File(HOMEWORK.read_bytes(), 530, 33)


@pytest.fixture(params=[homework_file, make_file], ids=["homework", "ours"])
def file(request: pytest.FixtureRequest) -> File:
    made: File = request.param()
    return made


async def headcount(database_url: str, folder: Path, *arguments: str) -> str:
    """Runs the command as a person would, in `folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headcount.cli",
        *arguments,
        cwd=folder,
        env=os.environ | {"DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


async def check_counts(client: httpx.AsyncClient, file: File) -> None:
    for at in file.instants():
        response = await client.get("/v1/counts", params={"at": at.isoformat()})
        assert response.status_code == 200, response.text
        got = {count["space"]: (count["raw_count"], count["count"]) for count in response.json()["counts"]}
        assert got == {space: (raw, max(0, raw)) for space, raw in file.counts(at).items()}, at


async def test_it_imports_the_file_once_and_counts_like_plain_python(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path, file: File
) -> None:
    plan, events, again = (tmp_path / name for name in ("plan.toml", "events.csv", "again.csv"))
    plan.write_text(FLOOR_PLAN)
    events.write_bytes(file.content)
    again.write_bytes(file.content + b"\n")  # another file as far as the record of imports goes

    assert "created 8, updated 0, unchanged 0" in await headcount(database_url, tmp_path, "apply", "plan.toml")
    assert "unchanged 8" in await headcount(database_url, tmp_path, "apply", "plan.toml")
    summary = await headcount(database_url, tmp_path, "import", "events.csv")
    assert f"accepted {file.accepted}, duplicates {file.duplicates}, rejected 0" in summary
    await check_counts(client, file)

    await headcount(database_url, tmp_path, "import", "events.csv")
    summary = await headcount(database_url, tmp_path, "import", "again.csv")
    assert f"accepted 0, duplicates {file.accepted + file.duplicates}, rejected 0" in summary
    await check_counts(client, file)


def encode_json(rows: Sequence[dict[str, str]]) -> bytes:
    return json.dumps({"events": [event(row) for row in rows]}).encode()


def encode_msgpack(rows: Sequence[dict[str, str]]) -> bytes:
    return msgspec.msgpack.encode({"events": [event(row) for row in rows]})


def encode_ndjson(rows: Sequence[dict[str, str]]) -> bytes:
    return b"\n".join(json.dumps(event(row)).encode() for row in rows)


def encode_csv(rows: Sequence[dict[str, str]]) -> bytes:
    lines = [f"{row['dpu_id']},{row['timestamp']},{row['direction']}" for row in rows]
    return "\r\n".join(["dpu_id,timestamp,direction", *lines]).encode()


def event(row: dict[str, str]) -> dict[str, Any]:
    return {"dpu": row["dpu_id"], "timestamp": row["timestamp"], "direction": int(row["direction"])}


ENCODERS = {
    "application/json": encode_json,
    "application/msgpack": encode_msgpack,
    "application/x-ndjson": encode_ndjson,
    "text/csv": encode_csv,
}


@pytest.mark.parametrize("media_type", ENCODERS)
async def test_it_gives_the_same_answers_to_shuffled_lines_in_batches_of_any_size(
    client: httpx.AsyncClient, file: File, media_type: str
) -> None:
    generator = random.Random(media_type)
    assert (await client.put("/v1/site", json=SITE)).status_code == 200
    rows = file.rows()
    generator.shuffle(rows)

    accepted = duplicates = 0
    while rows:
        size = generator.choice([1, 2, 10, 100, 500])
        batch, rows = rows[:size], rows[size:]
        response = await client.post(
            "/v1/events", content=ENCODERS[media_type](batch), headers={"content-type": media_type}
        )
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["received"], answer["rejected"]) == (len(batch), [])
        accepted += answer["accepted"]
        duplicates += answer["duplicates"]

    assert (accepted, duplicates) == (file.accepted, file.duplicates)
    await check_counts(client, file)


def test_it_expects_of_each_file_what_can_be_counted_in_it(file: File) -> None:
    identities = {(row["dpu_id"], row["timestamp"]) for row in file.rows()}
    assert len(identities) == file.accepted
    assert len(file.rows()) - len(identities) == file.duplicates


def test_it_holds_the_figures_known_of_the_homework() -> None:
    assert homework_file().counts(FIGURES[-1]) == {"A": -2, "B": 8}
