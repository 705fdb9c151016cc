"""What is not there is not found, in an empty database too."""

import httpx
import pytest

from tests.http import problem


@pytest.mark.parametrize(
    "path",
    [
        "/v1/spaces/x",
        "/v1/spaces?parent=x",
        "/v1/spaces/x/count",
        "/v1/spaces/x/resets",
        "/v1/counts?space=x",
        "/v1/counts?under=x",
        "/v1/doorways/x",
        "/v1/dpus/x",
        "/v1/dpus?space=x",
        "/v1/dpus/x/placements",
        "/v1/events?dpu=x",
        "/v1/events?space=x",
        "/devices/x",
        "/devices/x/latest_timestamp",
        "/devices/x/cumulative_count",
    ],
)
async def test_it_does_not_find_what_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(path), 404, "not_found")
