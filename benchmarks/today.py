"""`headcount serve` beside that of the commit from which the goals were set, by turns.

The commit is unpacked from the repository's history (`git archive`). It runs in this Python environment, on a database
that it migrated itself; both have tokens.
"""

import random
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.client import get
from benchmarks.database import server_url
from benchmarks.lanes import Bench, Lane, Length, Round, rates_of
from benchmarks.routes import HERE, Served, serving
from benchmarks.traffic import Traffic

TODAY = "eee45ad"


def count_at(_: Traffic) -> bytes:
    """At an instant of yesterday, mostly another one each time."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    at = midnight - timedelta(milliseconds=random.randrange(86_400_000))
    return get(f"/v1/spaces/hall/count?at={at:%Y-%m-%dT%H:%M:%S.%f}Z")


# By lane: what is asked, over how many connections, and more of it than can be answered in a second.
ASKED: dict[Lane, tuple[Callable[[Traffic], bytes], int, int]] = {
    Lane("single-event POST, 64 connections", 1.8, "of today", "higher"): (lambda t: t.request(1), 64, 25_000),
    Lane("current count, 64 connections", 1.8, "of today", "higher"): (
        lambda _: get("/v1/spaces/hall/count"),
        64,
        50_000,
    ),
    Lane("count?at= of different instants, 16 connections", 5, "of today", "higher"): (count_at, 16, 20_000),
}


def unpack(folder: Path) -> None:
    """Raises RuntimeError where the repository does not have the commit."""
    archive = folder / "archive.tar"
    command = ("git", "-C", str(HERE), "archive", "--output", str(archive), TODAY)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"commit {TODAY} cannot be unpacked: {done.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()


@contextmanager
def open_today(length: Length) -> Iterator[Round]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headcount-today-")))
        unpack(folder)
        sides = [stack.enter_context(serving(checkout, server_url())) for checkout in (HERE, folder)]

        def run(served: Served, lane: Lane, seconds: float) -> tuple[int, float]:
            make, connections, most = ASKED[lane]
            load = served.send([make(served.traffic) for _ in range(int(most * seconds))], connections, seconds)
            return load.statuses[200], load.seconds

        def round_(names: Collection[str]) -> dict[str, float]:
            found = {}
            for lane in ASKED:
                if lane.name in names:
                    rates = rates_of({served.name: partial(run, served, lane) for served in sides}, length.seconds)
                    found[lane.name] = rates[sides[0].name] / rates[sides[1].name]
            return found

        for served in sides:
            for lane in ASKED:
                run(served, lane, 0.5)  # connections, caches, the first chunk
        yield round_


BENCH = Bench(tuple(ASKED), open_today)
