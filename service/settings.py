"""What the service is told by its environment. Wrong values are refused before anything starts."""

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Self

import msgspec
from msgspec import Meta

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
LOCAL_DATABASE = "postgresql://postgres@127.0.0.1:5432/postgres"


AT_LEAST_ONE = ("pool_size", "writers", "max_waiting_events", "max_waiting_bytes", "max_body_bytes")


class SettingsRefused(Exception):
    """The environment asks for something the service will not do; the text says what to do instead."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`auth` is `required` or `off`; times are in seconds."""

    database_url: str = LOCAL_DATABASE
    host: str = "127.0.0.1"
    port: int = 8000
    auth: str = "required"
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
    # What one token may send to one process, unless it has limits of its own; None: as much as it likes.
    events_per_second: Annotated[int, Meta(ge=1)] | None = None
    requests_per_second: Annotated[int, Meta(ge=1)] | None = None
    # Pages of other origins that may use the API.
    cors_origins: tuple[str, ...] = ()
    # Streams of GET /v1/live that may be open at once.
    max_listeners: int = 4000
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
        for origin in self.cors_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise SettingsRefused(
                    f"HEADCOUNT_CORS_ORIGINS has {origin!r}; it must be origins such as https://example.org."
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
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads DATABASE_URL and HEADCOUNT_*; an empty variable counts as not set."""
        given = {name: environment[variable] for name, variable in VARIABLES.items() if environment.get(variable)}
        types = {field.name: field.type for field in msgspec.structs.fields(cls)}
        values = {}
        for name, text in given.items():
            try:
                value = [part.strip() for part in text.split(",")] if name == "cors_origins" else text
                values[name] = msgspec.convert(value, types[name], strict=False)
            except msgspec.ValidationError as error:
                raise SettingsRefused(f"{VARIABLES[name]} is {text!r}: {error}") from None
        return cls(**values)


VARIABLES = {
    name: "DATABASE_URL" if name == "database_url" else f"HEADCOUNT_{name.upper()}"
    for name in Settings.__struct_fields__
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
