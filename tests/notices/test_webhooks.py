"""Webhooks on their way to a receiver that checks them, and to such as do not behave."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import asyncpg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from headcount.database import calls
from headcount.notices import channels
from headcount.wire.messages.notices import ClaimRow
from tests.commands.support import free_port, until
from tests.notices.support import (
    Answer,
    Received,
    accept,
    always,
    impatience,
    log,
    make_channel,
    never,
    put_channel,
    receiver,
    service,
    tell,
    tell_all,
    until_settled,
    verified,
)


async def test_a_receiver_can_check_who_sent_it_and_that_nothing_was_changed(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with receiver() as hook, service(database_url) as client:
        made = await put_channel(client, "hook", kind="webhook", url=hook.url)
        await tell(connection, "offline", incident=1, started_at="2026-03-04T12:00:00Z")
        (seen,) = await hook.wait_for(1)
        assert seen["request"] == "POST /hook HTTP/1.1"
        assert verified(made["secret"], seen) == {
            "type": "sensor.offline",
            "timestamp": "2026-03-04T12:00:00Z",
            "data": {
                "kind": "dpu_offline",
                "dpus": ["dpu-1"],
                "dpu_count": 1,
                "incident": 1,
                "started_at": "2026-03-04T12:00:00Z",
            },
        }
        assert seen["headers"]["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            Webhook(made["secret"]).verify(seen["body"] + b" ", seen["headers"])
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "QUJD" * 8).verify(seen["body"], seen["headers"])
        (row,) = await until_settled(connection)
        assert (row.state, row.notice) == ("delivered", seen["headers"]["webhook-id"])
        assert [(found.status, found.delivered, found.error) for found in row.tries] == [(204, True, None)]


async def test_a_receiver_that_fails_for_a_while_gets_everything_in_order_each_with_one_id(
    connection: asyncpg.Connection, database_url: str
) -> None:
    ways: Iterator[Any] = iter([always(500, b"\x00broken"), always(503), always(302), always(404), always(500)] * 2)

    async def at_first(seen: Received) -> Answer:
        return await next(ways, accept)(seen)

    async with receiver() as hook, impatience(database_url), service(database_url) as client:
        hook.answer = at_first
        secret = (await put_channel(client, "hook", kind="webhook", url=hook.url))["secret"]
        for number in range(5):
            await tell_all(connection, [("offline", number, None), ("online", number, None)])
        rows = await until_settled(connection)
    assert {row.state for row in rows} == {"delivered"}
    assert sum(len(row.tries) for row in rows) == len(hook.seen) == 20
    assert {seen["headers"]["webhook-id"] for seen in hook.seen} == {row.notice for row in rows}
    places = {seen["headers"]["webhook-id"]: place for place, seen in enumerate(hook.seen)}
    ids: dict[int, list[str]] = {number: [] for number in range(5)}
    for row in await connection.fetch("select incident_id, id from core.notice order by notice_id"):
        ids[row["incident_id"]].append(row["id"])
    for offline, online in ids.values():
        first_online = min(place for place, seen in enumerate(hook.seen) if seen["headers"]["webhook-id"] == online)
        assert places[offline] < first_online
    assert all(verified(secret, seen) for seen in hook.seen)
    answers = {found.answer for row in rows for found in row.tries}
    assert "\N{REPLACEMENT CHARACTER}broken" in answers


async def test_one_that_never_answers_costs_the_others_nothing(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TRY_SECONDS", 3.0)
    began = time.monotonic()
    async with receiver() as dead, receiver() as alive, service(database_url) as client:
        dead.answer = never
        await put_channel(client, "dead", kind="webhook", url=dead.url)
        await put_channel(client, "alive", kind="webhook", url=alive.url)
        for number in range(30):
            await tell(connection, "offline", number)
        await alive.wait_for(30)
        tries = 1 + int((time.monotonic() - began) / 3)
        assert len(dead.seen) <= 4 * tries, "no more than that are under way"

        async def is_tried() -> bool:
            return any(row.tries for row in await calls.list_deliveries(connection, "dead"))

        await until(is_tried)
    tried = [row.tries[0] for row in await calls.list_deliveries(connection, "dead", max_rows=1000) if row.tries]
    assert {(found.status, found.error) for found in tried} == {(None, "No answer within 3 seconds.")}
    assert all(found.duration_ms >= 3000 for found in tried)


async def test_what_a_receiver_repeats_of_its_address_is_not_shown(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """The address may be a key, and who may read deliveries may not read channels."""
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        key, secret = "KEY0123456789", "a token/with more"

        async def answer(seen: Received) -> Answer:
            path = seen["request"].split()[1]
            page = f"Cannot POST {path} ({unquote(path)}), {key} or {secret} {key.lower()} "
            return 404, {"Content-Type": "text/html"}, (page * 30).encode()

        hook.answer = answer
        await put_channel(
            client, "hook", kind="webhook", url=f"{hook.url}/services/T0/{key}?to={quote(secret, safe='')}"
        )
        (tried,) = (await client.post("/v1/channels/hook/test")).json()["tries"]
        assert tried["answer"].startswith("Cannot POST \N{HORIZONTAL ELLIPSIS}?\N{HORIZONTAL ELLIPSIS} (")
        for part in (key, key[:8], key.lower(), secret, secret[:8], quote(secret, safe="")):
            assert part not in tried["answer"]


async def test_a_try_at_an_address_that_cannot_be_read_any_more_is_noted(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Such ones were taken up to 0.2.0."""
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        await connection.execute("update core.channel set url = 'https://192.0.2.1]/hook-key'")
        (tried,) = (await client.post("/v1/channels/hook/test")).json()["tries"]
        assert tried["error"]
        assert "hook-key" not in tried["error"]


