"""headcount retain."""

from datetime import timedelta

import asyncpg
import httpx

from tests.commands.support import headcount
from tests.factories import NOON, build_house, record
from tests.properties import rollups


async def test_it_shows_sets_and_stops_the_retention(client: httpx.AsyncClient, database_url: str) -> None:
    shown = await headcount("retain", url=database_url)
    assert (shown.exit_code, shown.stdout) == (0, "Events are kept for ever. None were dropped yet.\n")
    changed = await headcount("retain", "--days", 90, url=database_url)
    assert (changed.exit_code, changed.stdout) == (0, "Events are kept for 90 days. None were dropped yet.\n")
    assert (await headcount("retain", url=database_url)).stdout == changed.stdout
    assert (await headcount("retain", "--forever", url=database_url)).stdout == shown.stdout


async def test_it_says_from_when_on_events_are_there(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await rollups.refresh(connection)
    await rollups.retain(connection, NOON + timedelta(hours=12))
    result = await headcount("retain", url=database_url)
    assert "Those before 2026-03-05T00:00:00Z were dropped." in result.stdout


async def test_it_refuses_what_cannot_be(client: httpx.AsyncClient, database_url: str) -> None:
    result = await headcount("retain", "--days", 7, url=database_url)
    assert result.exit_code == 1
    assert "days: Events cannot be kept for 7 days" in result.stderr
    both = await headcount("retain", "--days", 90, "--forever", url=database_url)
    assert both.exit_code == 2
