"""Unknown DPUs and spaces over HTTP: each token may register so many."""

import asyncpg

from tests.factories import NOON
from tests.http import body, event, problem
from tests.http.guarded import guarded, new_token


async def test_events_and_heartbeats_of_a_token_register_as_many_dpus_as_the_settings_say(
    connection: asyncpg.Connection, database_url: str
) -> None:
    one, other = await new_token(connection), await new_token(connection)
    async with guarded(database_url, register_burst=2, register_per_hour=0) as client:
        events = {"events": [event("a"), event("b"), event("c")]}
        answer = body(await client.post("/v1/events", json=events, headers=one))
        assert (answer["accepted"], [found["code"] for found in answer["rejected"]]) == (2, ["unknown_dpu"])
        assert "the token has registered as many new DPUs as it may for now" in answer["rejected"][0]["detail"]
        reading = {"id": "d", "readings": [{"timestamp": "2026-03-04T12:00:00Z", "count": 1}]}
        assert body(await client.post("/ingest", json=reading, headers=one))["accepted"] == 0
        beats = {"heartbeats": [{"dpu": "a"}, {"dpu": "e"}]}
        assert body(await client.post("/v1/heartbeats", json=beats, headers=one))["accepted"] == 1
        refused = problem(await client.get("/heartbeat?dpu=f", headers=one), 404, "not_found")
        assert "PUT /v1/dpus/{id}" in refused["detail"]

        assert body(await client.post("/v1/events", json={"events": [event("c")]}, headers=other))["accepted"] == 1
        assert (await client.put("/v1/dpus/d", json={}, headers=one)).status_code == 201
        assert body(await client.post("/ingest", json=reading, headers=one))["accepted"] == 1


async def test_unplaced_dpus_are_bounded_in_all(connection: asyncpg.Connection, database_url: str) -> None:
    tokens = [await new_token(connection) for _ in range(3)]
    async with guarded(database_url, max_unplaced_dpus=2) as client:
        accepted = [
            body(await client.post("/v1/events", json={"events": [event(dpu)]}, headers=token))["accepted"]
            for dpu, token in zip("abc", tokens, strict=True)
        ]
    assert accepted == [1, 1, 0]


async def test_polls_of_a_token_make_as_many_spaces_as_the_settings_say(
    connection: asyncpg.Connection, database_url: str
) -> None:
    def polls(*spaces: str) -> dict[str, object]:
        return {"polls": [{"space": space, "timestamp": NOON.isoformat(), "status": "active"} for space in spaces]}

    one, other = await new_token(connection), await new_token(connection)
    async with guarded(database_url, register_burst=2, register_per_hour=0, max_unnamed_spaces=3) as client:
        answer = body(await client.post("/v1/polls", json=polls("a", "b", "c"), headers=one))
        assert (answer["accepted"], [found["code"] for found in answer["rejected"]]) == (2, ["unknown_space"])
        assert "the polls of the token have made as many new spaces as they may" in answer["rejected"][0]["detail"]
        answer = body(await client.post("/v1/polls", json=polls("c", "d"), headers=other))
        assert "there are 3 spaces already that polls made" in answer["rejected"][0]["detail"]
        assert (await client.put("/v1/spaces/d", json={}, headers=one)).status_code == 201
        assert body(await client.post("/v1/polls", json=polls("d"), headers=other))["accepted"] == 1
