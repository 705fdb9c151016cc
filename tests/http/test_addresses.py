"""Each address is written in one way only: what a proxy says of it by its path holds."""

import asyncpg
import httpx
import pytest

from headcount.http.asgi import is_canonical
from headcount.http.requests import ID
from tests.http import body, event, problem, put, send


@pytest.mark.parametrize(
    "path",
    [
        *("//metrics", "/metrics/", "/metrics//", "/v1//spaces", "/v1/spaces/", "/v1/spaces%2Fs1", "/v1/spaces%2fs1"),
        *("/v1/spaces/../spaces", "/v1/./spaces", "/v1/spaces/..", "/v1/spaces/.", "/%6Detrics", "/%6detrics"),
        *(
            "/v1/spaces/%2E%2E",
            "/v1/spaces/s%31",
            "/v1/spaces/s%5F1",
            "/v1\\spaces",
            "/v1%5Cspaces",
            "//",
        ),
    ],
)
def test_another_way_to_write_an_address_is_not_one(path: str) -> None:
    assert not is_canonical(path.encode())


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/v1/spaces", "/v1/spaces/a:b", "/v1/spaces/a%3Ab", "/v1/spaces/a.b..c", "/v1/spaces/..."]
)
def test_the_one_way_is(path: str) -> None:
    assert is_canonical(path.encode())


async def test_it_answers_404(client: httpx.AsyncClient) -> None:
    for path in ("/metrics/", "/v1/spaces/", "/v1//spaces", "/v1/spaces%2Fs1", "/%6Detrics"):
        problem(await client.get(path), 404, "not_found")
        assert (await client.head(path)).status_code == 404
    for path in ("/metrics", "/v1/spaces"):
        assert (await client.get(path)).status_code == 200


async def test_the_colon_of_an_id_may_be_escaped(client: httpx.AsyncClient, connection: object) -> None:
    assert (await client.put("/v1/spaces/a%3Ab", json={})).status_code == 201
    assert body(await client.get("/v1/spaces/a:b"))["id"] == "a:b"


@pytest.mark.parametrize("name", [".", ".."])
async def test_no_id_is_a_step_within_an_address(
    client: httpx.AsyncClient, connection: asyncpg.Connection, name: str
) -> None:
    """Browsers, curl and proxies would make /v1/spaces/.. into /v1."""
    await put(client, "spaces/room")
    for kind, more in (("spaces", {}), ("doorways", {"sides": ["room", None]}), ("dpus", {})):
        sent = {kind: [{"id": name, **more}]}
        problem(await client.put("/v1/site", json=sent), 422, "invalid", f"{kind}[0].id")
    problem(await client.put("/v1/spaces/other", json={"parent": name}), 422, "invalid", "parent")
    answer = await send(client, event(dpu=name), event(dpu="..."), event(dpu="a."), event(dpu=".a"))
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(0, "invalid")]
    assert "not `.` or `..`" in answer["rejected"][0]["detail"]
    beats = await client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": name}]})
    assert beats.json().get("accepted", 0) == 0
    with pytest.raises(asyncpg.PostgresError, match="is not an id"):
        await connection.execute("select api.put_space(space => $1, patch => '{}')", name)
    assert await connection.fetchval("select count(*) from core.dpu where id in ('.', '..')") == 0


@pytest.mark.parametrize("name", ["...", "..a", ".a", ".a.", "a", "a..", "-.", ":", "a" * 64, "." * 64, "." + "a" * 63])
def test_all_else_that_was_an_id_is_one(name: str) -> None:
    assert ID.match(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 65, "." * 65, "a b", "a/b", "..\n", "a\n", "ä"])
def test_what_is_none_is_none(name: str) -> None:
    assert not ID.match(name)


async def test_only_addresses_that_take_lists_of_spaces_take_long_queries(client: httpx.AsyncClient) -> None:
    many = "&".join(f"space=s-{number:050}" for number in range(1_000))
    problem(await client.get(f"/v1/counts?{many}"), 404, "not_found")
    for path in ("/healthz", "/schema", "/v1/spaces", "/v1/spaces/s1/count"):
        found = problem(await client.get(f"{path}?{'%41=%42&' * 1_000}"), 422, "invalid")
        assert "4096 bytes" in found["detail"]
