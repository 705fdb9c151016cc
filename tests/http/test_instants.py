"""service/headcount/wire/instants.py: what is an instant, and which."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headcount.wire import instants
from headcount.wire.instants import Instant


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, micros: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", at(2026, 1, 31, 12)),
        ("2026-01-31t12:00:00z", at(2026, 1, 31, 12)),
        ("2026-01-31 12:00:00Z", at(2026, 1, 31, 12)),
        ("2026-01-31T12:00:00+02:00", at(2026, 1, 31, 10)),
        ("2026-01-31T12:00:00-0530", at(2026, 1, 31, 17, 30)),
        ("2026-01-31T12:00:00-00:00", at(2026, 1, 31, 12)),
        ("2026-01-31T12:00:00.5Z", at(2026, 1, 31, 12, 0, 0, 500_000)),
        ("2026-01-31T12:00:00.1234565Z", at(2026, 1, 31, 12, 0, 0, 123_456)),
        ("2026-01-31T12:00:00.1234575Z", at(2026, 1, 31, 12, 0, 0, 123_458)),
        ("2026-01-31T12:00:00.12345650000000000001Z", at(2026, 1, 31, 12, 0, 0, 123_457)),
        ("2026-12-31T23:59:59.9999995Z", at(2027, 1, 1)),
        ("2016-12-31T23:59:60Z", at(2017, 1, 1)),
        ("2017-01-01T00:59:60.5+01:00", at(2017, 1, 1, 0, 0, 0, 500_000)),
        ("0001-01-01T00:00:00Z", at(1, 1, 1)),
        ("0001-01-01T00:00:00-23:59", at(1, 1, 1, 23, 59)),
        ("9999-12-31T23:59:59.999999Z", at(9999, 12, 31, 23, 59, 59, 999_999)),
        ("9999-12-31T23:59:59.9999999+00:01", at(9999, 12, 31, 23, 59)),
        ("2024-02-29T00:00:00Z", at(2024, 2, 29)),
    ],
)
def test_it_reads_an_instant(text: str, expected: datetime) -> None:
    found = instants.parse(text)
    assert isinstance(found, Instant)
    assert found == expected
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-01-31",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00+02",
        "2026-01-31T12:00:00 02:00",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+02:60",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T23:59:60+01:00",
        "2026-01-31T23:59:61Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59.9999995Z",
        "12026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z",
        "٢٠٢٦-01-31T12:00:00Z",
        "1700000000",
    ],
)
def test_it_refuses_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        instants.parse(text)


def test_it_understands_a_plus_that_a_query_string_turned_into_a_blank() -> None:
    assert instants.parse_query("2026-01-01T00:00:00 02:00") == at(2025, 12, 31, 22)
    assert instants.parse_query("2026-01-01 00:00:00 0200") == at(2025, 12, 31, 22)
    assert instants.parse_query("2026-01-01 00:00:00Z") == at(2026, 1, 1)


OFFSETS = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


@given(
    moment=st.datetimes(min_value=at(2, 1, 1).replace(tzinfo=None), max_value=at(9998, 1, 1).replace(tzinfo=None)),
    digits=st.text("0123456789", max_size=12),
    offset=OFFSETS,
)
@example(at(2026, 1, 1), "1234565", 0)
def test_it_rounds_half_to_even_at_every_offset(moment: datetime, digits: str, offset: int) -> None:
    zone = timezone(timedelta(minutes=offset))
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    local = moment.replace(microsecond=0, tzinfo=zone)
    fraction = f".{digits}" if digits else ""
    text = f"{local:%H:%M:%S}{fraction}{sign}{minutes // 60:02}:{minutes % 60:02}"
    exact = Fraction(int(digits or 0), 10 ** len(digits)) * 1_000_000
    expected = local + timedelta(microseconds=round(exact))  # Python rounds a Fraction half to even
    assert instants.parse(f"{local.year:04}-{local:%m-%d}T{text}") == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_its_shortest_form_is_the_same_instant_and_cannot_be_shorter(moment: datetime) -> None:
    text = instants.shortest(moment)
    assert instants.parse(text) == moment
    assert text.endswith("Z")
    assert not text.endswith((".Z", "0Z")) or "." not in text


def test_its_shortest_form_has_a_fraction_only_where_there_is_one() -> None:
    assert instants.shortest(at(2023, 1, 1)) == "2023-01-01T00:00:00Z"
    assert instants.shortest(at(2023, 1, 1, 0, 0, 0, 500_000)) == "2023-01-01T00:00:00.5Z"
    assert instants.shortest(at(2023, 1, 1, 0, 0, 10)) == "2023-01-01T00:00:10Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_it_reads_what_msgpack_writes(moment: datetime) -> None:
    assert instants.from_msgpack(msgspec.msgpack.encode(moment)) == moment


@pytest.mark.parametrize(
    ("nanoseconds", "microsecond"), [(0, 0), (500, 0), (501, 1), (1500, 2), (2500, 2), (999_999_500, 1_000_000)]
)
def test_it_rounds_the_nanoseconds_of_msgpack_half_to_even(nanoseconds: int, microsecond: int) -> None:
    long = b"\xc7\x0c\xff" + nanoseconds.to_bytes(4) + (5).to_bytes(8)
    short = b"\xd7\xff" + (nanoseconds << 34 | 5).to_bytes(8)
    expected = at(1970, 1, 1, 0, 0, 5) + timedelta(microseconds=microsecond)
    assert instants.from_msgpack(long) == instants.from_msgpack(short) == expected


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(10**9, 0), (0, 2**62), (0, -(2**62)), (0, 253_402_300_800)])
def test_it_refuses_msgpack_outside_of_the_years_0001_to_9999(nanoseconds: int, seconds: int) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        instants.from_msgpack(b"\xc7\x0c\xff" + nanoseconds.to_bytes(4) + seconds.to_bytes(8, signed=True))
