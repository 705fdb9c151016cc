"""headcount verify."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.wire.messages.service import Difference
from tests.commands.support import headcount


async def test_it_finds_nothing_where_all_is_well(client: httpx.AsyncClient, database_url: str) -> None:
    await client.post(
        "/v1/events", json={"events": [{"dpu": "one", "timestamp": "2026-03-01T10:00:00Z", "direction": 1}]}
    )
    result = await headcount("verify", url=database_url)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1


async def test_it_shows_what_is_stored_and_is_not_what_the_events_add_up_to(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database_url: str
) -> None:
    await client.post(
        "/v1/events", json={"events": [{"dpu": "one", "timestamp": "2026-03-01T10:00:00Z", "direction": 1}]}
    )
    await connection.execute("update core.dpu_state set cumulative_count = 41")
    result = await headcount("verify", url=database_url)
    assert result.exit_code == 1
    (row,) = [line for line in result.stdout.splitlines() if "dpu_state" in line]
    assert "one" in row
    assert "cumulative_count 41" in row
    assert "cumulative_count 1" in row
    assert "1 difference" in result.stderr


async def test_what_is_gone_when_it_looks_again_is_no_difference(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing, lasting = (Difference("dpu_state", item, "cumulative_count 2", "cumulative_count 1") for item in "ab")
    looks = [[passing, lasting], [lasting]]

    async def look(_session: object) -> list[Difference]:
        return looks.pop(0)

    monkeypatch.setattr(calls, "list_differences", look)
    result = await headcount("verify", url=database_url)
    assert result.exit_code == 1
    assert "1 difference." in result.stderr
    assert looks == []
