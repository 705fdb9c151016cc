"""DELETE /v1/dpus/{id}/placements."""

import asyncpg
import httpx

from tests.http import body, event, problem, room_with_dpu, send
from tests.http.guarded import LONG_AGO, administered, build_site, new_token

ADDRESS = "/v1/dpus/dpu-1/placements"


async def test_it_takes_back_a_move(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event())
    before = body(await client.get(ADDRESS))["items"]
    move = {"doorway": "door", "from": "2026-01-01T00:00:00Z"}
    body(await client.post(ADDRESS, json=move), 201)
    assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == -1
    response = await client.delete(f"{ADDRESS}?from=2026-01-01T00:00:00Z")
    assert (response.status_code, response.content) == (204, b"")
    after = body(await client.get(ADDRESS))["items"]
    assert [item | {"recorded_at": None} for item in after] == [item | {"recorded_at": None} for item in before]
    assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == 1


async def test_it_refuses_what_has_changed_since(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    move = {"doorway": "door", "from": "2026-01-01T00:00:00Z"}
    body(await client.post(ADDRESS, json=move), 201)
    found = problem(await client.delete(f"{ADDRESS}?from=2020-01-01T00:00:00Z"), 409, "conflict", "from")
    assert "A later placement changed this period. Undo it first:" in found["detail"]
    assert "?from=2026-01-01T00:00:00" in found["detail"]


async def test_it_names_the_placement_to_undo_where_the_rest_of_an_older_one_starts(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    visit = {"doorway": None, "from": "2025-11-10T00:00:00Z", "until": "2025-11-20T00:00:00Z"}
    body(await client.post(ADDRESS, json=visit), 201)
    listed = [item["from"] for item in body(await client.get(ADDRESS))["items"]]
    assert listed[-1] == "2025-11-20T00:00:00Z"
    found = problem(await client.delete(f"{ADDRESS}?from=2025-11-20T00:00:00Z"), 404, "not_found", "from")
    assert "No placement of this DPU starts at that instant." in found["detail"]
    advised = found["detail"].rpartition("DELETE /v1/dpus/{id}/placements?from=")[2].rstrip(".")
    assert (await client.delete(f"{ADDRESS}?from={advised}")).status_code == 204
    assert len(body(await client.get(ADDRESS))["items"]) == 1


async def test_it_wants_to_know_which(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    problem(await client.delete(ADDRESS), 422, "invalid", "from")
    problem(await client.delete(f"{ADDRESS}?from=2021-01-01T00:00:00Z"), 404, "not_found", "from")
    problem(await client.delete("/v1/dpus/gone/placements?from=2021-01-01T00:00:00Z"), 404, "not_found", "dpu")


async def test_a_limited_token_is_not_told_when_a_dpu_was_moved_beyond_its_space(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """own-inner was lent to another building in 2021, and moved there: only that it was away is to be seen."""
    await build_site(connection)
    inside = await new_token(connection, "admin", space="own")
    address = "/v1/dpus/own-inner/placements"
    async with administered(connection, database_url) as client:
        for doorway, start in (("secret-inner", "2021-02-01"), ("secret-b-front", "2021-02-10")):
            lent = {"doorway": doorway, "mounted_in": "secret-b", "from": f"{start}T00:00:00Z"}
            body(await client.post(address, json=lent | {"until": "2021-03-01T00:00:00Z"}), 201)
        listed = body(await client.get(address, headers=inside))["items"]
        assert [item["from"] for item in listed] == [LONG_AGO, "2021-03-01T00:00:00Z"]
        found = problem(await client.delete(f"{address}?from={LONG_AGO}", headers=inside), 409, "conflict", "from")
        assert "2021" not in found["detail"]
        answers = [
            await client.delete(f"{address}?from=2021-02-{day}T00:00:00Z", headers=inside) for day in ("01", "10", "11")
        ]
        told = {problem(answer, 404, "not_found", "from")["detail"] for answer in answers}
        assert len(told) == 1, "a guess is answered alike, right or wrong"
        found = problem(await client.delete(f"{address}?from={LONG_AGO}"), 409, "conflict", "from")
        assert "?from=2021-02-10T00:00:00" in found["detail"], "the owner is told"
