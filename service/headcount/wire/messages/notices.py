"""Channels, and what was sent by them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from headcount.wire.instants import Instant
from headcount.wire.messages.base import ADDRESS_PATTERN, SECRET_PATTERN, URL_PATTERN, Id, Moment, PageQuery, about

ChannelKind = Literal["webhook", "email", "apprise"]
ChannelEvent = Literal["offline", "online", "over_capacity"]
Url = Annotated[str, Meta(pattern=URL_PATTERN)]
Address = Annotated[str, Meta(pattern=ADDRESS_PATTERN, max_length=320)]
Secret = Annotated[str, Meta(pattern=SECRET_PATTERN)]


class ChannelIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A channel for notices. An absent field stays as it is; null clears it."""

    kind: Annotated[ChannelKind | UnsetType, about("How notices are sent. Required for a new channel.", "webhook")] = (
        UNSET
    )
    url: Annotated[
        Url | UnsetType | None,
        about(
            "Address of the webhook, or the Apprise URL. A new channel needs it, unless it is for e-mail.",
            "https://example.org/hook",
        ),
    ] = UNSET
    to: Annotated[
        Address | Annotated[list[Address], Meta(min_length=1, max_length=50)] | UnsetType | None,
        about(
            "E-mail addresses to which notices go: one, or a list. A new channel for e-mail needs it.",
            ["facilities@example.org"],
        ),
    ] = UNSET
    secret: Annotated[
        Secret | UnsetType | None,
        about("Secret with which webhooks are signed (Standard Webhooks); absent or null: the service makes one."),
    ] = UNSET
    events: Annotated[
        Annotated[list[ChannelEvent], Meta(min_length=1, max_length=10)] | UnsetType,
        about("What to tell.", ["offline", "online"]),
    ] = UNSET
    under: Annotated[Id | UnsetType | None, about("Only tell about this space and everything below.", "cafe")] = UNSET
    only_in_opening_hours: Annotated[
        bool | UnsetType | None, about("True: tell nothing outside the opening hours of the space.")
    ] = UNSET
    muted_until: Annotated[
        Instant | UnsetType | None, about("Tell nothing until this instant.", "2026-03-02T18:00:00Z")
    ] = UNSET


class ChannelOut(Struct, frozen=True, kw_only=True):
    """A channel for notices, without its secret."""

    id: Annotated[str, about("Id of the channel.", "facilities")]
    kind: Annotated[str, about("How notices are sent: webhook, email or apprise.", "webhook")]
    url: Annotated[
        str | None,
        about(
            "Address of the webhook; of an Apprise channel only the scheme; null for e-mail.",
            "https://example.org/hook",
        ),
    ]
    to: Annotated[list[str] | None, about("E-mail addresses to which notices go; null for other kinds.")]
    events: Annotated[
        list[str],
        about("What it tells: offline, online, over_capacity.", ["offline", "online"]),
    ]
    under: Annotated[str | None, about("The space to which it is limited; null: it tells about all.")]
    only_in_opening_hours: Annotated[
        bool, about("True: it tells nothing outside the opening hours of the space.", False)
    ]
    muted_until: Annotated[Moment | None, about("It tells nothing until this instant; null: it is not muted.")]
    created_at: Annotated[Moment, about("When it was made.", "2026-01-01T00:00:00Z")]
    failing_since: Annotated[Moment | None, about("Since when tries fail; null: the last one was delivered.")]
    out_of_reach: Annotated[
        bool,
        about(
            "True: nothing is sent. The limited tokens that chose where it sends are no longer valid, or do not reach "
            "`under`.",
            False,
        ),
    ] = False


class ChannelPutOut(ChannelOut, frozen=True, kw_only=True):
    """The channel as it is now."""

    secret: Annotated[
        str | UnsetType,
        about(
            "The secret that the service made for it. Keep it: it is shown only once. Absent: the service made none."
        ),
    ] = UNSET


class ClaimRow(Struct, frozen=True):
    """A delivery to be sent, with what is secret of its channel; `details` is JSON.

    `family`: the first of the family of limited tokens that the channel belongs to, as Access.client names it.
    """

    delivery: int
    claim: str
    notice: str
    kind: str
    occurred_at: datetime
    details: str
    channel: str
    channel_kind: str
    url: str | None
    recipients: list[str] | None
    secret: str | None
    family: str | None = None

    def __repr__(self) -> str:
        return f"<delivery {self.delivery}>"


class TryOut(Struct, frozen=True):
    """One try to deliver a notice."""

    at: Annotated[Moment, about("When the try began.", "2026-03-02T12:00:00Z")]
    duration_ms: Annotated[int, about("How long it took, in milliseconds.", 120)]
    delivered: Annotated[bool, about("True: the receiver took it.", True)]
    status: Annotated[int | None, about("HTTP status of the receiver's answer; null: there was none.", 200)]
    answer: Annotated[str | None, about("The first 500 characters of the receiver's answer; null: there was none.")]
    error: Annotated[str | None, about("The first 500 characters of the error; null: there was none.")]


class DeliveryOut(Struct, frozen=True, kw_only=True):
    """A notice that one channel sends, with its tries."""

    id: Annotated[str, about("Id of the delivery.", "17")]
    channel: Annotated[str, about("Id of the channel.", "facilities")]
    notice: Annotated[str, about("Id of the notice; receivers see it as `webhook-id`.")]
    kind: Annotated[
        str,
        about(
            "`offline`, `online`, `correction`, `over_capacity`, `capacity_ok` or `test`. More values may come.",
            "offline",
        ),
    ]
    space: Annotated[str | None, about("The space that it is about; null: none.")]
    occurred_at: Annotated[Moment, about("When what it tells happened.", "2026-03-02T12:00:00Z")]
    data: Annotated[dict[str, Any], about("What receivers see as `data`.")]
    state: Annotated[str, about("pending, delivered, failed, suppressed or cancelled.", "delivered")]
    reason: Annotated[
        str | None,
        about(
            "Why it is suppressed or cancelled: `muted`, `closed`, `not_told`, `out_of_reach`, `too_many`, `corrected` "
            "or `channel_deleted`; else null. More values may come."
        ),
    ]
    created_at: Annotated[Moment, about("When it was put in the queue.", "2026-03-02T12:00:00Z")]
    settled_at: Annotated[Moment | None, about("When it was delivered or given up; null: it is pending.")]
    next_try_at: Annotated[Moment | None, about("When the next try is due; null: none is.")]
    tries: Annotated[list[TryOut], about("The tries so far, oldest first.")]


class DeliveriesQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    channel: Annotated[Id | None, about("List only deliveries of this channel.", "facilities")] = None
    state: Annotated[
        Literal["pending", "delivered", "failed", "suppressed", "cancelled"] | None,
        about("List only deliveries in this state.", "failed"),
    ] = None


class DeliveryState(Struct, frozen=True):
    """Deliveries that wait, and for how long the oldest of them has."""

    pending: int
    oldest_seconds: float


# Events
