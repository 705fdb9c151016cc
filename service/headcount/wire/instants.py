"""Instants: RFC 3339 with an offset in, microseconds UTC inside, `Z` out."""

import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
# What a floor plan or a question can name: the very ends are infinity to PostgreSQL, and a reset may lie days before.
FIRST = datetime(1000, 1, 1, tzinfo=UTC)
LAST = LATEST - MICROSECOND

RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII)
PLUS_DECODED_AS_BLANK = re.compile(r" (?=\d\d:?\d\d\Z)", re.ASCII)


class Instant(datetime):
    """A datetime that `parse` has made. msgspec's own reading rounds the seventh digit half up; ours half to even."""


def parse(text: str) -> Instant:
    """The instant that `text` names, in UTC, rounded half to even to microseconds.

    The 60th second of a leap second is the instant after it, as PostgreSQL has it. Raises ValueError, whose text
    follows the name of a field: "must be ...".
    """
    match = RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("must be an RFC 3339 timestamp with an offset, such as 2026-01-31T12:00:00Z")
    minute, second, fraction, sign, hours, minutes = match.groups()
    leap = second == "60"
    if hours and (hours > "23" or minutes > "59"):
        raise ValueError("must have an offset below 24 hours")
    offset = timedelta(hours=int(hours), minutes=int(minutes)) if hours else timedelta(0)
    east = -offset if sign == "-" else offset
    try:
        whole = Instant.fromisoformat(minute + ("59" if leap else second)).replace(tzinfo=UTC)
        # One sum, so that neither part alone can leave the range.
        exact = whole + (timedelta(seconds=leap, microseconds=half_even(fraction) if fraction else 0) - east)
    except (ValueError, OverflowError) as error:
        raise ValueError("must be an instant of the years 0001 to 9999") from error
    if leap and (whole - east).strftime("%H:%M:%S") != "23:59:59":
        raise ValueError("must have a 60th second only at 23:59:60 UTC")
    return exact


def within(moment: Instant) -> Instant:
    """The same, if a floor plan or a question can name it. Raises ValueError outside of the years 1000 to 9999."""
    if not FIRST <= moment <= LAST:
        raise ValueError("must be an instant of the years 1000 to 9999")
    return moment


def parse_query(text: str) -> Instant:
    """As `parse`, for a query string in which somebody left the `+` of the offset unescaped."""
    return parse(PLUS_DECODED_AS_BLANK.sub("+", text, count=1))


def half_even(fraction: str) -> int:
    """Microseconds of the digits after the point, rounded half to even."""
    micros = int(fraction[:6].ljust(6, "0"))
    rest = fraction[6:].rstrip("0")
    if rest > "5" or (rest == "5" and micros % 2):
        micros += 1
    return micros


def of(moment: datetime) -> Instant:
    """The same moment in UTC. Raises ValueError outside of the years 0001 to 9999."""
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be an instant of the years 0001 to 9999") from error
    return Instant(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)


def from_msgpack(encoded: bytes) -> Instant:
    """An instant from MessagePack's timestamp extension (32, 64 or 96 bits), rounded half to even."""
    body = encoded[3:] if encoded[:1] == b"\xc7" else encoded[2:]
    if len(body) == 4:
        nanoseconds, seconds = 0, int.from_bytes(body)
    elif len(body) == 8:
        nanoseconds, seconds = int.from_bytes(body) >> 34, int.from_bytes(body) & (1 << 34) - 1
    else:
        nanoseconds, seconds = int.from_bytes(body[:4]), int.from_bytes(body[4:], signed=True)
    if nanoseconds > 999_999_999:
        raise ValueError("must have fewer than 1,000,000,000 nanoseconds")
    try:
        whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            seconds=seconds, microseconds=half_even(f"{nanoseconds:09}")
        )
    except OverflowError as error:
        raise ValueError("must be an instant of the years 0001 to 9999") from error
    return of(whole)


def encoded(value: object) -> datetime:
    """msgspec's hook for writing: an Instant is written like any datetime."""
    if not isinstance(value, Instant):
        raise NotImplementedError(type(value))
    return datetime.combine(value.date(), value.time(), UTC)


def shortest(moment: datetime) -> str:
    """UTC with `Z`, the fraction without trailing zeros and left out when it is zero."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"
