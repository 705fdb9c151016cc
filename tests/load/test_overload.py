"""Far more than can be stored. TEST_SOAK_SECONDS: for how long (make soak: 60)."""

import os

import pytest

from benchmarks.overload import Requests, flood_with
from benchmarks.processes import running
from benchmarks.traffic import make_site
from tests.commands.support import free_port

SECONDS = float(os.environ.get("TEST_SOAK_SECONDS", "4"))


@pytest.mark.concurrency
async def test_it_refuses_what_is_too_much_loses_nothing_and_is_itself_again_at_once(own_database_url: str) -> None:
    make_site(own_database_url)
    port = free_port()
    environment = {"DATABASE_URL": own_database_url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port)}
    with running(("headcount.cli", "serve"), port, environment) as server:
        flood = await flood_with(server, own_database_url, Requests(), SECONDS)
    assert flood.times_too_much >= 10, flood
    assert set(flood.statuses) <= {200, 429, 503}, flood
    assert flood.cut == 0, flood
    assert flood.accepted == flood.stored > 0, flood
    assert flood.memory_peak - flood.memory_before < 200 * 2**20, flood
    assert flood.recovered_after < 2, flood
