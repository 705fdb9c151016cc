"""GET /metrics."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from headcount import metrics
from headcount.http.asgi import App
from headcount.settings import Settings
from headcount.wire.messages.base import REFUSALS
from tests.factories import build_house
from tests.http import event, problem, room_with_dpu, send
from tests.http.guarded import guarded, new_token
from tests.http.streams import listening, served
from tests.notices.support import always, put_channel, receiver, tell

Samples = dict[str, float]


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(connection: asyncpg.Connection, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of its own, which has counted nothing yet."""
    async with served(Settings(database_url=database_url, auth="off", jobs=False)) as client:
        yield client


@pytest.fixture(autouse=True)
def _made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 0.0)


async def test_the_text_is_made_once_for_all_who_ask_within_a_second(
    fresh: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 3600.0)
    first = (await fresh.get("/metrics")).text
    assert (await fresh.get("/metrics")).text == first
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 0.0)
    assert (await fresh.get("/metrics")).text != first


async def samples(client: httpx.AsyncClient) -> Samples:
    """By name and labels, as they are written."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_it_counts_requests_by_the_template_of_their_route(fresh: httpx.AsyncClient) -> None:
    await room_with_dpu(fresh)
    for path in ("/v1/spaces/room/count", "/v1/spaces/nowhere/count", "/v1/spaces/room/count", "/nonsense/4711"):
        await fresh.get(path)
    found = await samples(fresh)
    count = "headcount_requests_total method=GET route=/v1/spaces/{space}/count status="
    assert (found[f"{count}200"], found[f"{count}404"]) == (2, 1)
    assert found["headcount_requests_total method=GET route=unknown status=404"] == 1
    assert found["headcount_request_seconds_count method=GET route=/v1/spaces/{space}/count"] == 3
    assert found["headcount_request_seconds_sum method=GET route=/v1/spaces/{space}/count"] > 0
    assert not [name for name in found if "4711" in name or "nowhere" in name]


async def test_methods_that_clients_invent_make_no_new_label(fresh: httpx.AsyncClient) -> None:
    for method in ("BREW", "WHEN", "PROPFIND"):
        await fresh.request(method, "/v1/events")
    found = await samples(fresh)
    assert {re.findall(r"method=(\S+)", name)[0] for name in found if "requests_total" in name} == {"other"}


async def test_refused_events_are_counted_from_0(fresh: httpx.AsyncClient) -> None:
    """Prometheus sees no increase in a number that begins with 1."""
    found = await samples(fresh)
    assert all(found[f"headcount_events_rejected_total code={code}"] == 0 for code in REFUSALS)


async def test_it_tells_what_became_of_events_and_how_late_they_are(fresh: httpx.AsyncClient) -> None:
    before = datetime.now(UTC) - timedelta(seconds=100)
    good = event(timestamp=before.isoformat())
    await send(fresh, good, event(timestamp="1999-01-01T00:00:00Z"), event(direction="no"), event(direction="no"))
    await send(fresh, good)
    found = await samples(fresh)
    assert found["headcount_events_accepted_total"] == 1
    assert found["headcount_events_duplicate_total"] == 1
    assert found["headcount_events_rejected_total code=invalid"] == 2
    assert found["headcount_events_rejected_total code=too_old"] == 1
    assert found["headcount_ingest_lag_seconds_count"] == 2
    assert 200 <= found["headcount_ingest_lag_seconds_sum"] < 320
    assert found["headcount_transaction_events_sum"] == 5
    assert found["headcount_group_requests_sum kind=events"] == 2


async def test_it_tells_how_much_waits_and_how_many_connections_there_are(fresh: httpx.AsyncClient) -> None:
    await room_with_dpu(fresh)
    await fresh.get("/v1/spaces/room/count")
    found = await samples(fresh)
    assert found["headcount_group_requests_count kind=counts"] == 1
    for name in ("queue_events", "queue_bytes", "body_bytes", "pool_waiting"):
        assert found[f"headcount_{name}"] == 0
    assert found["headcount_pool_connections"] >= found["headcount_pool_idle_connections"] >= 1


async def test_it_tells_how_far_the_rollups_are_behind(
    fresh: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("update core.rollup_state set materialized_until = now() - interval '40 minutes'")
    await connection.execute("insert into core.late_mark (dpu_id, bucket) values (1, '2026-01-05 08:00+00')")
    found = await samples(fresh)
    assert 2400 <= found["headcount_rollup_lag_seconds"] < 2460
    assert found["headcount_rollup_late_marks"] == 1


async def test_it_tells_what_became_of_notices_and_what_waits(
    connection: asyncpg.Connection, database_url: str
) -> None:
    settings = Settings(database_url=database_url, auth="off", send_notices=False, private_targets=("127.0.0.0/8",))
    async with receiver() as hook, served(settings) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        await client.post("/v1/channels/hook/test")
        hook.answer = always(500)
        await client.post("/v1/channels/hook/test")
        await tell(connection, "offline")
        await connection.execute("update core.delivery set created_at = now() - interval '100 s'")
        found = await samples(client)
    assert found["headcount_deliveries_total kind=webhook outcome=delivered"] == 1
    assert found["headcount_deliveries_total kind=webhook outcome=failed"] == 1
    assert found["headcount_deliveries_pending"] == 1
    assert 100 <= found["headcount_deliveries_oldest_seconds"] < 160
    assert found["headcount_sending"] == 0


async def test_it_answers_without_a_database_and_each_app_counts_for_itself() -> None:
    nowhere = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", auth="off", jobs=False)
    async with served(nowhere) as first, served(nowhere) as second:
        await first.get("/healthz")
        found = await samples(first)
        assert found["headcount_requests_total method=GET route=/healthz status=200"] == 1
        assert str(found["headcount_rollup_lag_seconds"]) == "nan"
        assert str(found["headcount_deliveries_pending"]) == "nan"
        assert not [name for name in await samples(second) if "healthz" in name]


async def test_it_tells_how_many_listen(app: App, client: httpx.AsyncClient) -> None:
    assert (await samples(client))["headcount_listeners"] == 0
    async with listening(app), listening(app):
        assert (await samples(client))["headcount_listeners"] == 2
    assert (await samples(client))["headcount_listeners"] == 0


async def test_a_token_of_a_space_is_not_told_of_the_whole_installation(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    limited, whole = await new_token(connection, "read", space="room"), await new_token(connection, "read")
    async with guarded(database_url) as client:
        answer = await client.get("/metrics", headers=limited)
        problem(answer, 403, "forbidden")
        assert "headcount_" not in answer.text
        assert "headcount_" in (await client.get("/metrics", headers=whole)).text
