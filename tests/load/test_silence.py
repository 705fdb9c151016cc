"""Sensors fall silent and come back while three processes are killed -9 at random.

TEST_OUTAGES: how often (make soak: 50).
"""

import asyncio
import itertools
import json
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.commands.support import PATIENCE, free_port, serving
from tests.notices.support import Received, receiver, verified

OUTAGES = int(os.environ.get("TEST_OUTAGES", "6"))
DPUS = 10
PROCESSES = 3
THRESHOLD = timedelta(seconds=2)
BEAT_SECONDS = 0.4
# A dead sender's lease, and what was waiting for it.
SETTLE_SECONDS = 120

Outage = tuple[str, datetime, datetime]


class Sensors:
    """Send heartbeats with their device time to whichever process answers, each until it is acknowledged."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self.signs: dict[str, list[datetime]] = defaultdict(list)
        self.stop = asyncio.Event()

    async def run(self, dpu: str, silences: int, done: asyncio.Semaphore) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            for _ in range(silences):
                for _ in range(random.randint(6, 10)):
                    await self._beat(client, dpu)
                await asyncio.sleep(random.uniform(2.2, 7))
            done.release()
            while not self.stop.is_set():
                await self._beat(client, dpu)

    async def _beat(self, client: httpx.AsyncClient, dpu: str) -> None:
        at = datetime.now(UTC)
        body = {"dpu": dpu, "timestamp": at.isoformat()}
        while True:
            try:
                answer = await client.post(f"http://127.0.0.1:{random.choice(self.ports)}/heartbeat", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                # sent, and received: the same for an answer that came again
                self.signs[dpu] += [at, datetime.fromisoformat(answer.json()["last_seen"])]
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(BEAT_SECONDS)

    def outages(self) -> set[Outage]:
        """What must be on record, from what was sent."""
        return {
            (dpu, heard + THRESHOLD, back)
            for dpu, signs in self.signs.items()
            for heard, back in itertools.pairwise(signs)
            if back - heard > THRESHOLD
        }


async def build(connection: asyncpg.Connection, client: httpx.AsyncClient) -> None:
    """Each sensor at a site of its own, so that no outage is that of a whole site."""
    names = range(DPUS)
    site = {
        "spaces": [{"id": f"site-{n}", "offline_after_seconds": 2} for n in names],
        "doorways": [{"id": f"door-{n}", "sides": [None, f"site-{n}"]} for n in names],
        "dpus": [{"id": f"dpu-{n}"} for n in names],
        "placements": [
            {"dpu": f"dpu-{n}", "doorway": f"door-{n}", "mounted_in": f"site-{n}", "from": "2026-01-01T00:00:00Z"}
            for n in names
        ],
    }
    answer = await client.put("/v1/site", json=site)
    assert answer.status_code == 200, answer.text


async def settled(connection: asyncpg.Connection, expected: int) -> None:
    """Waits until all notices of so many incidents are out."""
    async with asyncio.timeout(SETTLE_SECONDS):
        for _ in itertools.count():
            if await connection.fetchval(
                """
                select (select count(*) from core.incident i where i.ended_at is not null) >= $1
                  and not exists (select from core.outage o where o.pending)
                  and not exists (select from core.delivery d where d.state = 'pending')
                """,
                expected,
            ):
                return
            await asyncio.sleep(0.2)


async def recorded(connection: asyncpg.Connection) -> tuple[set[Outage], timedelta]:
    """The outages that are over, and the longest that one of them took to be found."""
    rows = await connection.fetch(
        """
        select d.id, o.offline_at, o.back_at, o.detected_at
        from core.outage o join core.dpu d on d.dpu_id = o.dpu_id
        where o.superseded_at is null and o.back_at is not null
        """
    )
    found = {(row["id"], row["offline_at"], row["back_at"]) for row in rows}
    return found, max(row["detected_at"] - row["offline_at"] for row in rows)


def told(seen: Sequence[Received], secret: str) -> dict[str, list[dict[str, Any]]]:
    """By incident what a receiver makes of the webhooks: signatures checked, repetitions left out."""
    bodies: dict[str, bytes] = {}
    incidents: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in seen:
        notice = verified(secret, one)
        identity = one["headers"]["webhook-id"]
        if identity not in bodies:
            incidents[notice["data"]["incident"]].append(notice)
        assert bodies.setdefault(identity, one["body"]) == one["body"]
    return incidents


@pytest.mark.concurrency
@pytest.mark.timeout(600)
async def test_each_outage_is_told_once_and_so_is_its_end_though_processes_are_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    ports = [free_port() for _ in range(PROCESSES)]
    connection = await asyncpg.connect(own_database_url)
    with ExitStack() as stack:

        def start(port: int) -> Any:
            allowed = {"HEADCOUNT_PRIVATE_TARGETS": "127.0.0.0/8"}
            return stack.enter_context(serving(tmp_path, own_database_url, port, **allowed))

        processes = [await asyncio.to_thread(start, port) for port in ports]
        async with receiver() as hook, httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}") as client:
            await build(connection, client)
            channel = {"kind": "webhook", "url": hook.url, "events": ["offline", "online"]}
            secret = (await client.put("/v1/channels/hook", json=channel)).json()["secret"]

            sensors, done = Sensors(ports), asyncio.Semaphore(0)
            silences = [OUTAGES // DPUS + (n < OUTAGES % DPUS) for n in range(DPUS)]
            tasks = [asyncio.create_task(sensors.run(f"dpu-{n}", silences[n], done)) for n in range(DPUS)]
            finished = asyncio.gather(*(done.acquire() for _ in tasks))
            kills = 0
            while not finished.done():
                await asyncio.sleep(random.uniform(0.2, 1.5))
                victim = random.randrange(PROCESSES)
                processes[victim].kill()
                processes[victim] = await asyncio.to_thread(start, ports[victim])
                kills += 1
            await asyncio.sleep(BEAT_SECONDS * 3)  # all are back
            expected = sensors.outages()
            await settled(connection, len(expected))
            outages, slowest = await recorded(connection)
            listened = await connection.fetchval("select count(*) from core.listening")
            sensors.stop.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
            incidents = told(hook.seen, secret)

    await connection.close()
    assert kills > 1
    assert len(expected) >= OUTAGES
    assert listened == 1, "the machine stood still for more than 5 seconds"
    # to the microsecond, and soon
    assert outages == expected, json.dumps([list(map(str, o)) for o in outages ^ expected], indent=1)
    assert slowest < timedelta(seconds=5)
    # a heartbeat that took seconds to be taken in is an outage at first, and is told to have been none
    lasting = {name: notices for name, notices in incidents.items() if notices[-1]["type"] != "sensor.correction"}
    assert [[n["type"] for n in notices] for notices in lasting.values()] == [
        ["sensor.offline", "sensor.online"]
    ] * len(expected)
    spans = {
        (
            *notices[1]["data"]["dpus"],
            datetime.fromisoformat(notices[1]["data"]["started_at"]),
            datetime.fromisoformat(notices[1]["data"]["ended_at"]),
        )
        for notices in lasting.values()
    }
    assert spans == expected
