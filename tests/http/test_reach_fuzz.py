"""schemathesis with a token of each scope: no 5xx, and nothing from beyond the space to which the token is limited."""

import asyncio
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.core.result import Ok

from tests.factories import differences
from tests.http import body, exploring
from tests.http.guarded import build_site, guarded, leaks, new_token
from tests.notices.support import make_channel, tell_all

pytestmark = pytest.mark.slow

EXAMPLES = 25
KNOWN = {
    "space": ["own", "own-room", "secret-campus", "secret-b", "secret-room"],
    "doorway": ["own-front", "own-inner", "secret-inner", "secret-main"],
    "channel": ["own-hook", "secret-hook"],
    "delivery": ["1", "2", "3"],
    "dpu": ["own-front", "own-inner", "moved", "secret-inner", "secret-loose", "quite-new"],
}
# What the ids in requests are ids of, by the names that fields and parameters have.
KINDS = {
    "space": "space",
    "spaces": "space",
    "under": "space",
    "parent": "space",
    "mounted_in": "space",
    "sides": "space",
    "doorway": "doorway",
    "doorways": "doorway",
    "channel": "channel",
    "delivery": "delivery",
    "dpu": "dpu",
    "dpus": "dpu",
    "device": "dpu",
    "id": "dpu",
}


def with_known_ids(value: Any, random: Random, kind: str | None = None) -> Any:
    """The value with most of its ids replaced by such as exist."""
    if isinstance(value, dict):
        return {
            key: with_known_ids(item, random, kind if key == "id" and kind else KINDS.get(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_known_ids(item, random, kind) for item in value]
    if kind and (isinstance(value, str) or value is None) and random.random() < 0.8:
        return random.choice(KNOWN[kind])
    return value


@pytest.mark.parametrize("scope", ["ingest", "read", "admin"])
async def test_whatever_it_is_sent_it_neither_fails_nor_tells_nor_changes_what_is_beyond_the_token(
    connection: asyncpg.Connection, database_url: str, scope: str
) -> None:
    await build_site(connection)
    # where nobody is let to, so that a test of the channel ends at once
    await make_channel(connection, "own-hook", under="own", url="http://127.0.0.1:9/")
    await make_channel(connection, "secret-hook", url="http://127.0.0.1:9/")
    await tell_all(connection, [("offline", 1, "own-room"), ("offline", 2, "secret-b")], dpus=["own-inner"])
    token = await new_token(connection, scope, space="own")
    before = await beyond(connection)
    loop = asyncio.get_running_loop()
    seen: set[int] = set()

    async with guarded(database_url, send_notices=False) as client:
        schema = schemathesis.openapi.from_dict(body(await client.get("/schema")))

        def explore(cases: st.SearchStrategy[Case[Any]]) -> None:
            @exploring(EXAMPLES)
            @given(cases, st.randoms(use_true_random=False))
            def run(case: Case[Any], random: Random) -> None:
                request = send(client, case, random)
                response = asyncio.run_coroutine_threadsafe(request, loop).result(60)
                seen.add(response.status_code)
                assert response.status_code < 500, response.text
                if response.status_code < 300:
                    assert not leaks(response.text), f"{case.method} {case.formatted_path}: {response.text}"

            run()

        async def send(client: httpx.AsyncClient, case: Case[Any], random: Random) -> httpx.Response:
            parameters = with_known_ids(dict(case.path_parameters or {}), random)
            query = with_known_ids(dict(case.query or {}), random)
            if case.path == "/v1/events" and case.method == "GET":
                query = {name: value for name, value in query.items() if name not in ("dpu", "space")}
                query["dpu" if random.random() < 0.5 else "space"] = random.choice(KNOWN["space"] + KNOWN["dpu"])
            sent = with_known_ids(case.body, random) if isinstance(case.body, dict) else None
            path = case.path
            for name, value in parameters.items():
                path = path.replace(f"{{{name}}}", str(value))
            return await client.request(case.method, path, params=query, json=sent, headers=token)

        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            if operation.definition.raw["security"] == [{"token": [scope]}]:
                await asyncio.to_thread(explore, operation.as_strategy())
    assert any(status < 300 for status in seen), seen
    assert await beyond(connection) == before
    assert await differences(connection) == []


async def beyond(connection: asyncpg.Connection) -> list[str]:
    """All that lies beyond the token, which the facts of its own site do not move."""
    own = await connection.fetch(
        """
        with recursive below as (
          select space_id from core.space where id = 'own'
          union all
          select s.space_id from core.space s join below b on b.space_id = s.parent_id
        )
        select space_id from below
        """
    )
    ids = [row[0] for row in own]
    rows = await connection.fetch(
        """
        select 'space ' || to_jsonb(s)::text from core.space s where s.space_id <> all ($1)
        union all select 'schedule ' || to_jsonb(s)::text from core.schedule s where s.space_id <> all ($1)
        union all select 'reset ' || to_jsonb(r)::text from core.reset r where r.space_id <> all ($1)
        union all select 'doorway ' || to_jsonb(d)::text from core.doorway d
          where d.side_a_id <> all ($1) or d.side_b_id <> all ($1)
        union all select 'placement ' || to_jsonb(p)::text from core.placement p join core.doorway d using (doorway_id)
          where d.side_a_id <> all ($1) or d.side_b_id <> all ($1)
        union all select 'dpu ' || to_jsonb(d)::text from core.dpu d where d.id not in ('own-inner', 'moved')
        union all select 'event ' || to_jsonb(e)::text from core.event e join core.dpu d using (dpu_id)
          where d.id not in ('own-inner', 'own-front', 'moved') or (d.id = 'moved' and e.time < '2026-03-04T12:00Z')
        union all select 'token ' || t.id from core.token t where t.space_id is null or t.space_id <> all ($1)
        union all select 'channel ' || to_jsonb(c)::text from core.channel c
          where c.under_id is null or c.under_id <> all ($1)
        union all select 'delivery ' || to_jsonb(d)::text from core.delivery d join core.channel c using (channel_id)
          where c.under_id is null or c.under_id <> all ($1)
        order by 1
        """,
        ids,
    )
    return [row[0] for row in rows]
