"""What the service is told by its environment. Wrong values are refused before anything starts."""

import ipaddress
import os
from collections.abc import Mapping
from typing import Self

import msgspec

LOCAL_DATABASE = "postgresql://postgres@127.0.0.1:5432/postgres"


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
    acquire_seconds: float = 5.0
    statement_seconds: float = 30.0
    auto_register: bool = True
    # Streams of GET /v1/live that may be open at once.
    max_listeners: int = 4000

    def __post_init__(self) -> None:
        """Every way to make settings comes through here, so no service runs unprotected by mistake."""
        if self.auth not in ("required", "off"):
            raise SettingsRefused(f"HEADCOUNT_AUTH is {self.auth!r}; it must be `required` or `off`.")
        if self.auth == "required":
            raise SettingsRefused(
                "HEADCOUNT_AUTH is `required` (the default), but this version cannot issue tokens yet, so nobody "
                "could use the service. Set HEADCOUNT_AUTH=off together with a loopback address in HEADCOUNT_HOST "
                "(127.0.0.1, the default) and keep it on this machine."
            )
        if not is_loopback(self.host):
            raise SettingsRefused(
                f"HEADCOUNT_AUTH=off is accepted on a loopback address only, and HEADCOUNT_HOST is {self.host!r}: "
                "anybody on the network could write counts. Set HEADCOUNT_HOST=127.0.0.1."
            )
        if not 1 <= self.port <= 65535:
            raise SettingsRefused(f"HEADCOUNT_PORT is {self.port}; it must be 1 to 65535.")
        if self.pool_size < 1:
            raise SettingsRefused(f"HEADCOUNT_POOL_SIZE is {self.pool_size}; it must be at least 1.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads DATABASE_URL and HEADCOUNT_*; an empty variable counts as not set."""
        given = {name: environment[variable] for name, variable in VARIABLES.items() if environment.get(variable)}
        types = {field.name: field.type for field in msgspec.structs.fields(cls)}
        values = {}
        for name, text in given.items():
            try:
                values[name] = msgspec.convert(text, types[name], strict=False)
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
