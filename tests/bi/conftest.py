"""A tower of two floors with eight days behind it, and an analyst who may look at it."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest_asyncio

from tests.conftest import Scene
from tests.factories import LONG_AGO, apply_site, record

# A login of its own would outlive the test on a shared server: the owner's sessions act as headcount_bi instead.
OPTIONS = "-c role=headcount_bi -c jit=off -c default_transaction_read_only=on -c timezone=UTC"
FLOORS = ("ground", "upper")


@pytest_asyncio.fixture(loop_scope="session")
async def tower(connection: asyncpg.Connection, database_url: str, scene: Scene) -> str:
    """The URL of a database with the tower in it."""
    if await scene.is_there(("tower", "fleet")):
        return database_url
    await apply_site(
        connection,
        spaces=[
            {"id": "tower", "time_zone": "Europe/Berlin", "reset_at": "04:00", "capacity": 60},
            *({"id": floor, "parent": "tower", "capacity": 20} for floor in FLOORS),
        ],
        doorways=[
            {"id": "entrance", "sides": [None, "ground"]},
            {"id": "stairs", "sides": ["ground", "upper"]},
            {"id": "terrace", "sides": [None, "upper"]},
        ],
        dpus=[{"id": "entrance"}, {"id": "stairs"}, {"id": "terrace"}],
        placements=[
            {"dpu": "entrance", "doorway": "entrance", "mounted_in": "ground", "from": LONG_AGO.isoformat()},
            {"dpu": "stairs", "doorway": "stairs", "mounted_in": "upper", "from": LONG_AGO.isoformat()},
            {"dpu": "terrace", "doorway": "terrace", "mounted_in": "upper", "from": LONG_AGO.isoformat()},
        ],
    )
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    events = []
    for day in range(1, 10):
        morning = today - timedelta(days=day) + timedelta(hours=7)
        for person in range(36):
            came = morning + person * timedelta(minutes=4)
            events += [("entrance", came, 1), ("entrance", came + timedelta(hours=6, minutes=person), -1)]
            if person % 2:
                events += [("stairs", came + timedelta(minutes=2), 1), ("stairs", came + timedelta(hours=5), -1)]
        events.append(("terrace", morning - timedelta(hours=1), -1))
    await record(connection, events, backfill=True)
    await connection.execute("call core.refresh_rollups()")
    late = today - timedelta(days=2) + timedelta(hours=9, seconds=1)
    await record(connection, [("entrance", late + n * timedelta(seconds=1), 1) for n in range(5)], backfill=True)
    unset = [("terrace", datetime(2000, 1, 1, 0, minute, tzinfo=UTC), 1) for minute in (1, 2)]
    await record(connection, unset, backfill=True)
    await connection.execute("analyze")
    await scene.note("tower")
    return database_url
