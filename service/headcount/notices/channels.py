"""The ways a notice goes out: a signed webhook, an e-mail, a service that Apprise speaks to.

Each takes a claimed delivery and says what came of it; none raises, and none takes longer than TRY_SECONDS.
"""

import asyncio
import re
import socket
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiosmtplib
import httpx
import msgspec
from standardwebhooks import Webhook

from headcount.notices import messengers
from headcount.notices.egress import CONNECT_SECONDS, CheckedTransport, TargetRefused, Targets
from headcount.notices.look_ups import OURS, Crowded, LookUps, Threads
from headcount.notices.messengers import TRY_SECONDS, AddressRefused, messenger, scheme_of
from headcount.settings import Settings
from headcount.wire.instants import shortest
from headcount.wire.messages.base import ProblemItem
from headcount.wire.messages.notices import ChannelIn, ClaimRow
from headcount.wire.problems import Problem
from headcount.wire.shares import Places
from headcount.wire.threads import WorkerThreads

if TYPE_CHECKING:
    from apprise import NotifyBase

# For the addresses of a name, when a channel is made; and for the name of this machine.
LOOK_UP_SECONDS = 3.0
# Threads of Apprise: more than tries that are under way (headcount.notices.sender), since some hang for longer.
APPRISE_THREADS = 128
APPRISE_A_CLIENT = 32
# Addresses that wait to be read by Apprise or are being read, for channels that are made: in all, and of one client.
# Reading one of 2,000 characters takes some milliseconds, in which no other thread runs. They may be that long: an
# address lists the phone numbers or rooms to which a notice goes.
ADDRESSES = 64
ADDRESSES_A_CLIENT = 8
MAIL_PORTS = {"smtps": 465, "smtp+starttls": 587, "smtp": 25}
# It begins what stands for other characters (RFC 2047): an address with it could name somebody else.
ENCODED_WORD = "=?"
ANSWER_BYTES = 2_000
ANSWER_CHARACTERS = 500
# Parts of an address that are shorter are words, and no keys.
LEAST_KEY = 6
SEPARATORS = re.compile(r"[/?&=;,]")

