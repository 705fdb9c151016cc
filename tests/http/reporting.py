"""What tests of uptime reports share."""

import asyncio
import time
from typing import Any

import asyncpg
import httpx

from headcount.database import calls
from tests.factories import apply_site
from tests.http import body, poll

PATIENCE = 60.0  # seconds, on a machine that is busy with other things
NOW = "2023-01-24T00:00:00Z"


async def trigger(client: httpx.AsyncClient, **asked: Any) -> str:
    """A report, begun: its id."""
    return str(body(await client.post("/trigger_report", json=asked))["report_id"])


async def wait_for(client: httpx.AsyncClient, report: str, status: str = "Complete") -> Any:
    """The report when it has got so far."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = body(await client.get(f"/v1/reports/{report}"))
        if found["status"] == status:
            return found
        assert found["status"] == "Running", found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def build_shop(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    """The example of the rule: open on Mondays from 9 to 12, active at 10:14, inactive at 11:15."""
    hours = [{"day": 0, "open": "09:00", "close": "12:00"}]
    await apply_site(connection, spaces=[{"id": "shop", "opening_hours": hours}])
    polls = [poll("shop", "2023-01-23T10:14:00Z"), poll("shop", "2023-01-23T11:15:00Z", "inactive")]
    assert body(await client.post("/v1/polls", json={"polls": polls}))["accepted"] == 2


async def begun(connection: asyncpg.Connection, lease_seconds: float = 600) -> tuple[str, int]:
    """A report that somebody else computes, and which attempt that is."""
    async with connection.transaction():  # so that no worker of the service sees it before it is taken
        report = await calls.create_report(connection)
        claim = await calls.claim_report(connection, lease_seconds)
        assert claim is not None
        assert claim.id == report
    return claim.id, claim.attempt
