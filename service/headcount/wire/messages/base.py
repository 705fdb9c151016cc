"""Shapes that all topics share: ids, limits, pages, problems."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

# Not . and ..: browsers, curl and proxies take them for steps within an address.
ID_PATTERN = (
    r"^(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,63}|\.[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,62}|\.\.[A-Za-z0-9._:-]{1,62})\Z"
)
TEXT_PATTERN = r"^[^\x00]*\Z"
MAC_PATTERN = r"^(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{12})\Z"
CLOCK_PATTERN = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?\Z"
RESET_PATTERN = r"^(?:never|(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?)\Z"
INTERVALS = ("15m", "30m", "1h", "1d", "1w", "1mo")
INTERVAL_PATTERN = rf"^(?:{'|'.join(INTERVALS)})\Z"
FORMATS = ("json", "csv")
FORMAT_PATTERN = rf"^(?:{'|'.join(FORMATS)})\Z"
STATES = ("online", "offline", "quiet", "never_seen", "retired")
STATE_PATTERN = rf"^(?:{'|'.join(STATES)})\Z"
URL_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]{0,30}://[\x21-\x7e]{1,2000}\Z"
# Without =?, which begins what stands for other characters (RFC 2047): it could name somebody else.
ADDRESS_PATTERN = r"^(?:[A-Za-z0-9.!#$%&'*+/?^_`{|}~-]|=+[A-Za-z0-9.!#$%&'*+/^_`{|}~-]){1,64}=*@[A-Za-z0-9.-]{1,190}\Z"
SECRET_PATTERN = r"^whsec_[A-Za-z0-9+/]{32,86}={0,2}\Z"
NUMBER_PATTERN = r"^[0-9]{1,18}\Z"
REFUSALS = ("invalid", "conflict", "in_future", "clock_unset", "too_old", "unknown_dpu")
REFUSAL_PATTERN = rf"^(?:{'|'.join(REFUSALS)})\Z"
PATTERNS_IN_WORDS = {
    ID_PATTERN: "must be an id: 1 to 64 of A-Z a-z 0-9 . _ : -, but not `.` or `..`",
    TEXT_PATTERN: "must not hold the character NUL",
    MAC_PATTERN: "must be a MAC address such as 02:00:00:00:00:00",
    CLOCK_PATTERN: "must be a local time, HH:MM or HH:MM:SS",
    RESET_PATTERN: "must be a local time, HH:MM or HH:MM:SS, or `never`",
    INTERVAL_PATTERN: "must be 15m, 30m, 1h, 1d, 1w or 1mo",
    FORMAT_PATTERN: "must be json or csv",
    STATE_PATTERN: "must be online, offline, quiet, never_seen or retired",
    URL_PATTERN: "must be an address such as https://example.org/hook, of ASCII characters",
    ADDRESS_PATTERN: "must be an e-mail address such as somebody@example.org, without =?",
    NUMBER_PATTERN: "must be an id of this list, such as 17",
    REFUSAL_PATTERN: "must be invalid, conflict, in_future, clock_unset, too_old or unknown_dpu",
    SECRET_PATTERN: "must be whsec_ and 24 to 64 random bytes in base64",
}


def about(description: str, *examples: object) -> Meta:
    """What a field means, for GET /schema; checks nothing."""
    return Meta(description=description, examples=list(examples) or None)


def words(*choices: str) -> Meta:
    """Which words a text can be, for GET /schema; checks nothing. Not for answers: clients that are made from it would
    refuse a word that comes later."""
    return Meta(extra_json_schema={"enum": list(choices)})


Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(max_length=200, pattern=TEXT_PATTERN)]
MacAddress = Annotated[str, Meta(pattern=MAC_PATTERN)]
Clock = Annotated[str, Meta(pattern=CLOCK_PATTERN)]
State = Annotated[str, Meta(pattern=STATE_PATTERN), words(*STATES)]
RefusalCode = Annotated[str, Meta(pattern=REFUSAL_PATTERN), words(*REFUSALS)]
Interval = Annotated[str, Meta(pattern=INTERVAL_PATTERN), words(*INTERVALS)]
Format = Annotated[str, Meta(pattern=FORMAT_PATTERN), words(*FORMATS)]
OfflineAfter = Annotated[int, Meta(ge=1, le=2_678_400)]
ResetAt = Annotated[str, Meta(pattern=RESET_PATTERN)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**15 - 1)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
MAX_STALENESS = 300
Staleness = Annotated[
    int,
    Meta(ge=0, le=MAX_STALENESS),
    about("How many seconds old the answer may be. Above 0 a read replica may answer; see `X-Data-As-Of`."),
]
Cursor = Annotated[str, Meta(max_length=400)]
# msgspec reads it; headcount.ingest.formats makes sure that it reads as headcount.wire.instants does.
Timestamp = Annotated[datetime, Meta(tz=True)]
# An instant that goes out, in UTC.
Moment = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
ShortMoment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True):
    """One page of a list."""

    items: Annotated[list[Item], about("The items of this page.")]
    next: Annotated[str | None, about("Send this as `after` to get the next page; null on the last page.")] = None


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An address without query parameters."""


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limit: Annotated[Limit, about("How many items a page has at most.")] = 100
    after: Annotated[Cursor | None, about("The `next` of the page before; absent for the first page.")] = None


class ProblemItem(Struct, frozen=True):
    """One thing that is wrong with the request."""

    where: Annotated[
        str,
        about("Where it is: a path into the body, such as `spaces[3].parent`, or the name of a parameter.", "space"),
    ]
    code: Annotated[str, about("What kind of mistake it is, for programs.", "not_found")]
    detail: Annotated[str, about("What is wrong, in words.", "There is no space 'room'.")]


class ProblemOut(Struct, frozen=True, omit_defaults=True):
    """The body of every error (RFC 9457)."""

    type: Annotated[str, about("`urn:headcount:error:` and the code.", "urn:headcount:error:not_found")]
    title: Annotated[str, about("The kind of error, for people; always the same for one code.", "Not found")]
    status: Annotated[int, about("The HTTP status once more.", 404)]
    detail: Annotated[
        str,
        about(
            "What is wrong with this request and what to do, for people.",
            "There is no space 'room'. Create it with PUT /v1/spaces/{id}.",
        ),
    ]
    code: Annotated[str, about("The kind of error, for programs. It never changes; more values may come.", "not_found")]
    errors: Annotated[tuple[ProblemItem, ...], about("The places that are wrong, where they are known.")] = ()


# The floor plan
