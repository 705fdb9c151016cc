"""E-mail through a real SMTP server."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from headcount.notices.channels import mail_of
from headcount.settings import Settings
from headcount.wire.messages.notices import ClaimRow
from tests.commands.support import PATIENCE, free_port
from tests.notices.support import impatience, make_channel, put_channel, service, tell, until_settled


class Mailbox:
    """What an SMTP server took; `refusals`: answers to give first, instead of taking it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.refusals: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 There is nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.envelopes.append(envelope)
        return "250 Taken"


@contextmanager
def smtp(**options: Any) -> Iterator[tuple[Mailbox, int]]:
    mailbox = Mailbox()
    # port 0 would not do: the controller knocks at its own port to see whether it is up
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE, **options)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own for localhost, and that certificate."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("needs openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


async def test_a_mail_arrives_and_says_all_there_is_to_say(connection: asyncpg.Connection, database_url: str) -> None:
    with smtp() as (mailbox, port):
        async with service(database_url, smtp_url=f"smtp://127.0.0.1:{port}", smtp_from="counts@example.org") as client:
            made = await put_channel(client, "mail", kind="email", to=["a@example.org", "b@example.org"])
            assert "secret" not in made
            await tell(connection, "offline", dpus=["dpu-1", "dpu-2"], dpu_count=3, space="hall", name="Halle Süd")
            (row,) = await until_settled(connection)
        (mail,) = mailbox.mails
        assert (mail["From"], mail["To"]) == ("counts@example.org", "a@example.org, b@example.org")
        assert mail["Subject"] == "3 sensors of Halle Süd are offline"
        assert mail["Message-ID"] == f"<{row.notice}.{row.id}@example.org>"
        assert mail["Auto-Submitted"] == "auto-generated"
        text = mail.get_content()
        for expected in ("2026-03-04T12:00:00Z", "Space: hall", "Sensors: dpu-1, dpu-2 ...", row.notice):
            assert expected in text
        assert mailbox.envelopes[0].rcpt_tos == ["a@example.org", "b@example.org"]
        assert row.tries[0].answer == "Taken"


async def test_a_server_that_is_busy_is_asked_again(connection: asyncpg.Connection, database_url: str) -> None:
    with smtp() as (mailbox, port):
        mailbox.refusals = ["451 Come back later"]
        async with service(database_url, smtp_url=f"smtp://127.0.0.1:{port}", send_notices=True) as client:
            await put_channel(client, "mail", kind="email", to="a@example.org")
            await tell(connection, "offline")
            async with impatience(database_url):
                (row,) = await until_settled(connection)
        assert "Come back later" in str(row.tries[0].error)
        assert [found.delivered for found in row.tries] == [False, True]


async def test_one_refused_address_among_several_is_told(connection: asyncpg.Connection, database_url: str) -> None:
    with smtp() as (mailbox, port):
        async with service(database_url, smtp_url=f"smtp://127.0.0.1:{port}", send_notices=False) as client:
            await put_channel(client, "mail", kind="email", to=["a@example.org", "nobody@example.org"])
            answer = (await client.post("/v1/channels/mail/test")).json()
            assert (answer["state"], len(mailbox.mails)) == ("delivered", 1)
            assert "nobody@example.org was refused" in answer["tries"][0]["answer"]
            await put_channel(client, "mail", to="nobody@example.org")
            answer = (await client.post("/v1/channels/mail/test")).json()
            assert answer["state"] == "failed"


async def test_it_logs_in_behind_tls_and_its_password_is_told_nowhere(
    connection: asyncpg.Connection,
    database_url: str,
    certificate: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    context, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    good = ["s3cret p@ss"]

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"user@x", good[0].encode()), handled=False)

    with smtp(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate) as (
        mailbox,
        port,
    ):
        url = f"smtp+starttls://user%40x:s3cret%20p%40ss@localhost:{port}"
        async with service(database_url, smtp_url=url, send_notices=False) as client:
            await put_channel(client, "mail", kind="email", to="a@example.org")
            answer = await client.post("/v1/channels/mail/test")
            assert answer.json()["state"] == "delivered", answer.text
            good[0] = "changed"
            refused = await client.post("/v1/channels/mail/test")
            assert refused.json()["state"] == "failed"
            assert len(mailbox.mails) == 1
            for text in (answer.text, refused.text, caplog.text, (await client.get("/v1/channels/mail")).text):
                assert "s3cret" not in text


async def test_without_tls_where_it_is_asked_for_nothing_is_sent(
    connection: asyncpg.Connection, database_url: str
) -> None:
    with smtp() as (mailbox, port):
        for scheme in ("smtp+starttls", "smtps"):
            url = f"{scheme}://127.0.0.1:{port}"
            async with service(database_url, smtp_url=url, send_notices=False) as client:
                await put_channel(client, "mail", kind="email", to="a@example.org")
                answer = (await client.post("/v1/channels/mail/test")).json()
                assert answer["state"] == "failed"
        assert mailbox.mails == []


def test_a_subject_cannot_bring_headers_of_its_own() -> None:
    details = '{"name": "Hall\\r\\nBcc: all@example.org", "count": 3, "capacity": 2}'
    at = datetime(2026, 1, 1, tzinfo=UTC)
    claim = ClaimRow(1, "c", "msg_1", "over_capacity", at, details, "m", "email", None, ["a@example.org"], None)
    mail = mail_of(claim, Settings(auth="off").smtp_from)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Hall  Bcc: all@example.org is over capacity: 3 people, capacity 2"


async def test_an_address_of_before_that_stands_for_another_one_gets_no_mail(
    connection: asyncpg.Connection, database_url: str
) -> None:
    with smtp() as (mailbox, port):
        async with service(database_url, smtp_url=f"smtp://127.0.0.1:{port}", send_notices=False) as client:
            to = ["a@example.org", "=?utf-8?q?victim=40evil.com=2c?=@example.org"]
            await make_channel(connection, "mail", kind="email", url=None, to=to)
            found = (await client.post("/v1/channels/mail/test")).json()
        assert (found["state"], mailbox.mails) == ("failed", [])
        assert "=?" in found["tries"][0]["error"]
