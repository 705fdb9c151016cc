"""Server processes that are measured: start, wait until they answer, CPU time and memory, stop."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from benchmarks.client import HOST

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def tree(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(fields_of(int(stat.parent.name))[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def fields_of(pid: int) -> list[str]:
    """Of /proc/PID/stat, those behind the name. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time so far, of a process and its children. Raises OSError if it is gone."""
    ticks = 0
    for one in tree(pid):
        try:
            ticks += sum(map(int, fields_of(one)[11:13]))
        except OSError:
            if one == pid:
                raise
    return ticks / TICKS


class Server:
    """A server in processes of its own. It logs into a file, as it does where it is installed."""

    def __init__(
        self,
        arguments: Sequence[str],
        port: int,
        environment: Mapping[str, str],
        ready: str,
        log: BinaryIO,
        folder: Path | None,
    ) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://{HOST}:{port}{ready}", timeout=5):
                    return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    log.seek(0)
                    said = log.read()[-2_000:].decode(errors="replace")
                    raise RuntimeError(f"{arguments[0]} does not answer: {error} {said}".strip()) from None
                time.sleep(0.05)

    def cpu_seconds(self) -> float:
        """User and system time so far, of the process and its children."""
        return cpu_seconds(self.process.pid)

    def memory(self) -> int:
        """Resident bytes, of the process and its children; pages they share count for each."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in tree(self.process.pid))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def running(
    arguments: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    ready: str = "/healthz",
    folder: Path | None = None,
) -> Iterator[Server]:
    """`folder`: where it runs."""
    with tempfile.TemporaryFile() as log:
        server = Server(arguments, port, environment, ready, log, folder)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def serving(url: str, *arguments: str, **settings: str) -> Iterator[Server]:
    """`headcount serve` (or another module with its arguments) on a database, as people start it; without tokens."""
    port = free_port()
    environment = {"DATABASE_URL": url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port), **settings}
    with running(arguments or ("headcount.cli", "serve"), port, environment) as server:
        yield server
