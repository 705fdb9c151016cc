"""service/headcount/notices/messengers.py: what an address of Apprise may carry. Nothing here reaches any service."""

import inspect
import io
import json
import logging
import re
import socket
import sys
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from headcount.notices import messengers
from headcount.notices.messengers import COMMON, OPTIONS, AddressRefused, messenger, options_of
from headcount.settings import APPRISE_SCHEMES
from tests.http import body, problem
from tests.notices.support import always, make_channel, receiver, service

pytestmark = pytest.mark.usefixtures("apprise")

# One address of each service that is known by default.
ADDRESSES = {
    "discord": "discord://" + "1" * 18 + "/" + "a" * 40 + "/",
    "gchat": "gchat://workspace/key-key/token-token",
    "opsgenie": "opsgenie://" + "a" * 36,
    "pagerduty": "pagerduty://" + "a" * 32 + "@" + "b" * 32,
    "pbul": "pbul://" + "a" * 32,
    "pover": "pover://" + "u" * 30 + "@" + "a" * 30,
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23alerts",
    "tgram": "tgram://123456789:abcdefghijklmnopqrstuvwxyzabcdefghi/12345",
    "twilio": "twilio://AC" + "a" * 32 + ":" + "b" * 32 + "@12025550100/12025550101",
    "webex": "webex://" + "a" * 80,
    "wxteams": "wxteams://" + "a" * 80,
}
# What the hosts of each end in.
HOSTS = {
    "discord": ("discord.com",),
    "gchat": ("chat.googleapis.com",),
    "opsgenie": ("api.opsgenie.com", "api.eu.opsgenie.com"),
    "pagerduty": ("events.pagerduty.com", "events.eu.pagerduty.com"),
    "pbul": ("api.pushbullet.com",),
    "pover": ("api.pushover.net",),
    "slack": ("slack.com", "hooks.slack.com", "hooks.slack-gov.com"),
    "tgram": ("api.telegram.org",),
    "twilio": ("api.twilio.com",),
    "webex": ("api.ciscospark.com", "webexapis.com"),
    "wxteams": ("api.ciscospark.com", "webexapis.com"),
}
# A name that begins with anything: of each sign one.
SIGNED = {"+": "+name", ":": ":name"}


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the service logs, as it is configured to."""
    logs = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers, logging.StreamHandler(logs)])
    monkeypatch.setattr(logging.getLogger("headcount"), "level", logging.INFO)
    return logs


def with_option(scheme: str, name: str, value: str) -> str:
    return f"{ADDRESSES[scheme]}?{SIGNED.get(name, name)}={quote(value, safe='')}"


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
def test_each_service_takes_its_address(scheme: str) -> None:
    assert messenger(ADDRESSES[scheme], APPRISE_SCHEMES)


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
def test_its_options_are_options_of_the_installed_apprise(scheme: str) -> None:
    """One that Apprise has no more, or names otherwise, is to be looked at again."""
    from apprise import plugins
    from apprise.manager_plugins import NotificationManager

    assert plugins
    manager = NotificationManager()  # type: ignore[no-untyped-call]
    source = inspect.getsource(sys.modules[manager[scheme].__module__])
    for name in OPTIONS[scheme]:
        assert f'"{name}"' in source or f'"qsd{name}"' in source, name


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
@pytest.mark.parametrize(
    "written",
    [
        *("template=X", "Template=X", "TEMPLATE=X", "%74emplate=X", "%2074emplate=X", "%20template=X", "template%20=X"),
        *("template%09=X", "format=text&template=X", "format=text;template=X", "template", "template=X&template="),
        *("attach=X", "config=X", "include=X", "file=X", "keyfile=X", "path=X", "smtp=X", "host=X", "port=1"),
        *("verify=no", "store=yes", "tz=X", "tag=X", "user=X", "password=X", "pass=X", "-x=X", "unheard_of=X"),
    ],
)
def test_no_address_carries_anything_else(scheme: str, written: str) -> None:
    written = written.replace("X", quote("http://127.0.0.1:9/s3cret", safe=""))
    for address in (f"{ADDRESSES[scheme]}?{written}", f"{ADDRESSES[scheme]}?overflow=split&{written}"):
        with pytest.raises(AddressRefused) as refused:
            messenger(address, APPRISE_SCHEMES)
        assert "s3cret" not in str(refused.value)
        assert "unheard" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["discord", "slack", "tgram", "pbul"])
def test_template_tokens_are_not_taken(scheme: str) -> None:
    with pytest.raises(AddressRefused):
        messenger(f"{ADDRESSES[scheme]}?:name=X", APPRISE_SCHEMES)


def test_a_service_that_holds_something_to_read_is_refused_even_if_its_option_were_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(OPTIONS, "discord", {"template"})
    with pytest.raises(AddressRefused, match="read a file or another address"):
        messenger(with_option("discord", "template", "/etc/hostname"), APPRISE_SCHEMES)


def test_an_address_of_another_service_is_refused() -> None:
    for address in ("json://127.0.0.1/", "https://discord.com/api/webhooks/1/a", "DISCORDS://x/y", "", "://"):
        with pytest.raises(AddressRefused):
            messenger(address, APPRISE_SCHEMES)


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
def test_whatever_its_options_say_a_service_asks_for_its_own_hosts_only(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Each option with a file and with an address: names that are looked up are noted, and none is found."""
    asked: set[str] = set()
    opened: set[str] = set()

    def look_up(host: str, *_: object, **__: object) -> Any:
        asked.add(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"content": "s3cret", "blocks": []}))
    true_open = open

    def note_open(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.add(str(file))
        return true_open(file, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("builtins.open", note_open)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between its tries
    number = 0
    for name in options_of(scheme) | {""}:
        for value in ("yes", str(secret), secret.as_uri(), "http://evil.example/x", "evil.example"):
            try:
                address = with_option(scheme, name, value)
                sent = messengers.send(address, messenger(address, APPRISE_SCHEMES), "Title", "Text")
            except AddressRefused:
                continue  # not a value that this option can have
            number += 1
            assert "evil" not in str(sent.error)
            assert "secret" not in str(sent.error)
    assert number > len(COMMON)
    assert asked, "it did try to send"
    assert asked <= set(HOSTS[scheme])
    assert str(secret) not in opened


async def test_the_service_fetches_nothing_that_an_address_names(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        hook.answer = always(500)  # so that nothing goes on from here, whatever happens
        for scheme in ("discord", "slack", "tgram"):
            address = with_option(scheme, "template", hook.url)
            refused = await client.put("/v1/channels/chat", json={"kind": "apprise", "url": address})
            found = problem(refused, 422, "invalid", "url")
            assert "127.0.0.1" not in refused.text
            assert scheme in found["detail"]
        assert hook.seen == []


async def test_a_channel_of_before_whose_address_names_something_to_read_is_not_sent_to(
    connection: asyncpg.Connection, database_url: str, logs: io.StringIO
) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        hook.answer = always(500)
        for scheme in ("discord", "slack", "tgram"):
            await make_channel(
                connection, scheme, kind="apprise", url=with_option(scheme, "template", f"{hook.url}/s3cret")
            )
            answer = await client.post(f"/v1/channels/{scheme}/test")
            (tried,) = body(answer)["tries"]
            assert tried["delivered"] is False
            assert "Give the channel another url." in tried["error"]
            assert not re.search("s3cret|127.0.0.1", answer.text + logs.getvalue())
        assert hook.seen == []


async def test_what_apprise_says_is_not_passed_on(
    connection: asyncpg.Connection, database_url: str, logs: io.StringIO
) -> None:
    schemes = (*APPRISE_SCHEMES, "json")
    async with (
        receiver() as hook,
        service(database_url, apprise_schemes=schemes, send_notices=False) as client,
    ):
        await make_channel(connection, "chat", kind="apprise", url=f"json://s3cret:k3y@127.0.0.1:{hook.port}/t0ken")
        hook.answer = always(404, b"no")
        answer = await client.post("/v1/channels/chat/test")
        (tried,) = body(answer)["tries"]
        assert (tried["status"], tried["error"]) == (404, "json answered 404.")
        assert not re.search("s3cret|k3y|t0ken|127.0.0.1", answer.text + logs.getvalue())
        await make_channel(connection, "gone", kind="apprise", url="json://s3cret@127.0.0.1:9/t0ken")
        answer = await client.post("/v1/channels/gone/test")
        (tried,) = body(answer)["tries"]
        assert tried["error"] == "json could not be reached, or did not take it."
        assert not re.search("s3cret|t0ken|127.0.0.1", answer.text + logs.getvalue())


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
async def test_every_option_that_is_allowed_can_be_given_in_a_channel(
    client: httpx.AsyncClient, connection: asyncpg.Connection, scheme: str
) -> None:
    sent = {"kind": "apprise", "url": f"{ADDRESSES[scheme]}?format=text&overflow=split&emojis=no"}
    assert (await client.put("/v1/channels/chat", json=sent)).status_code == 201