TYPES = {
    "offline": "sensor.offline",
    "online": "sensor.online",
    "correction": "sensor.correction",
    "over_capacity": "space.over_capacity",
    "capacity_ok": "space.capacity_ok",
    "test": "channel.test",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a try. `status`: of HTTP."""

    is_delivered: bool
    status: int | None = None
    answer: str | None = None
    error: str | None = None


class Channels:
    """Sends by all kinds of channels. Use it between `open` and `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.look_ups = LookUps()
        self.targets = Targets(self.look_ups, settings.private_targets)
        self.apprise = Threads("apprise", APPRISE_THREADS, APPRISE_A_CLIENT)
        self.readings = WorkerThreads(1, "address")
        self.addresses = Places(ADDRESSES, ADDRESSES_A_CLIENT, "addresses of channels")
        self.client: httpx.AsyncClient | None = None
        # Looked up when the first mail is sent.
        self.own_name: str | None = None

    def open(self) -> None:
        self.client = httpx.AsyncClient(
            transport=CheckedTransport(self.targets),
            timeout=httpx.Timeout(TRY_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        if self.client:
            await self.client.aclose()
        self.readings.close()

    async def send(self, claim: ClaimRow) -> Outcome:
        """One try."""
        ways = {"webhook": self._post, "email": self._mail, "apprise": self._notify}
        try:
            async with asyncio.timeout(TRY_SECONDS):
                return await ways[claim.channel_kind](claim)
        except TimeoutError:
            return Outcome(is_delivered=False, error=f"No answer within {TRY_SECONDS:g} seconds.")
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            return Outcome(is_delivered=False, error=_clean(_without(_keys_of(claim.url or ""), what)))

    async def check(self, patch: ChannelIn, client: str | None) -> None:
        """Raises Problem (422) for a target that this service would not send to, and 429 where `client` has too many
        others checked."""
        if patch.to and not self.settings.smtp_url:
            raise _refused("to", "This service sends no e-mail: it has no HEADCOUNT_SMTP_URL.")
        if not patch.url:
            return
        url, scheme = patch.url, scheme_of(patch.url)
        if scheme in ("http", "https"):
            await self._check_target(url, client or OURS)
        elif scheme not in self.settings.apprise_schemes:
            known = ", ".join(self.settings.apprise_schemes)
            raise _refused(
                "url", f"This service sends to https, http and, by Apprise, {known} (HEADCOUNT_APPRISE_SCHEMES)."
            )
        else:
            try:
                with self.addresses.one(client) as place:
                    place.take()
                    async with asyncio.timeout(TRY_SECONDS):
                        await self._read(url, client or OURS)
            except AddressRefused as refused:
                raise _refused("url", str(refused)) from None
            except TimeoutError:
                raise Problem("rate_limited", "Apprise is too busy with other channels. Try again later.") from None

    async def _read(self, url: str, client: str) -> "NotifyBase":
        """One address at a time in this process, and clients in turn. Raises AddressRefused."""
        return await self.readings.run(client, lambda: messenger(url, self.settings.apprise_schemes))

    async def _check_target(self, text: str, client: str) -> None:
        try:
            urlsplit(text)  # refuses brackets that httpx takes
            url = httpx.URL(text)
            host = url.host
        except (httpx.InvalidURL, ValueError):
            raise _refused("url", "This is no address of the web.") from None
        if not host:
            raise _refused("url", "The address names no host.")
        if b"%" in url.raw_host:
            raise _refused("url", "The host of the address has characters that no host has.")
        if url.port is not None and not 1 <= url.port <= 65535:
            raise _refused("url", "The address names a port that there is not.")
        if url.userinfo:
            raise _refused("url", "Keep passwords out of the address: the signature says who sends it.")
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                await self.targets.resolve(url.raw_host.decode("ascii"), url.port or 443, client)
        except TargetRefused as refused:
            raise _refused("url", f"{refused} HEADCOUNT_PRIVATE_TARGETS can allow it.") from None
        except Crowded as crowded:
            raise Problem("rate_limited", f"{crowded} Try again later.") from None
        except (OSError, UnicodeError):
            pass  # it may get an address later; it is checked again whenever something is sent

    async def _post(self, claim: ClaimRow) -> Outcome:
        body = body_of(claim)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "headcount",
            "webhook-id": claim.notice,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(claim.secret or "").sign(claim.notice, now, body),
        }
        if self.client is None:
            raise RuntimeError("not open")
        extensions = {"client": client_of(claim)}
        async with self.client.stream(
            "POST", claim.url or "", content=body, headers=headers, extensions=extensions
        ) as response:
            answer = b""
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) >= ANSWER_BYTES:
                    break
        is_delivered = response.is_success
        keys = _keys_of(claim.url or "")
        text = answer[:ANSWER_BYTES].decode("utf-8", "replace")
        if len(answer) >= ANSWER_BYTES and keys:
            text = text[: -len(keys[0])]  # where it was cut, a key may have been
        return Outcome(
            is_delivered=is_delivered,
            status=response.status_code,
            answer=_clean(_without(keys, text)),
            error=None if is_delivered else f"The receiver answered {response.status_code}.",
        )

    async def _mail(self, claim: ClaimRow) -> Outcome:
        if not self.settings.smtp_url:
            return Outcome(is_delivered=False, error="This service has no HEADCOUNT_SMTP_URL.")
        if any(ENCODED_WORD in address for address in claim.recipients or []):
            return Outcome(is_delivered=False, error="An address holds =?, which a mail program takes for another one.")
        server = urlsplit(self.settings.smtp_url)
        host = server.hostname or "localhost"
        own_name = await self._find_own_name()
        refused, answer = await aiosmtplib.send(
            mail_of(claim, self.settings.smtp_from),
            # aiosmtplib would look both names up where others wait behind them
            sock=await self._connect(host, server.port or MAIL_PORTS[server.scheme]),
            hostname=host,
            local_hostname=own_name,
            username=unquote(server.username) if server.username else None,
            password=unquote(server.password) if server.password else None,
            use_tls=server.scheme == "smtps",
            start_tls={"smtps": False, "smtp+starttls": True}.get(server.scheme),
            timeout=TRY_SECONDS,
        )
        others = "".join(f" {address} was refused: {response.message}" for address, response in refused.items())
        return Outcome(is_delivered=True, answer=_clean(answer + others))

    async def _connect(self, host: str, port: int) -> socket.socket:
        """Connects to the mail server. Raises OSError."""
        loop = asyncio.get_running_loop()
        failed: OSError = OSError(f"{host} has no address")
        for address in await self.look_ups.find(host, port, OURS):
            connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.sock_connect(connection, (address, port))
            except OSError as error:
                connection.close()
                failed = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failed

    async def _find_own_name(self) -> str:
        if self.own_name is None:
            name = ""
            with suppress(TimeoutError, Crowded):
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    name = await self.look_ups.find_own_name()
            self.own_name = name or socket.gethostname()
        return self.own_name

    async def _notify(self, claim: ClaimRow) -> Outcome:
        url, client, (title, text) = claim.url or "", client_of(claim), words_of(claim)
        try:
            found = await self._read(url, client)
            sent = await self.apprise.run(client, lambda: messengers.send(url, found, title, text))
        except AddressRefused as refused:
            return Outcome(is_delivered=False, error=f"{refused} Give the channel another url.")
        except Exception as error:
            # its words may hold the address
            return Outcome(is_delivered=False, error=f"Apprise could not send it ({type(error).__name__}).")
        return Outcome(is_delivered=sent.is_delivered, status=sent.status, error=sent.error)


def client_of(claim: ClaimRow) -> str:
    """Whose places a try takes: those of the family of limited tokens that it belongs to, else the channel's own."""
    return claim.family or f"channel {claim.channel}"


def body_of(claim: ClaimRow) -> str:
    """The body of a webhook: the same in every try."""
    return msgspec.json.encode(
        {"type": TYPES[claim.kind], "timestamp": claim.occurred_at, "data": msgspec.Raw(claim.details.encode())}
    ).decode()


def mail_of(claim: ClaimRow, sender: str) -> EmailMessage:
    """The mail. Its Message-ID is the same in every try, so that mailboxes can know a repetition."""
    title, text = words_of(claim)
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(claim.recipients or [])
    mail["Subject"] = title
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{claim.notice}.{claim.delivery}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    return mail


def words_of(claim: ClaimRow) -> tuple[str, str]:
    """A notice for people: one line, and all there is to say."""
    data: dict[str, Any] = msgspec.json.decode(claim.details)
    space = data.get("name") or data.get("space") or "the site"
    dpus = data.get("dpus") or ["?"]
    number = data.get("dpu_count") or len(dpus)
    sensors, are, were = (
        (f"Sensor {dpus[0]}", "is", "was") if number == 1 else (f"{number} sensors of {space}", "are", "were")
    )
    count = f"{data.get('count')} people, capacity {data.get('capacity')}"
    title = {
        "offline": f"{sensors} {are} offline",
        "online": f"{sensors} {are} online again",
        "correction": f"{sensors} {were} not offline",
        "over_capacity": f"{space} is over capacity: {count}",
        "capacity_ok": f"{space} is no longer over capacity: {count}",
        "test": f"Test of channel {claim.channel}",
    }[claim.kind]
    title = "".join(character if character.isprintable() else " " for character in title)
    lines = [f"{title}.", "", f"At: {shortest(claim.occurred_at)}"]
    lines += [f"Space: {data['space']}"] if data.get("space") else []
    lines += [f"Sensors: {', '.join(dpus)}{' ...' if number > len(dpus) else ''}"] if data.get("dpus") else []
    lines += ["", f"Notice {claim.notice}"]
    return title, "\n".join(lines)


def _keys_of(url: str) -> list[str]:
    """What of an address may be a key: its path, its query and their parts, the longest first."""
    try:
        address = urlsplit(url)
    except ValueError:  # a channel from before such addresses were refused
        return [url]
    parts = {part for text in (address.path, address.query) for part in (text, *SEPARATORS.split(text))}
    parts |= {unquote(part) for part in parts}
    return sorted((part for part in parts if len(part) >= LEAST_KEY), key=len, reverse=True)


def _without(keys: list[str], text: str) -> str:
    """Whoever may read deliveries is not told what only administrators may read of a channel, though its receiver
    repeats it."""
    for key in keys:
        text = re.sub(re.escape(key), "\N{HORIZONTAL ELLIPSIS}", text, flags=re.IGNORECASE)
    return text


def _clean(text: str) -> str:
    """As the database can keep it."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:ANSWER_CHARACTERS]


def _refused(where: str, detail: str) -> Problem:
    return Problem("invalid", detail, [ProblemItem(where, "invalid", detail)])
