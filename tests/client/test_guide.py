"""docs/reference/client.md: its examples run, and print what it says."""

import asyncio
import itertools
import re
import sys
from pathlib import Path

import asyncpg

from tests.commands.support import PATIENCE, free_port, serving

GUIDE = Path(__file__).parents[2] / "docs/reference/client.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


async def begin(code: str, port: int, folder: Path) -> asyncio.subprocess.Process:
    script = folder / "example.py"
    script.write_text(code.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}"))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", script),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def run(code: str, port: int, folder: Path) -> str:
    process = await begin(code, port, folder)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_its_examples_print_what_it_says(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    examples = [(code, after[1]) for (kind, code), after in itertools.pairwise(blocks) if kind == "python"]
    first, series = examples[0], examples[1]
    live = next(code for kind, code in reversed(blocks) if kind == "python")
    port = free_port()
    with serving(tmp_path, database_url, port) as process:
        for _ in range(2):
            assert await run(first[0], port, tmp_path) == first[1]
        said = await run(series[0], port, tmp_path)
        assert [line.rstrip() for line in said.splitlines()] == series[1].splitlines()
        watching = await begin(live, port, tmp_path)
        assert watching.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await watching.stdout.readline() == b"studio 2\n"
        watching.kill()
        await watching.wait()
        await asyncio.to_thread(process.end)
