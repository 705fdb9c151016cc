"""PUT /v1/site of very many rooms, in parts as `headcount apply --url` sends them, and the events meanwhile."""

import asyncio
import json
import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import uvloop

from benchmarks.client import HOST, open_line
from benchmarks.database import fresh_database, server_url
from benchmarks.lanes import Bench, Lane, Length, Round
from benchmarks.processes import serving
from benchmarks.traffic import Traffic, make_site
from headcount.commands.client import Client
from headcount.wire.bodies import JSON, decode_bytes
from headcount.wire.messages.plan import SiteIn

ROOMS = 20_000
PAUSE_SECONDS = 0.1
PUT = Lane(f"PUT /v1/site of {ROOMS:,} rooms", 6, "s", "lower")
MEANWHILE = Lane(f"single events during PUT /v1/site of {ROOMS:,} rooms, p99", 1, "s", "lower", is_limit=True)


def plan() -> SiteIn:
    """A site whose rooms have a door each, with a DPU above it."""
    numbers = range(ROOMS)
    site = {
        "spaces": [{"id": "site"}, *({"id": f"room-{n}", "parent": "site"} for n in numbers)],
        "doorways": [{"id": f"room-door-{n}", "sides": ["site", f"room-{n}"]} for n in numbers],
        "dpus": [{"id": f"room-dpu-{n}"} for n in numbers],
        "placements": [
            {
                "dpu": f"room-dpu-{n}",
                "doorway": f"room-door-{n}",
                "mounted_in": f"room-{n}",
                "from": "2020-01-01T00:00:00Z",
            }
            for n in numbers
        ],
    }
    return decode_bytes(json.dumps(site).encode(), SiteIn, JSON)


async def measure(port: int, site: SiteIn) -> tuple[float, list[float]]:
    """Seconds of the PUTs, and of each event meanwhile until it was stored. None waits for another one."""
    traffic, waits = Traffic(), list[float]()

    def put() -> float:
        began = time.perf_counter()
        with Client(f"http://{HOST}:{port}") as client:
            list(client.apply_site(site))
        return time.perf_counter() - began

    async def store() -> None:
        event, due = traffic.request(1), time.perf_counter()
        line = await open_line(port)
        while (found := await line.ask(event))[0] != 200:
            if found[0] not in (429, 503):
                raise RuntimeError(f"POST /v1/events: {found}")
            await asyncio.sleep(PAUSE_SECONDS)
        waits.append(time.perf_counter() - due)
        if line.transport is not None:
            line.transport.close()

    putting = asyncio.create_task(asyncio.to_thread(put))
    async with asyncio.TaskGroup() as group:
        while not putting.done():
            group.create_task(store())
            await asyncio.sleep(PAUSE_SECONDS)
    return putting.result(), waits


@contextmanager
def open_site(_: Length) -> Iterator[Round]:
    site = plan()

    def round_(_: Collection[str]) -> dict[str, float]:
        """On a new database: a site that is there is only compared."""
        with fresh_database(server_url()) as url:
            make_site(url)
            with serving(url) as server:
                seconds, waits = uvloop.run(measure(server.port, site))
        return {PUT.name: seconds, MEANWHILE.name: sorted(waits)[math.ceil(0.99 * len(waits)) - 1]}

    yield round_


BENCH = Bench((PUT, MEANWHILE), open_site)
