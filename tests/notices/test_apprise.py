"""What Apprise speaks to."""

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Sequence

import asyncpg
import httpx
import pytest

from headcount.notices import channels, messengers
from headcount.notices.channels import ADDRESSES_A_CLIENT
from headcount.notices.messengers import Sent, messenger
from headcount.settings import APPRISE_SCHEMES
from tests.commands.support import PATIENCE, until
from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import Headers, guarded, new_token
from tests.notices.support import always, never, put_channel, receiver, service, tell, until_settled

SCHEMES = (*APPRISE_SCHEMES, "json")

pytestmark = pytest.mark.usefixtures("apprise")


async def test_it_goes_out_by_apprise(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url, apprise_schemes=SCHEMES) as client:
        url = f"json://user:s3cret@127.0.0.1:{hook.port}/hook"
        made = await put_channel(client, "chat", kind="apprise", url=url)
        assert (made["url"], "secret" in made) == ("json://...", False)
        await tell(connection, "offline")
        (row,) = await until_settled(connection)
        assert row.state == "delivered"
        (seen,) = hook.seen
        found = json.loads(seen["body"])
        assert found["title"] == "Sensor dpu-1 is offline"
        assert row.notice in found["message"]


async def test_what_fails_is_told_without_the_keys(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = io.StringIO()
    handler = logging.StreamHandler(logs)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    async with (
        receiver() as hook,
        receiver() as elsewhere,
        service(database_url, apprise_schemes=SCHEMES, send_notices=False) as client,
    ):
        url = f"json://user:s3cret@127.0.0.1:{hook.port}/hook/s3cret?redirect=yes&retry=3&wait=0.1"
        await put_channel(client, "chat", kind="apprise", url=url)
        for answer in (always(500), always(302, Location=elsewhere.url)):
            hook.answer = answer
            told = await client.post("/v1/channels/chat/test")
            found = told.json()
            assert found["state"] == "failed"
            assert found["tries"][0]["error"]
            assert "s3cret" not in told.text + (await client.get("/v1/deliveries")).text + logs.getvalue()
        assert elsewhere.seen == [], "no redirect is followed"
        assert len(hook.seen) == 2, "whether to try again is up to us"
    refused = {"kind": "apprise", "url": "slack://s3cret"}
    async with service(database_url, send_notices=False) as client:
        answered = await client.put("/v1/channels/chat", json=refused)
        assert answered.status_code == 422
        assert "s3cret" not in answered.text + logs.getvalue()


async def test_one_that_never_answers_takes_no_longer_than_a_try(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TRY_SECONDS", 5.0)  # within which it has asked
    async with receiver() as hook, service(database_url, apprise_schemes=SCHEMES, send_notices=False) as client:
        hook.answer = never
        url = f"json://127.0.0.1:{hook.port}/?rto=60&cto=60&retry=9&wait=60"
        await put_channel(client, "chat", kind="apprise", url=url)
        began = time.monotonic()
        assert (await client.post("/v1/channels/chat/test")).json()["state"] == "failed"
        assert time.monotonic() - began < 50
        assert len(hook.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/",
        "jsons://receiver.example/",
        "mailto://user:password@example.org",
        "ntfy://10.0.0.1/topic",
        "syslog://",
        "file:///etc/passwd",
        "gopher://x",
    ],
)
async def test_by_default_it_speaks_to_hosts_of_well_known_services_only(
    client: httpx.AsyncClient, connection: asyncpg.Connection, url: str
) -> None:
    problem(await client.put("/v1/channels/chat", json={"kind": "apprise", "url": url}), 422, "invalid", "url")


async def test_an_address_that_the_service_cannot_have_is_refused(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    refused = await client.put("/v1/channels/chat", json={"kind": "apprise", "url": "slack://nonsense"})
    problem(refused, 422, "invalid", "url")
    good = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23alerts"
    assert (await client.put("/v1/channels/chat", json={"kind": "apprise", "url": good})).status_code == 201


async def test_addresses_are_read_one_at_a_time_and_clients_in_turn(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading one is work of Python: two at once would hold up all others."""
    monkeypatch.setattr(channels, "TRY_SECONDS", PATIENCE)
    await build_house(connection)
    bad, good = await new_token(connection, space="house"), await new_token(connection, space="house")
    begun, under_way, most, go_on = list[str](), 0, 0, threading.Event()
    asked, read_in_turn = list[str](), channels.Channels._read

    async def note_asked(self: channels.Channels, url: str, client: str) -> object:
        asked.append(url.rpartition("-")[2])
        return await read_in_turn(self, url, client)

    def read(url: str, schemes: Sequence[str]) -> object:
        nonlocal under_way, most
        begun.append(url.rpartition("-")[2])
        under_way += 1
        most = max(most, under_way)
        go_on.wait(PATIENCE)
        time.sleep(0.01)
        under_way -= 1
        return messenger(url, schemes)

    monkeypatch.setattr(channels.Channels, "_read", note_asked)
    monkeypatch.setattr(channels, "messenger", read)
    monkeypatch.setattr(messengers, "send", lambda *_: Sent(is_delivered=True))
    async with guarded(database_url, send_notices=False) as client:

        async def put(name: str, headers: Headers) -> httpx.Response:
            url = f"slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23of-{name}"
            return await client.put(f"/v1/channels/{name}", json={"kind": "apprise", "url": url}, headers=headers)

        many = [asyncio.create_task(put(f"bad{number}", bad)) for number in range(ADDRESSES_A_CLIENT + 8)]
        refused, waiting = list[httpx.Response](), set(many)
        while len(refused) < 8:
            done, waiting = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            assert done
            refused += [task.result() for task in done]
        for answer in refused:
            assert "addresses of channels" in problem(answer, 429, "rate_limited")["detail"]
            assert answer.headers["retry-after"] == "1"
        other = asyncio.create_task(put("good", good))
        await until(lambda: "good" in asked)
        go_on.set()
        body(await other, 201)
        assert begun.index("good") <= 2, "it waits for one or two of the others"
        answers = [await task for task in many]
        assert [answer.status_code for answer in answers].count(201) == ADDRESSES_A_CLIENT
        # what is sent is read in the same place
        kept = [f"bad{number}" for number, answer in enumerate(answers) if answer.status_code == 201]
        tests = [client.post(f"/v1/channels/{name}/test", headers=good) for name in ("good", *kept[:2])]
        assert [body(answer)["state"] for answer in await asyncio.gather(*tests)] == ["delivered"] * 3
    assert most == 1


def test_the_default_services_have_hosts_of_their_own() -> None:
    """None of them takes the name of a host from the address; read again what is added."""
    assert set(APPRISE_SCHEMES) == {
        *("discord", "gchat", "opsgenie", "pagerduty", "pbul", "pover", "slack", "tgram", "twilio", "webex", "wxteams")
    }
