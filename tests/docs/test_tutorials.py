"""What the tutorials tell readers to do gives what the tutorials print."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.acceptance.test_readme import parse
from tests.commands.support import free_port, headcount, serving

TUTORIALS = Path(__file__).parents[2] / "docs/tutorials"
BLOCK = re.compile(r"^```(\w+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
# These name the moment at which somebody follows the tutorial.
INSTANTS = {"recorded_at", "to"}
# Nothing printed is held against these: they start, watch or open something.
WATCHED = {
    "first-five-minutes": ["make run", "curl -s http://127.0.0.1:8000/v1/spaces/campus/count", "curl -sN"],
    "first-sensor": [],
    "dashboard": ['psql "host=$PWD/.data/run user=postgres dbname=headcount"', "docker compose"],
}
SOCKET = 'f"postgresql+psycopg://postgres@/headcount?host={os.getcwd()}/.data/run"'


def same(found: Any, printed: Any, name: str = "") -> bool:
    """Equal, but for instants of now: they need only be instants."""
    if isinstance(found, dict) and isinstance(printed, dict):
        return list(found) == list(printed) and all(same(found[key], printed[key], key) for key in found)
    if isinstance(found, list) and isinstance(printed, list):
        return len(found) == len(printed) and all(map(same, found, printed))
    if name in INSTANTS and isinstance(found, str):
        return bool(datetime.fromisoformat(found) and datetime.fromisoformat(printed))
    return bool(found == printed)


def run(program: str, database_url: str, folder: Path) -> str:
    """What it prints; if it asks the service, there is one."""
    port, url = free_port(), database_url.replace("postgresql://", "postgresql+psycopg://")
    program = program.replace(SOCKET, repr(url)).replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    with serving(folder, database_url, port) if f":{port}" in program else contextlib.nullcontext() as service:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        if service:
            service.end()
    assert done.returncode == 0, done.stderr
    return done.stdout


def save(file: Path, content: str) -> None:
    file.write_text(content + "\n")


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if "--+--" not in line]


@pytest.mark.parametrize("tutorial", WATCHED)
async def test_every_command_answers_as_printed(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tutorial: str
) -> None:
    text = (TUTORIALS / f"{tutorial}.md").read_text()
    monkeypatch.chdir(tmp_path)
    blocks = [(match[1], match[2], text[: match.start()]) for match in BLOCK.finditer(text)]
    watched = []
    for place, (kind, content, before) in enumerate(blocks):
        printed = blocks[place + 1][1] if place + 1 < len(blocks) else ""
        if saved := re.search(r"Save this as `([\w.]+)`", before.rstrip().rpartition("\n\n")[2]):
            save(tmp_path / saved[1], content)
        if kind == "sh" and content.startswith("curl -s ") and blocks[place + 1][0] in ("json", "csv"):
            method, path, headers, body = parse(content)
            answer = await client.request(method, path, headers=headers, content=body)
            if blocks[place + 1][0] == "csv":
                assert answer.text.split() == printed.split(), content
            else:
                assert same(answer.json(), json.loads(printed)), f"{content}\n{answer.text}"
        elif kind == "sh" and content.startswith(".venv/bin/headcount apply"):
            applied = await headcount("apply", content.split()[2], url=database_url)
            assert applied.stdout.strip() == printed.strip()
        elif kind == "sh":
            watched.append(content)
        elif kind == "sql":
            with psycopg.connect(database_url, options="-c role=headcount_bi") as connection:
                cursor = connection.execute(content.encode())
                names = [column.name for column in cursor.description or ()]
                assert [names, *([str(cell) for cell in row] for row in cursor)] == cells(printed)
        elif kind == "python":
            said = await asyncio.to_thread(run, content, database_url, tmp_path)
            assert [line.rstrip() for line in said.splitlines()] == printed.splitlines()
    assert len(watched) == len(WATCHED[tutorial])
    for command, known in zip(watched, WATCHED[tutorial], strict=True):
        assert command.startswith(known)
