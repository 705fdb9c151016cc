"""The service over HTTP: one file for each address, and some for what all of them share."""

from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings

Json = dict[str, Any]


def exploring(examples: int) -> settings:
    """How requests are made up from the OpenAPI document: the same ones each time, without a hurry."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def body(response: httpx.Response, status: int = 200) -> Any:
    """The answer's JSON; the status must be as said."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    return response.json()


def problem(response: httpx.Response, status: int, code: str, where: str | None = None) -> Json:
    """The problem that an answer is: of the one shape, with this status and code, naming the place."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    assert response.headers["x-request-id"]
    found: Json = response.json()
    assert set(found) - {"errors"} == {"type", "title", "status", "detail", "code"}
    assert (response.status_code, found["status"], found["code"]) == (status, status, code), found
    assert found["type"] == f"urn:headcount:error:{code}"
    assert found["title"]
    assert found["detail"]
    for item in found.get("errors", []):
        assert set(item) == {"where", "code", "detail"}
        assert all(item.values())
    if where is not None:
        assert where in [item["where"] for item in found.get("errors", [])], found
    return found


def event(dpu: Any = "dpu-1", timestamp: Any = "2026-01-05T08:00:00Z", direction: Any = 1, **more: Any) -> Json:
    return {"dpu": dpu, "timestamp": timestamp, "direction": direction, **more}


def poll(space: Any = "store-1", timestamp: Any = "2026-01-05T08:00:00Z", status: Any = "active") -> Json:
    return {"space": space, "timestamp": timestamp, "status": status}


async def put(client: httpx.AsyncClient, path: str, **fields: Any) -> Any:
    """PUT that must work."""
    response = await client.put(f"/v1/{path}", json=fields)
    assert response.status_code in (200, 201), response.text
    return response.json()


async def room_with_dpu(client: httpx.AsyncClient) -> None:
    """Space room (capacity 10), doorway door from outside into it, dpu-1 above it on the inside since 2020."""
    await put(client, "spaces/room", capacity=10)
    await put(client, "doorways/door", sides=["room", None])
    await put(client, "dpus/dpu-1")
    response = await client.post(
        "/v1/dpus/dpu-1/placements", json={"doorway": "door", "mounted_in": "room", "from": "2020-01-01T00:00:00Z"}
    )
    assert response.status_code == 201, response.text


async def send(client: httpx.AsyncClient, *events: Json) -> Any:
    return body(await client.post("/v1/events", json={"events": list(events)}))
