"""Tokens: who may do what."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from headcount.wire.instants import Instant
from headcount.wire.messages.base import Id, Moment, Text, about

Scope = Literal["ingest", "read", "admin"]
Rate = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class TokenIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A token to make. Absent or null: no limit of its own."""

    scopes: Annotated[
        list[Scope],
        Meta(min_length=1, max_length=10),
        about("What it may do: `ingest` sends, `read` reads, `admin` changes (and includes `read`).", ["read"]),
    ]
    name: Annotated[Text | None, about("Name for people.", "Dashboard in the lobby")] = None
    space: Annotated[Id | None, about("Limits it to this space and everything below.", "cafe")] = None
    expires_at: Annotated[
        Instant | None, about("When it stops working; absent or null: never.", "2027-01-01T00:00:00Z")
    ] = None
    events_per_second: Annotated[
        Rate | None, about("How many events a second it may send; absent or null: the limit of the service.", 1000)
    ] = None
    requests_per_second: Annotated[
        Rate | None, about("How many requests a second it may make; absent or null: the limit of the service.", 50)
    ] = None


class TokenOut(Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: Annotated[str, about("Id of the token; not secret.", "tok_1")]
    name: Annotated[str | None, about("Name for people; null: none was given.", "Dashboard in the lobby")]
    scopes: Annotated[list[str], about("What it may do: ingest, read, admin.", ["read"])]
    space: Annotated[str | None, about("The space to which it is limited; null: it is not limited.", "cafe")]
    events_per_second: Annotated[int | None, about("Its own limit; null: the limit of the service holds.", 1000)]
    requests_per_second: Annotated[int | None, about("Its own limit; null: the limit of the service holds.", 50)]
    created_at: Annotated[Moment, about("When it was made.", "2026-01-01T00:00:00Z")]
    expires_at: Annotated[Moment | None, about("When it stops working; null: never.")]
    revoked_at: Annotated[Moment | None, about("When it was revoked; null: it was not.")]
    last_used_at: Annotated[Moment | None, about("When it was used last, to the minute; null: never.")]
    created_by: Annotated[str | None, about("Id of the token that made it; null: a command did.")]


class TokenMadeOut(TokenOut, frozen=True, kw_only=True):
    """A new token with its secret, which no other answer contains."""

    token: Annotated[
        str, about("Send this as `Authorization: Bearer hc_...`. Keep it: it is shown only once.", "hc_...")
    ]


class RevokeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to revoke."""

    descendants: Annotated[bool, about("True: also revoke the tokens that this one made, and theirs.")] = True


class TokenRow(Struct, frozen=True):
    """A good token, by the SHA-256 of what is secret; `is_limited`: to a space.

    `family`: itself and those that made it, as far as they share their limits, with the limits of each.
    """

    digest: bytes
    id: str
    scopes: list[str]
    is_limited: bool
    expires_at: datetime | None
    events_per_second: int | None
    requests_per_second: int | None
    family: list[str] = []
    family_events: list[int | None] = []
    family_requests: list[int | None] = []


# Channels and what is sent by them
