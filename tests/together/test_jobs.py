"""What runs in the background, without a database."""

import asyncio

import pytest

from headcount.database import calls
from headcount.database.pool import Database
from headcount.sensors import outages
from headcount.sensors.outages import Jobs
from headcount.settings import Settings
from tests.together.test_groups import turns


async def never(_session: object) -> None:
    """A call that takes for ever."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("call", "other"), [("detect_outages", "detect_busy_outages"), ("detect_busy_outages", "detect_outages")]
)
async def test_it_looks_again_and_again_also_after_the_database_was_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, other: str
) -> None:
    monkeypatch.setattr(outages, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(outages, "BUSY_SECONDS", 0.001)
    looks = asyncio.Semaphore(0)
    failures = iter([OSError("away"), OSError("away"), None, TimeoutError()])

    async def detect(_session: object) -> None:
        looks.release()
        if error := next(failures, None):
            raise error

    monkeypatch.setattr(calls, call, detect)
    monkeypatch.setattr(calls, other, never)
    async with Jobs(Database(Settings(auth="off"))).lifespan(None):
        for _ in range(6):
            await asyncio.wait_for(looks.acquire(), 60)
    await turns()
    assert len([record for record in caplog.records if "away" in record.message]) == 1, "it does not fill the log"
    before = looks._value
    await asyncio.sleep(0.01)
    assert looks._value == before, "it has stopped"


async def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def detect(_session: object) -> None:
        raise AssertionError

    monkeypatch.setattr(calls, "detect_outages", detect)
    monkeypatch.setattr(calls, "detect_busy_outages", detect)
    async with Jobs(Database(Settings(auth="off", jobs=False))).lifespan(None):
        await turns()