async def test_one_that_sends_without_end_is_cut_off(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        hook.answer = always(200, b"x" * 5_000_000)
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        answer = (await client.post("/v1/channels/hook/test")).json()
        assert (answer["state"], answer["tries"][0]["answer"]) == ("delivered", "x" * 500)


async def test_no_redirect_is_followed(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, receiver() as elsewhere, service(database_url, send_notices=False) as client:
        hook.answer = always(307, Location=elsewhere.url)
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        answer = (await client.post("/v1/channels/hook/test")).json()
        assert (answer["state"], answer["tries"][0]["status"]) == ("failed", 307)
        assert elsewhere.seen == []


async def test_a_name_that_changes_its_address_after_it_was_checked_reaches_nothing(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = [["93.184.216.34"]]

    def look_up(host: str, port: int) -> list[str]:
        assert host == "receiver.example"
        return said[0]

    monkeypatch.setattr("headcount.notices.look_ups.addresses_of", look_up)
    async with receiver() as hook:
        async with service(database_url, private_targets=(), send_notices=False) as client:
            await put_channel(client, "hook", kind="webhook", url=f"http://receiver.example:{hook.port}/")
            for said[0] in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]):
                answer = (await client.post("/v1/channels/hook/test")).json()
                assert answer["state"] == "failed"
                assert "not a public address" in answer["tries"][0]["error"]
                assert "127.0.0.1" not in answer["tries"][0]["error"]
            assert hook.seen == []
        await connection.execute("update core.notice set created_at = created_at - interval '1 minute'")
        said[0] = ["127.0.0.1"]
        async with service(database_url, send_notices=False) as client:
            assert (await client.post("/v1/channels/hook/test")).json()["state"] == "delivered"
            # the receiver is spoken to by its name
            assert hook.seen[0]["headers"]["host"] == f"receiver.example:{hook.port}"


async def test_where_one_address_does_not_answer_the_next_one_is_tried(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr("headcount.notices.look_ups.addresses_of", look_up)
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        await put_channel(client, "hook", kind="webhook", url=f"http://receiver.example:{hook.port}/")
        assert (await client.post("/v1/channels/hook/test")).json()["state"] == "delivered"


async def test_what_nobody_has_told_the_end_of_is_sent_again_with_the_same_id(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with receiver() as hook:
        await make_channel(connection, url=hook.url)
        await tell(connection, "offline")
        # a sender that dies after it has claimed, and perhaps after it has sent
        (claim,) = await calls.claim_deliveries(connection, 10)
        async with service(database_url):
            await asyncio.sleep(1.2)
            assert hook.seen == [], "its lease holds"
            await connection.execute("update core.delivery set due_at = now()")
            (seen,) = await hook.wait_for(1)
            assert seen["headers"]["webhook-id"] == claim.notice
            await until_settled(connection)


async def test_it_is_sent_within_a_second_or_so(connection: asyncpg.Connection, database_url: str) -> None:
    """Where the machine has time for it, which it has for one of ten."""
    async with receiver() as hook, service(database_url) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        took = list[timedelta]()
        while len(took) < 10 and min(took, default=timedelta.max) > timedelta(seconds=3):
            began = datetime.now(UTC)
            await tell(connection, "offline", len(took))
            row, *_ = await until_settled(connection)
            took.append(row.tries[0].at - began)
    assert min(took) < timedelta(seconds=3)


async def test_it_finds_spaces_over_their_capacity_by_itself(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url) as client:
        secret = (await put_channel(client, "hook", kind="webhook", url=hook.url))["secret"]
        await client.put("/v1/spaces/room", json={"capacity": 3})
        for count in (4, 2):
            assert (await client.post("/v1/spaces/room/resets", json={"count": count})).status_code == 201
            seen = (await hook.wait_for(1 if count == 4 else 2))[-1]
            found = verified(secret, seen)
            assert found["type"] == ("space.over_capacity" if count == 4 else "space.capacity_ok")
            assert (found["data"]["space"], found["data"]["count"], found["data"]["capacity"]) == ("room", count, 3)


async def test_it_goes_on_after_the_database_was_away(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = True
    claim_deliveries = calls.claim_deliveries

    async def claim(*arguments: Any) -> Any:
        if away:
            raise OSError("The database is away.")
        return await claim_deliveries(*arguments)

    async def detect(*_: Any) -> int:
        raise OSError("The database is away.")

    monkeypatch.setattr("headcount.notices.sender.calls.claim_deliveries", claim)
    monkeypatch.setattr("headcount.notices.sender.calls.detect_over_capacity", detect)
    async with receiver() as hook:
        await make_channel(connection, url=hook.url)
        await tell(connection, "offline")
        async with service(database_url):
            await asyncio.sleep(0.8)
            assert hook.seen == []
            away = False
            await hook.wait_for(1)
            await until_settled(connection)


async def test_what_was_sent_is_noted_even_if_the_database_is_away_for_a_moment(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_delivery, attempts = calls.finish_delivery, 0

    async def finish(*arguments: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError("The database is away.")
        return await finish_delivery(*arguments)

    monkeypatch.setattr("headcount.notices.sender.calls.finish_delivery", finish)
    async with receiver() as hook, service(database_url) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        await tell(connection, "offline")
        (row,) = await until_settled(connection)
        assert (len(hook.seen), len(row.tries), attempts) == (1, 1, 3)


async def test_a_service_that_stops_ends_what_it_has_begun(connection: asyncpg.Connection, database_url: str) -> None:
    async def slowly(_: Received) -> Answer:
        await asyncio.sleep(0.7)
        return 204, {}, b""

    async with receiver() as hook:
        hook.answer = slowly
        await make_channel(connection, url=hook.url)
        await tell(connection, "offline")
        async with service(database_url):
            await hook.wait_for(1)
    assert [found[1:] for found in await log(connection)] == [("offline", "delivered", None)]


@pytest.mark.concurrency
async def test_three_services_send_each_notice_once(connection: asyncpg.Connection, database_url: str) -> None:
    async with (
        receiver() as hook,
        service(database_url) as client,
        service(database_url),
        service(database_url),
    ):
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        await tell_all(connection, [("offline", number, None) for number in range(50)])
        await tell_all(connection, [("online", number, None) for number in range(50)])
        await until_settled(connection)
    ids = [seen["headers"]["webhook-id"] for seen in hook.seen]
    assert len(ids) == len(set(ids)) == 100


async def test_nobody_listens_there(connection: asyncpg.Connection, database_url: str) -> None:
    async with service(database_url, send_notices=False) as client:
        await put_channel(client, "hook", kind="webhook", url=f"http://127.0.0.1:{free_port()}/")
        answer = (await client.post("/v1/channels/hook/test")).json()
        assert answer["state"] == "failed"
        assert answer["tries"][0]["error"].startswith("ConnectError")


def test_the_body_is_the_same_in_every_try() -> None:
    claim = ClaimRow(
        1,
        "c",
        "msg_1",
        "online",
        datetime(2026, 1, 1, tzinfo=UTC),
        '{"b": 1, "a": 2}',
        "x",
        "webhook",
        None,
        None,
        None,
    )
    assert channels.body_of(claim) == (
        '{"type":"sensor.online","timestamp":"2026-01-01T00:00:00Z","data":{"b": 1, "a": 2}}'
    )
