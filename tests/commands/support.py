"""Running the command: in this process where that is enough, as a process of its own where it is to be killed."""

import asyncio
import inspect
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from click.testing import CliRunner, Result

from headcount.cli import main

PATIENCE = 120.0  # seconds, on a machine that is busy with other things
CHANCE = random.SystemRandom()  # whatever seeds others set
# What the suite itself is told; a command would refuse it as a setting that does not exist.
OF_THE_SUITE = (
    "TEST_REQUIRED",
    "TEST_WORLDS",
    "TEST_CRASHES",
    "TEST_OUTAGES",
    "TEST_SOAK_SECONDS",
    "TEST_RACE_SECONDS",
)


async def until(condition: Callable[[], object], what: str = "it took too long") -> None:
    """A function of nothing, that may be one to be awaited, is true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def headcount(*arguments: object, url: str) -> Result:
    """`headcount ...` in a thread, with an event loop of its own."""

    def invoke() -> Result:
        variables = {**dict.fromkeys(OF_THE_SUITE), "DATABASE_URL": url}
        return CliRunner().invoke(main, [str(argument) for argument in arguments], env=variables)

    return await asyncio.to_thread(invoke)


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would lead a command elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HEADCOUNT_") or name == "HEADCOUNT_CACHE"
    }
    for name in ("DATABASE_URL", "PORT", "DEMO"):
        kept.pop(name, None)
    return kept | variables


class Process:
    """A `headcount ...` of its own; what it says goes to a file."""

    def __init__(self, arguments: Sequence[object], folder: Path, **variables: str) -> None:
        # where PYTHONPATH leads to an older release: up to 0.1.0 it was another package
        is_older = (Path(variables.get("PYTHONPATH", "/")) / "service/cli.py").exists()
        module = "service.cli" if is_older else "headcount.cli"
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *map(str, arguments)],
                cwd=folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, patience: float = PATIENCE) -> None:
        """Until it has said so."""
        self.wait_until(lambda: text in self.said, patience)

    def wait_until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() < deadline, f"it took too long: {self.said}"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code, after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(folder: Path, *arguments: object, **variables: str) -> Iterator[Process]:
    process = Process(arguments, folder, **variables)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()


@contextmanager
def serving(folder: Path, database_url: str, port: int, **variables: str) -> Iterator[Process]:
    """`headcount serve` on a port, ready; without tokens, unless the variables say otherwise."""
    chosen = {"DATABASE_URL": database_url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port)} | variables
    with running(folder, "serve", **chosen) as process:
        process.wait_for("Serving on")
        yield process


given_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens at, and that nobody takes soon: below those that outgoing connections are given, so
    that it stays free also while its server is dead; by chance, since others look for one at the same time; and never
    given twice."""
    while True:
        port = CHANCE.randint(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in given_ports:
                given_ports.add(port)
                return port


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False
