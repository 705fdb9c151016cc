"""GET /v1/reports."""

import httpx

from tests.http import body
from tests.http.reporting import trigger, wait_for


async def test_it_lists_them_page_by_page_the_newest_first(client: httpx.AsyncClient) -> None:
    made = [await trigger(client) for _ in range(3)]
    for report in made:
        await wait_for(client, report)
    page = body(await client.get("/v1/reports?limit=2"))
    assert [found["id"] for found in page["items"]] == [made[2], made[1]]
    rest = body(await client.get("/v1/reports", params={"limit": 2, "after": page["next"]}))
    assert [found["id"] for found in rest["items"]] == [made[0]]
    assert rest["next"] is None
