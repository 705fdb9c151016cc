"""What the service is told by its environment. Wrong names and values are refused before anything starts."""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from headcount.addresses import UNREADABLE, is_database, show_server

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
NO_DATABASE = (
    "DATABASE_URL is not set, and headcount guesses no database. "
    "Set it: DATABASE_URL=postgresql://USER:PASSWORD@HOST/headcount. "
    "Without a database of your own, `headcount run` (make run) starts one for trying out."
)
KUBERNETES = "Kubernetes sets such variables for a Service named headcount: set enableServiceLinks: false for the pod."

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


def says(meaning: str, unit: str = "", *, secret: bool = False) -> Meta:
    """What docs/reference/settings.md says of a setting. A secret one can also be read from a file."""
    return Meta(description=meaning, extra={"unit": unit, "secret": secret})


AtLeastOne = Annotated[int, Meta(ge=1)]
AtLeastZero = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One field for each variable. What they mean is in docs/reference/settings.md, which is made from here."""

    database_url: Annotated[
        str,
        says(
            "The database, as `postgresql://USER:PASSWORD@HOST/NAME`. In a password percent-encode `%`, `/`, `?`, `#`, "
            "`@` and spaces. Every command needs it but `headcount run`.",
            secret=True,
        ),
    ] = ""
    pooled: Annotated[
        bool,
        says(
            "Whether `DATABASE_URL` leads to a pooler (PgBouncer in transaction mode), where each transaction may get "
            "another session."
        ),
    ] = False
    read_url: Annotated[
        str | None, says("A streaming replica that answers part of the reads. Not set: there is none.", secret=True)
    ] = None
    pool_size: Annotated[int, says("Connections to the database in each process.", "connections")] = 10
    max_waiting: Annotated[int, says("Requests that may wait for a connection. Further ones get 503.", "requests")] = (
        200
    )
    acquire_seconds: Annotated[
        float, says("How long a request waits for a connection before it gets 503.", "seconds")
    ] = 5.0
    statement_seconds: Annotated[float, says("How long a statement may run before it is cancelled.", "seconds")] = 30.0
    host: Annotated[str, says("The address on which the service listens.")] = "127.0.0.1"
    port: Annotated[int, says("The port on which the service listens.")] = 8000
    auth: Annotated[
        str,
        says("`required`: every request needs a token. `off`: none does; only accepted on a loopback address."),
    ] = "required"
    cors_origins: Annotated[
        tuple[str, ...],
        says("Origins of web pages that may call the API, such as `https://example.org`; `*` for all."),
    ] = ()
    events_per_second: Annotated[
        AtLeastOne | None,
        says(
            "Events that one token may send to one process, unless the token has a limit of its own. "
            "Not set: no limit.",
            "events per second",
        ),
    ] = None
    requests_per_second: Annotated[
        AtLeastOne | None,
        says(
            "Requests that one token may send to one process, unless the token has a limit of its own. "
            "Not set: no limit.",
            "requests per second",
        ),
    ] = None
    max_listeners: Annotated[
        int, says("Live streams (`GET /v1/live`) that one process keeps open at once.", "streams")
    ] = 4000
    writers: Annotated[
        int, says("Transactions that store small requests with events at the same time.", "transactions")
    ] = 1
    max_waiting_events: Annotated[
        int, says("Events that may wait to be stored. Further requests get 503.", "events")
    ] = 50_000
    max_waiting_bytes: Annotated[
        int, says("Bytes of events that may wait to be stored. Further requests get 503.", "bytes")
    ] = 64 * 1024 * 1024
    max_body_bytes: Annotated[
        int, says("Bytes of request bodies that may be on their way at once. Further requests get 503.", "bytes")
    ] = 64 * 1024 * 1024
    events_from: Annotated[
        datetime | None,
        says(
            "Events before this are refused. A date (begins in UTC) or an instant with its offset. It is written to "
            "the database and holds for all processes. Not set: what holds there."
        ),
    ] = None
    auto_register: Annotated[
        bool, says("Whether an event of an unknown DPU registers the DPU. Otherwise the event is rejected.")
    ] = True
    register_burst: Annotated[
        AtLeastZero,
        says(
            "DPUs that one token may register at once by what it sends, and spaces that its polls may make at once. "
            "This and the next three are written to the database: the process that started last decides for all.",
            "DPUs, spaces",
        ),
    ] = 20_000
    register_per_hour: Annotated[
        AtLeastZero,
        says(
            "DPUs that one token may register an hour, once the burst is used up, and spaces that its polls may make.",
            "DPUs, spaces per hour",
        ),
    ] = 1_000
    max_unplaced_dpus: Annotated[AtLeastZero, says("DPUs that may exist that nobody has placed or named.", "DPUs")] = (
        100_000
    )
    max_unnamed_spaces: Annotated[
        AtLeastZero,
        says("Spaces that polls may make while nobody has named, placed or set up those that they made.", "spaces"),
    ] = 50_000
    jobs: Annotated[
        bool, says("Whether this process also does the periodic work: it notices sensors that fall silent.")
    ] = True
    send_notices: Annotated[
        bool, says("Whether this process sends notices and looks for spaces over their capacity.")
    ] = True
    private_targets: Annotated[
        tuple[str, ...],
        says("Networks that webhooks may reach although they are not public, such as `10.1.0.0/16`."),
    ] = ()
    apprise_schemes: Annotated[
        tuple[str, ...],
        says(
            "Apprise services that channels may use. Those of the default reach nothing but the provider's own hosts."
        ),
    ] = APPRISE_SCHEMES
    smtp_url: Annotated[
        str | None,
        says(
            "The mail server: `smtp://`, `smtp+starttls://` or `smtps://` and `[user:password@]host[:port]`. "
            "Not set: there is no e-mail.",
            secret=True,
        ),
    ] = None
    smtp_from: Annotated[str, says("The sender of e-mail.")] = "headcount@localhost"
    report_workers: Annotated[int, says("Reports that one process computes at the same time.", "reports")] = 2
    max_reports: Annotated[
        int, says("Reports that may wait to be computed; a quarter of them for one token.", "reports")
    ] = 100
    keep_reports: Annotated[
        int, says("Reports of one token that are kept although they are older than an hour.", "reports")
    ] = 100
    reports_per_hour: Annotated[int, says("Reports that one token may ask for in an hour.", "reports per hour")] = 1000
    nats_url: Annotated[
        str | None,
        says(
            "For `headcount consume`: NATS servers, separated by commas, each with its user and password or token.",
            secret=True,
        ),
    ] = None
    nats_ca: Annotated[
        str | None, says("For `headcount consume`: a PEM file with the authorities that sign the server's certificate.")
    ] = None
    nats_certificate: Annotated[
        str | None, says("For `headcount consume`: a PEM file with the client's own certificate.")
    ] = None
    nats_key: Annotated[str | None, says("For `headcount consume`: a PEM file with the key to it.")] = None
    metrics_port: Annotated[
        int, says("The port on which `headcount consume` answers `/metrics`, `/healthz` and `/readyz`.")
    ] = 8001

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
        check_names(environment)
        given = {name: read_variable(variable, environment) for name, variable in VARIABLES.items()}
        if needs_database and given["database_url"] is None:
            raise SettingsRefused(NO_DATABASE)
        if (url := given["database_url"]) and not is_database(url):
            raise SettingsRefused(UNREADABLE)
        types = {field.name: field.type for field in msgspec.structs.fields(cls)}
        values = {}
        for name, text in given.items():
            if text is None:
                continue
            try:
                value = [part.strip() for part in text.split(",")] if name in LISTS else text
                if name == "events_from":
                    value = _instant(text)
                values[name] = msgspec.convert(value, types[name], strict=False)
            except msgspec.ValidationError as error:
                hint = f" {KUBERNETES}" if "://" in text else ""
                raise SettingsRefused(f"{VARIABLES[name]} is {text!r}: {error}.{hint}") from None
        return cls(**values)


def check_names(environment: Mapping[str, str] = os.environ) -> None:
    """Raises SettingsRefused for a HEADCOUNT_ variable that does not exist: what it should change would not be so."""
    known = {*VARIABLES.values(), *OTHERS, *(f"{variable}_FILE" for variable in SECRETS)}
    for variable in sorted(environment):
        if not variable.startswith("HEADCOUNT_") or variable in known or not environment[variable]:
            continue
        if variable.removesuffix("_FILE") in known:
            raise SettingsRefused(
                f"{variable}: {variable.removesuffix('_FILE')} is no secret, so it cannot be read from a file. Set it."
            )
        if re.fullmatch(r"HEADCOUNT_(SERVICE_(HOST|PORT.*)|PORT_\d+_(TCP|UDP).*)", variable):
            raise SettingsRefused(f"{variable} is no setting. {KUBERNETES}")
        names = [name.removeprefix("HEADCOUNT_") for name in known]
        near = difflib.get_close_matches(variable.removeprefix("HEADCOUNT_"), names, n=1)
        advice = f"Did you mean HEADCOUNT_{near[0]}?" if near else "docs/reference/settings.md lists all settings."
        raise SettingsRefused(f"{variable} is no setting. {advice}")


def read_variable(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """What the variable says or, where it is a secret, the file that VARIABLE_FILE names; None: neither is set.

    Raises SettingsRefused if both are set, and where the file cannot be read or is empty.
    """
    value = environment.get(variable) or None
    path = environment.get(f"{variable}_FILE") if variable in SECRETS else None
    if not path:
        return value
    if value:
        raise SettingsRefused(f"{variable} and {variable}_FILE are both set. Unset one of them.")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        # not the path: it may be the secret itself
        raise SettingsRefused(f"{variable}_FILE must name a file, and that cannot be read: {reason}.") from None
    if not text:
        raise SettingsRefused(f"The file that {variable}_FILE names is empty.")
    return text


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
# Variables with the same beginning that say nothing to the service.
OTHERS = {
    "HEADCOUNT_TOKEN": "The token with which `simulate`, `import --url` and `apply --url` speak to a service.",
    "HEADCOUNT_CACHE": "Where the embedded database's files are kept; `~/.cache/headcount` by default.",
    "HEADCOUNT_VERSION": "For `compose.yaml`: the tag of the image.",
    "HEADCOUNT_DB": "For Grafana: the database, as `host:port`.",
    "HEADCOUNT_DB_SSLMODE": "For Grafana: `disable`, `require`, `verify-ca` or `verify-full`.",
}


def annotation_of(kind: Any) -> Iterator[Meta]:
    """What the annotations of a field's type say, the outermost last."""
    if get_origin(kind) is Annotated:
        inner, *said = get_args(kind)
        yield from annotation_of(inner)
        yield from (meta for meta in said if isinstance(meta, Meta))


# By field: what it means, its unit and whether it is a secret.
MEANINGS = {field.name: [*annotation_of(field.type)][-1] for field in msgspec.structs.fields(Settings)}
SECRETS = {
    "HEADCOUNT_TOKEN",
    *(VARIABLES[name] for name, meaning in MEANINGS.items() if meaning.extra and meaning.extra["secret"]),
}


def is_smtp(url: str) -> bool:
    """Whether this says where and how to send mail."""
    try:
        parts = urlsplit(url)
        is_clear = show_server(url, "|".join(map(re.escape, SMTP_SCHEMES))) is not None
        return is_clear and bool(parts.hostname) and (parts.port is None or parts.port > 0)
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
