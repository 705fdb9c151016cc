"""PUT /v1/channels/{id}."""

import base64
from typing import Any

import asyncpg
import httpx
import pytest

from tests.http import body, problem
from tests.http.guarded import build_site, guarded, new_token
from tests.notices.support import service

HOOK = {"kind": "webhook", "url": "https://93.184.216.34/hook"}
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


async def test_it_makes_a_channel_and_shows_the_secret_this_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await client.put("/v1/spaces/house", json={})
    sent = {
        **HOOK,
        "events": ["over_capacity", "offline"],
        "under": "house",
        "only_in_opening_hours": True,
        "muted_until": "2099-01-01T00:00:00Z",
    }
    made = body(await client.put("/v1/channels/ops", json=sent), 201)
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert made.pop("created_at")
    expected = {
        **sent,
        "id": "ops",
        "to": None,
        "events": ["offline", "over_capacity"],
        "failing_since": None,
        "out_of_reach": False,
    }
    assert made == expected
    for answer in (
        body(await client.put("/v1/channels/ops", json=sent)),
        body(await client.get("/v1/channels/ops")),
        body(await client.get("/v1/channels"))["items"][0],
    ):
        assert answer.pop("created_at")
        assert answer == expected


async def test_a_secret_that_is_given_is_not_shown_and_one_that_is_null_is_made_anew(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async def stored() -> str:
        return str(await connection.fetchval("select secret from core.channel where deleted_at is null"))

    assert "secret" not in body(await client.put("/v1/channels/ops", json={**HOOK, "secret": SECRET}), 201)
    assert await stored() == SECRET
    assert "secret" not in body(await client.put("/v1/channels/ops", json={"events": ["online"]}))
    assert await stored() == SECRET
    made = body(await client.put("/v1/channels/ops", json={"secret": None}))["secret"]
    assert await stored() == made != SECRET


async def test_what_is_absent_stays_and_null_clears(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await client.put("/v1/spaces/house", json={})
    full = {"under": "house", "only_in_opening_hours": True, "muted_until": "2099-01-01T00:00:00Z"}
    made = body(await client.put("/v1/channels/ops", json={**HOOK, **full}), 201)
    assert made["events"] == ["offline", "online", "over_capacity"]
    assert body(await client.put("/v1/channels/ops", json={})) == {k: v for k, v in made.items() if k != "secret"}
    cleared = body(await client.put("/v1/channels/ops", json=dict.fromkeys(full)))
    assert [cleared[name] for name in full] == [None, False, None]


async def test_a_channel_can_become_one_of_another_kind(connection: asyncpg.Connection, database_url: str) -> None:
    async with service(database_url, smtp_url="smtp://localhost", send_notices=False) as client:
        body(await client.put("/v1/channels/ops", json=HOOK), 201)
        found = body(await client.put("/v1/channels/ops", json={"kind": "email", "to": "a@example.org"}))
        assert (found["kind"], found["url"], found["to"]) == ("email", None, ["a@example.org"])
        assert "secret" in body(await client.put("/v1/channels/ops", json=HOOK))


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        ({}, "kind"),
        ({"kind": "pigeon"}, "kind"),
        ({"kind": "webhook"}, "url"),
        ({"kind": "webhook", "url": None}, "url"),
        ({"kind": "webhook", "url": "receiver.example"}, "url"),
        ({"kind": "webhook", "url": "https://"}, "url"),
        ({"kind": "webhook", "url": "https:///hook"}, "url"),
        ({"kind": "webhook", "url": "https://xn--zz--.example/"}, "url"),
        ({"kind": "webhook", "url": "https://192.0.2.1]/hook"}, "url"),
        ({"kind": "webhook", "url": "https://x[y.example/hook"}, "url"),
        ({"kind": "webhook", "url": "https://x%41y.example/hook"}, "url"),
        ({"kind": "apprise", "url": "tgram://123456789:abcdefg_hijklmnop/http:%2F%2F127.0.0.1/?"}, "url"),
        ({"kind": "webhook", "url": "https://93.184.216.34:99999/"}, "url"),
        ({"kind": "webhook", "url": "https://user:password@93.184.216.34/"}, "url"),
        ({"kind": "webhook", "url": "https://93.184.216.34/\r\nX: y"}, "url"),
        ({"kind": "apprise", "url": "https://93.184.216.34/"}, "url"),
        ({"kind": "webhook", "url": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23alerts"}, "url"),
        ({"kind": "email"}, "to"),
        ({"kind": "email", "to": []}, "to"),
        ({"kind": "email", "to": "nobody"}, "to"),
        ({"kind": "email", "to": ["a@example.org\r\nBcc: b@example.org"]}, "to[0]"),
        ({"kind": "email", "to": "a@example.org", "url": "https://93.184.216.34/"}, "url"),
        ({**HOOK, "to": "a@example.org"}, "to"),
        ({**HOOK, "events": []}, "events"),
        ({**HOOK, "events": ["offline", "all"]}, "events[1]"),
        ({**HOOK, "secret": "s3cret"}, "secret"),
        ({**HOOK, "secret": "whsec_" + "A" * 20}, "secret"),
        ({**HOOK, "under": "nowhere"}, "under"),
        ({**HOOK, "muted_until": "tomorrow"}, "muted_until"),
        ({**HOOK, "name": "Ops"}, "name"),
    ],
)
async def test_it_takes_nothing_but_a_reasonable_channel(
    connection: asyncpg.Connection, database_url: str, sent: dict[str, Any], where: str
) -> None:
    async with service(database_url, smtp_url="smtp://localhost", send_notices=False) as client:
        problem(await client.put("/v1/channels/ops", json=sent), 422, "invalid", where)
        assert await connection.fetchval("select count(*) from core.channel") == 0


async def test_there_is_no_e_mail_without_a_server_for_it(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    refused = await client.put("/v1/channels/ops", json={"kind": "email", "to": "a@example.org"})
    assert "HEADCOUNT_SMTP_URL" in problem(refused, 422, "invalid", "to")["detail"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "localhost"],
)
async def test_it_refuses_targets_that_are_not_on_the_internet(
    client: httpx.AsyncClient, connection: asyncpg.Connection, host: str
) -> None:
    refused = await client.put("/v1/channels/ops", json={"kind": "webhook", "url": f"http://{host}:8000/v1/tokens"})
    assert "not a public address" in problem(refused, 422, "invalid", "url")["detail"]


async def test_names_are_looked_up_and_those_without_an_address_may_get_one(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int) -> list[str]:
        if host == "unknown.example":
            raise OSError("Name or service not known")
        return ["93.184.216.34", "192.168.1.1"]

    monkeypatch.setattr("headcount.notices.look_ups.addresses_of", look_up)
    inside = {"kind": "webhook", "url": "https://inside.example/"}
    problem(await client.put("/v1/channels/ops", json=inside), 422, "invalid", "url")
    unknown = {"kind": "webhook", "url": "https://unknown.example/"}
    body(await client.put("/v1/channels/ops", json=unknown), 201)


async def test_a_limited_token_makes_channels_about_its_own_space_only(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    limited, admin = await new_token(connection, "admin", space="own"), await new_token(connection, "admin")
    async with guarded(database_url) as client:
        body(await client.put("/v1/channels/secret-hook", json=HOOK, headers=admin), 201)
        body(await client.put("/v1/channels/shared", json={**HOOK, "under": "own"}, headers=admin), 201)
        for sent, under in (({}, "own"), ({"under": None}, "own"), ({"under": "own-room"}, "own-room")):
            made = await client.put("/v1/channels/mine", json={**HOOK, **sent}, headers=limited)
            assert made.status_code in (200, 201)
            assert made.json()["under"] == under
        for sent, status in (({"under": "secret-b"}, 422), ({"under": "secret-campus"}, 422)):
            assert (await client.put("/v1/channels/mine", json=sent, headers=limited)).status_code == status
        problem(await client.put("/v1/channels/secret-hook", json={}, headers=limited), 404, "not_found", "channel")
        items = body(await client.get("/v1/channels", headers=limited))["items"]
        assert [item["id"] for item in items] == ["mine", "shared"]


async def test_a_space_is_retired_and_not_removed_while_a_channel_is_for_it(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await client.put("/v1/spaces/house", json={})
    body(await client.put("/v1/channels/ops", json={**HOOK, "under": "house"}), 201)
    assert body(await client.delete("/v1/spaces/house"))["retired_at"]
    assert body(await client.get("/v1/channels/ops"))["under"] == "house"
    assert (await client.delete("/v1/channels/ops")).status_code == 204
    assert (await client.delete("/v1/spaces/house")).status_code == 204


async def test_a_body_can_be_messagepack(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    import msgspec

    sent = msgspec.msgpack.encode({**HOOK, "muted_until": "2099-01-01T00:00:00Z"})
    made = await client.put("/v1/channels/ops", content=sent, headers={"Content-Type": "application/msgpack"})
    assert made.status_code == 201, made.text


@pytest.mark.parametrize(
    "address",
    ["=?utf-8?q?victim=40evil.com=2c?=@example.org", "a=?utf-8?q?b?=@example.org", "=?@example.org"],
)
async def test_an_address_that_stands_for_other_characters_is_refused(
    connection: asyncpg.Connection, database_url: str, address: str
) -> None:
    async with service(database_url, smtp_url="smtp://localhost", send_notices=False) as client:
        for to in (address, ["a@example.org", address]):
            answer = await client.put("/v1/channels/ops", json={"kind": "email", "to": to})
            problem(answer, 422, "invalid")
        body(await client.put("/v1/channels/ops", json={"kind": "email", "to": "a=b?c@example.org"}), 201)
