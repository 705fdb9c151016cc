"""GET /v1/dpus/{id}/placements."""

import httpx

from tests.http import body, problem, room_with_dpu


async def test_it_lists_where_a_dpu_was_oldest_first(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    moved = {"doorway": "door", "mounted_in": None, "from": "2024-01-01T00:00:00Z"}
    assert (await client.post("/v1/dpus/dpu-1/placements", json=moved)).status_code == 201
    page = body(await client.get("/v1/dpus/dpu-1/placements"))
    assert all(item.pop("recorded_at") for item in page["items"])
    assert page == {
        "items": [
            {
                "doorway": "door",
                "mounted_in": "room",
                "from": "2020-01-01T00:00:00Z",
                "until": "2024-01-01T00:00:00Z",
            },
            {**moved, "until": None},
        ],
        "next": None,
    }


async def test_it_knows_no_other_dpu(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/dpus/dpu-1/placements"), 404, "not_found", "dpu")
