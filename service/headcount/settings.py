"""What the service is told by its environment. Wrong values are refused before anything starts."""

import ipaddress
import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
NO_DATABASE = (
    "DATABASE_URL is not set, and headcount guesses no database. "
    "Set it: DATABASE_URL=postgresql://USER:PASSWORD@HOST/headcount. "
    "Without a database of your own, `headcount run` (make run) starts one for trying out."
)


APPRISE_SCHEMES = (
    "discord",
    "gchat",
    "opsgenie",
    "pagerduty",
    "pbul",
    "pover",
    "slack",
    "tgram",
    "twilio",
    "webex",
    "wxteams",
)
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
AT_LEAST_ONE = (
    "pool_size",
    "writers",
    "max_waiting_events",
    "max_waiting_bytes",
    "max_body_bytes",
    "report_workers",
    "max_reports",
    "keep_reports",
    "reports_per_hour",
)


class SettingsRefused(Exception):
    """The environment asks for something the service will not do; the text says what to do instead."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`auth` is `required` or `off`; times are in seconds."""

    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    auth: str = "required"
    # Whether DATABASE_URL is that of a pooler (PgBouncer), where every transaction may be on another session.
    pooled: bool = False
    # A streaming replica that shares the reading; None: there is none.
    read_url: str | None = None
    pool_size: int = 10
    # Requests that may wait for a connection; more than that are told to come back (503).
    max_waiting: int = 200
    # Transactions for small requests with events that run at a time.
    writers: int = 1
    # Events, and bytes of them, that may wait to be stored, and bytes of bodies that may be underway: 503 beyond.
    max_waiting_events: int = 50_000
    max_waiting_bytes: int = 64 * 1024 * 1024
    max_body_bytes: int = 64 * 1024 * 1024
    acquire_seconds: float = 5.0
    statement_seconds: float = 30.0
    auto_register: bool = True
    # From when on events are taken: written to the database, for all processes. None: what holds there.
    events_from: datetime | None = None
    # DPUs that a token may register by what it sends, at once and an hour beyond, and those that may be there in all
    # while nobody has placed or named them. In the database: the process that started last decides for all.
    register_burst: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 20_000
    register_per_hour: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 1_000
    max_unplaced_dpus: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 100_000
    # Whether this process also does what runs in the background: it notices sensors that fall silent.
    jobs: bool = True
    # What one token may send to one process, unless it has limits of its own; None: as much as it likes.
    events_per_second: Annotated[int, Meta(ge=1)] | None = None
    requests_per_second: Annotated[int, Meta(ge=1)] | None = None
    # Pages of other origins that may use the API.
    cors_origins: tuple[str, ...] = ()
    # Streams of GET /v1/live that may be open at once.
    max_listeners: int = 4000
    # Whether this process sends notices, and looks for spaces that are over their capacity.
    send_notices: bool = True
    # Networks that webhooks may reach although they are not public, such as 10.1.0.0/16.
    private_targets: tuple[str, ...] = ()
    # Apprise services that channels may name: by default those that reach nothing but the provider's own hosts.
    apprise_schemes: tuple[str, ...] = APPRISE_SCHEMES
    # smtp://, smtp+starttls:// or smtps://[user:password@]host[:port]; None: there is no e-mail.
    smtp_url: str | None = None
    smtp_from: str = "headcount@localhost"
    # Reports that are computed at a time, may wait to be (a quarter of them of one token), and are kept of each token
    # although they are older than an hour; and for how many one token can ask an hour.
    report_workers: int = 2
    max_reports: int = 100
    keep_reports: int = 100
    reports_per_hour: int = 1000
    # For `headcount consume`: servers, separated by commas, each with its user and password or token; files in PEM.
    nats_url: str | None = None
    nats_ca: str | None = None
    nats_certificate: str | None = None
    nats_key: str | None = None
    # Where it answers /metrics.
    metrics_port: int = 8001

    def __post_init__(self) -> None:
        """Every way to make settings comes through here, so no service runs unprotected by mistake."""
        if self.auth not in ("required", "off"):
            raise SettingsRefused(f"HEADCOUNT_AUTH is {self.auth!r}; it must be `required` or `off`.")
        if self.auth == "off" and not is_loopback(self.host):
            raise SettingsRefused(
                f"HEADCOUNT_AUTH=off is accepted on a loopback address only, and HEADCOUNT_HOST is {self.host!r}: "
                "anybody on the network could write counts. Set HEADCOUNT_HOST=127.0.0.1, or leave HEADCOUNT_AUTH out "
                "and make tokens with `headcount token create`."
            )
        if self.events_from is not None and self.events_from.tzinfo is None:
            raise SettingsRefused("HEADCOUNT_EVENTS_FROM must be a date, or an instant with its offset.")
        for origin in self.cors_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise SettingsRefused(
                    f"HEADCOUNT_CORS_ORIGINS has {origin!r}; it must be origins such as https://example.org."
                )
        for network in self.private_targets:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise SettingsRefused(f"HEADCOUNT_PRIVATE_TARGETS has {network!r}: {error}.") from None
        if self.smtp_url is not None and not is_smtp(self.smtp_url):
            # not the value: it can hold a password
            raise SettingsRefused(
                f"HEADCOUNT_SMTP_URL must be {SMTP_SCHEMES[0]}://, {SMTP_SCHEMES[1]}:// or {SMTP_SCHEMES[2]}:// "
                "and [user:password@]host[:port]."
            )
        for name in ("port", "metrics_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise SettingsRefused(f"{VARIABLES[name]} is {getattr(self, name)}; it must be 1 to 65535.")
        if (self.nats_certificate is None) != (self.nats_key is None):
            raise SettingsRefused("HEADCOUNT_NATS_CERTIFICATE and HEADCOUNT_NATS_KEY belong together.")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise SettingsRefused(f"{VARIABLES[name]} is {getattr(self, name)}; it must be at least 1.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, needs_database: bool = True) -> Self:
        """Reads DATABASE_URL and HEADCOUNT_*; an empty variable counts as not set."""
        if needs_database and not environment.get("DATABASE_URL"):
            raise SettingsRefused(NO_DATABASE)
        given = {name: environment[variable] for name, variable in VARIABLES.items() if environment.get(variable)}
        types = {field.name: field.type for field in msgspec.structs.fields(cls)}
        values = {}
        for name, text in given.items():
            try:
                value = [part.strip() for part in text.split(",")] if name in LISTS else text
                if name == "events_from":
                    value = _instant(text)
                values[name] = msgspec.convert(value, types[name], strict=False)
            except msgspec.ValidationError as error:
                raise SettingsRefused(f"{VARIABLES[name]} is {text!r}: {error}") from None
        return cls(**values)


def _instant(text: str) -> str:
    """A day as the instant at which it begins in UTC. Raises SettingsRefused for what is neither."""
    if not DATE.match(text):
        raise SettingsRefused(
            f"HEADCOUNT_EVENTS_FROM is {text!r}; it must be a date such as 2005-01-01, or an instant."
        )
    return f"{text}T00:00:00Z" if DATE.fullmatch(text) else text


LISTS = ("cors_origins", "private_targets", "apprise_schemes")
VARIABLES = {
    name: "DATABASE_URL" if name == "database_url" else f"HEADCOUNT_{name.upper()}"
    for name in Settings.__struct_fields__
}


def is_smtp(url: str) -> bool:
    """Whether this says where and how to send mail."""
    try:
        parts = urlsplit(url)
        return parts.scheme in SMTP_SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be anything."""
    if host == "localhost":
        return True
    try:
        # a zone (%) may be anything, and brackets are for IPv6 alone
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            return ipaddress.IPv6Address(host[1:-1]).is_loopback
        return "%" not in host and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
