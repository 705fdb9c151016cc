"""max_staleness and X-Data-As-Of where there is no replica. With one: tests/deploy/test_replica.py."""

import json
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest

from tests.factories import build_house

READS = (
    "/v1/spaces/house/count",
    "/v1/spaces/house/count?at=2026-03-04T12:00:00Z",
    "/v1/counts",
    "/v1/spaces/house/counts",
    "/v1/spaces/house/counts?format=csv",
    "/v1/events?space=house",
)


@pytest.mark.parametrize("path", READS)
async def test_an_answer_says_up_to_when_it_has_everything(
    client: httpx.AsyncClient, connection: asyncpg.Connection, path: str
) -> None:
    await build_house(connection)
    for more in ("", "max_staleness=5"):
        began = datetime.now(UTC)
        told = await client.get(path + ("&" if "?" in path else "?") + more if more else path)
        assert told.status_code == 200, told.text
        assert began <= datetime.fromisoformat(told.headers["X-Data-As-Of"]) <= datetime.now(UTC)


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("value", ["301", "-1", "5s", "0.5", ""])
async def test_it_is_a_whole_number_of_seconds_up_to_five_minutes(
    client: httpx.AsyncClient, path: str, value: str
) -> None:
    told = await client.get(f"{path}{'&' if '?' in path else '?'}max_staleness={value}")
    assert (told.status_code, told.json()["errors"][0]["where"]) == (422, "max_staleness")


async def test_an_answer_about_nothing_that_is_counted_does_not_say_so(client: httpx.AsyncClient) -> None:
    assert "X-Data-As-Of" not in (await client.get("/v1/spaces")).headers


async def test_the_openapi_document_names_the_header_where_it_comes(client: httpx.AsyncClient) -> None:
    paths = json.loads((await client.get("/schema")).content)["paths"]
    with_header = {
        path
        for path, operations in paths.items()
        if "X-Data-As-Of" in operations.get("get", {}).get("responses", {}).get("200", {}).get("headers", {})
    }
    assert with_header == {"/v1/spaces/{space}/count", "/v1/counts", "/v1/spaces/{space}/counts", "/v1/events"}
