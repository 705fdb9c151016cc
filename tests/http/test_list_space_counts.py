"""GET /v1/spaces/{id}/counts."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.http.asgi import App
from tests.http import Json, body, event, problem, put, room_with_dpu, send
from tests.properties.rollups import refresh

MORNING = {"from": "2026-01-05T08:00:00Z", "to": "2026-01-05T10:00:00Z"}


async def series(client: httpx.AsyncClient, **asked: str) -> Json:
    """The answer for the room; `from` may be spelled `from_`."""
    params = {name.rstrip("_"): value for name, value in asked.items()}
    found: Json = body(await client.get("/v1/spaces/room/counts", params=params))
    return found


async def buckets(client: httpx.AsyncClient, **asked: str) -> list[Json]:
    found: list[Json] = (await series(client, **asked))["buckets"]
    return found


async def starts(client: httpx.AsyncClient, **asked: str) -> list[str]:
    """Where the buckets begin, in hours and minutes; each must end where the next one begins."""
    found = await buckets(client, **asked)
    assert [bucket["end"] for bucket in found[:-1]] == [bucket["start"] for bucket in found[1:]]
    return [bucket["start"][11:16] for bucket in found]


async def reset(client: httpx.AsyncClient, at: str, count: int) -> None:
    response = await client.post("/v1/spaces/room/resets", json={"at": at, "count": count})
    assert response.status_code == 201, response.text


def only(bucket: Json, *names: str) -> list[Any]:
    return [bucket[name] for name in names]


async def test_it_tells_how_the_count_went(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:30:00Z", direction=5))
    await send(client, event(timestamp="2026-01-05T09:00:00Z", direction=-1))
    first = {"start": "2026-01-05T08:00:00Z", "end": "2026-01-05T09:00:00Z"}
    second = {"start": "2026-01-05T09:00:00Z", "end": "2026-01-05T10:00:00Z"}
    assert await series(client, **MORNING) == {
        "space": "room",
        "time_zone": "UTC",
        "resolution": "event",
        "buckets": [
            {
                **first,
                "count": 5,
                "raw_count": 5,
                "min": 0,
                "max": 5,
                "average": 2.5,
                "entries": 5,
                "exits": 0,
                "utilization": 0.5,
            },
            {
                **second,
                "count": 4,
                "raw_count": 4,
                "min": 4,
                "max": 4,
                "average": 4.0,
                "entries": 0,
                "exits": 1,
                "utilization": 0.4,
            },
        ],
    }


async def test_it_shows_missed_people_in_the_raw_numbers_only(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/room", capacity=None)
    await send(client, event(timestamp="2026-01-05T08:30:00Z", direction=-4))
    found = (await buckets(client, **MORNING))[0]
    assert only(found, "count", "raw_count", "min", "max", "average") == [0, -4, -4, 0, -2.0]
    assert only(found, "entries", "exits", "utilization") == [0, 4, None]


async def test_it_counts_the_other_way_round_where_the_dpu_hangs_outside(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    place = {"doorway": "door", "mounted_in": None, "from": "2020-01-01T00:00:00Z"}
    assert (await client.post("/v1/dpus/dpu-1/placements", json=place)).status_code == 201
    await send(client, event(timestamp="2026-01-05T08:30:00Z", direction=-(2**31)))
    for asked in (MORNING, {"from": "2026-01-01T00:00:00Z", "to": "2026-01-12T00:00:00Z", "interval": "1w"}):
        found = (await buckets(client, **asked))[-1]
        assert only(found, "raw_count", "max", "exits") == [2**31, 2**31, 0]


async def test_it_gives_the_last_day_by_hours_unless_told_otherwise(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    found = await buckets(client)
    assert len(found) in (24, 25)
    assert datetime.fromisoformat(found[-1]["start"]) < datetime.now(UTC)
    assert all(bucket["start"].endswith(":00:00Z") for bucket in found)


CSV = """\
start,end,count,raw_count,min,max,average,entries,exits,utilization\r
2026-01-05T08:00:00Z,2026-01-05T09:00:00Z,0,-3,-3,0,-1.5,0,3,0.0\r
2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,0,-3,-3,-3,-3.0,0,0,0.0\r
"""


@pytest.mark.parametrize(
    ("accept", "more"),
    [
        ("*/*", {"format": "csv"}),
        ("application/json", {"format": "csv"}),
        ("text/csv", {}),
        ("text/csv, application/json;q=0.9, */*;q=0.1", {}),
    ],
)
async def test_it_answers_in_csv_on_request(client: httpx.AsyncClient, accept: str, more: dict[str, str]) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:30:00Z", direction=-3))
    response = await client.get("/v1/spaces/room/counts", params=MORNING | more, headers={"accept": accept})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["x-request-id"]
    assert response.text == CSV


@pytest.mark.parametrize(
    ("accept", "more"),
    [("text/csv", {"format": "json"}), ("application/json, text/csv;q=0.5", {}), ("text/*", {}), ("*/*", {})],
)
async def test_it_answers_in_json_otherwise(client: httpx.AsyncClient, accept: str, more: dict[str, str]) -> None:
    await put(client, "spaces/room")
    body(await client.get("/v1/spaces/room/counts", params=MORNING | more, headers={"accept": accept}))


async def test_it_leaves_a_utilization_without_capacity_empty_in_csv(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    response = await client.get("/v1/spaces/room/counts", params=MORNING | {"format": "csv"})
    assert response.text.splitlines()[1].endswith(",0,0,0,0,0.0,0,0,")


async def test_it_answers_in_msgpack_on_request(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    response = await client.get(
        "/v1/spaces/room/counts", params=MORNING, headers={"accept": "application/msgpack, text/csv;q=0.1"}
    )
    assert response.headers["content-type"] == "application/msgpack"
    assert [bucket["count"] for bucket in msgspec.msgpack.decode(response.content)["buckets"]] == [0, 0]


async def test_it_gives_10_000_buckets_and_no_more(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    start = datetime(2025, 1, 1, tzinfo=UTC)
    end = start + 10_000 * timedelta(minutes=15)
    asked = {"from": start.isoformat(), "to": end.isoformat(), "interval": "15m"}
    found = await buckets(client, **asked)
    assert (len(found), found[-1]["end"]) == (10_000, "2025-04-15T04:00:00Z")
    asked["to"] = (end + timedelta(microseconds=1)).isoformat()
    problem(await client.get("/v1/spaces/room/counts", params=asked), 422, "invalid", "interval")


async def test_it_sends_long_csv_piece_by_piece(client: httpx.AsyncClient, app: App) -> None:
    await put(client, "spaces/room")
    pieces = list[bytes]()
    is_over = asyncio.Event()

    async def receive() -> Any:  # the client stays to the end
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def take(message: Any) -> None:
        pieces.append(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_over.set()

    query = b"from=2025-01-01T00:00:00Z&to=2025-02-01T00:00:00Z&interval=15m&format=csv"
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/v1/spaces/room/counts",
        "raw_path": b"/v1/spaces/room/counts",
        "query_string": query,
        "headers": [(b"host", b"localhost")],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("headcount", 80),
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, take)
    assert max(map(len, pieces)) < 60_000
    assert len([piece for piece in pieces if piece]) > 3
    assert len(b"".join(pieces).splitlines()) == 1 + 31 * 96


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("interval=2h", "interval"),
        ("interval=", "interval"),
        ("time_zone=Mars/Base", "time_zone"),
        ("time_zone=WET", "time_zone"),
        ("time_zone=", "time_zone"),
        ("from=2026-01-01T00:00:00", "from"),
        ("from=2999-01-01T00:00:00Z", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "to"),
        ("from=2001-01-01T00:00:00Z&interval=1h", "interval"),
        ("from=1000-01-01T00:00:00Z&interval=15m", "interval"),
        ("format=xml", "format"),
        ("at=2026-01-01T00:00:00Z", "at"),
    ],
)
async def test_it_refuses_questions_that_it_does_not_understand(
    client: httpx.AsyncClient, query: str, where: str
) -> None:
    await put(client, "spaces/room")
    problem(await client.get(f"/v1/spaces/room/counts?{query}"), 422, "invalid", where)
    problem(await client.get(f"/v1/spaces/room/counts?{query}", headers={"accept": "text/csv"}), 422, "invalid", where)


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/spaces/room/counts"), 404, "not_found", "space")


# Buckets of local time


@pytest.mark.parametrize(
    ("zone", "interval", "first", "last", "expected"),
    [
        # 02:00 EST -> 03:00 EDT at 07:00Z: there is no hour from 2 to 3
        ("America/New_York", "1h", "2024-03-10T05:00:00Z", "2024-03-10T09:00:00Z", "05:00 06:00 07:00 08:00"),
        # 02:00 EDT -> 01:00 EST at 06:00Z: the hour from 1 to 2 comes twice
        ("America/New_York", "1h", "2024-11-03T04:00:00Z", "2024-11-03T08:00:00Z", "04:00 05:00 06:00 07:00"),
        ("America/New_York", "30m", "2024-11-03T05:10:00Z", "2024-11-03T06:31:00Z", "05:00 05:30 06:00 06:30"),
        # 02:00 -> 02:30 at 15:30Z: 02:30 to 03:00 is an hour cut short
        ("Australia/Lord_Howe", "1h", "2023-09-30T14:30:00Z", "2023-09-30T18:00:00Z", "14:30 15:30 16:00 17:00"),
        ("Australia/Lord_Howe", "30m", "2023-09-30T15:00:00Z", "2023-09-30T16:30:00Z", "15:00 15:30 16:00"),
        # 02:00 -> 01:30 at 15:00Z: 01:00 to 02:00 is prolonged
        ("Australia/Lord_Howe", "1h", "2023-04-01T13:30:00Z", "2023-04-01T17:00:00Z", "13:00 14:00 15:30 16:30"),
        ("Australia/Lord_Howe", "30m", "2023-04-01T14:00:00Z", "2023-04-01T16:00:00Z", "14:00 14:30 15:00 15:30"),
        ("Australia/Lord_Howe", "15m", "2023-04-01T14:45:00Z", "2023-04-01T15:30:00Z", "14:45 15:00 15:15"),
        # 00:00 -> 01:00 at 22:00Z
        ("Asia/Beirut", "1h", "2022-03-26T20:00:00Z", "2022-03-27T00:00:00Z", "20:00 21:00 22:00 23:00"),
        ("Asia/Beirut", "1d", "2022-03-26T00:00:00Z", "2022-03-28T00:00:00Z", "22:00 22:00 21:00"),
        # 00:00 -> 23:00 of the day before at 21:00Z
        ("Asia/Beirut", "1h", "2022-10-29T19:00:00Z", "2022-10-29T23:00:00Z", "19:00 20:00 21:00 22:00"),
        ("Asia/Beirut", "1d", "2022-10-29T00:00:00Z", "2022-10-31T00:00:00Z", "21:00 22:00 22:00"),
        # 5 hours and 45 minutes ahead of UTC
        ("Asia/Kathmandu", "1h", "2024-05-06T00:00:00Z", "2024-05-06T02:00:00Z", "23:15 00:15 01:15"),
        ("Asia/Kathmandu", "30m", "2024-05-06T00:00:00Z", "2024-05-06T01:00:00Z", "23:45 00:15 00:45"),
        ("Asia/Kathmandu", "1d", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z", "18:15 18:15"),
        # the 30th of December 2011 did not come
        ("Pacific/Apia", "1d", "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z", "10:00 10:00 10:00"),
    ],
)
async def test_it_cuts_the_range_by_local_clocks(
    client: httpx.AsyncClient, zone: str, interval: str, first: str, last: str, expected: str
) -> None:
    await put(client, "spaces/room", time_zone=zone)
    assert await starts(client, from_=first, to=last, interval=interval) == expected.split()


async def test_it_takes_the_zone_asked_for_or_that_of_the_space_or_its_parent(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house", time_zone="Asia/Kathmandu")
    await put(client, "spaces/room", parent="house")
    assert (await series(client, **MORNING))["time_zone"] == "Asia/Kathmandu"
    await put(client, "spaces/room", time_zone="America/New_York")
    assert (await series(client, **MORNING))["time_zone"] == "America/New_York"
    found = await series(client, **MORNING, time_zone="Asia/Kathmandu")
    assert (found["time_zone"], found["buckets"][0]["start"]) == ("Asia/Kathmandu", "2026-01-05T07:15:00Z")


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1d", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),  # 23 hours
        ("1d", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),  # 25 hours
        ("1w", "2024-10-28T04:00:00Z", "2024-11-04T05:00:00Z"),  # from Monday
        ("1w", "2024-03-04T05:00:00Z", "2024-03-11T04:00:00Z"),
        ("1mo", "2024-11-01T04:00:00Z", "2024-12-01T05:00:00Z"),
        ("1mo", "2024-03-01T05:00:00Z", "2024-04-01T04:00:00Z"),
    ],
)
async def test_it_weighs_the_average_by_the_true_length_of_a_bucket(
    client: httpx.AsyncClient, interval: str, start: str, end: str
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/room", time_zone="America/New_York")
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    middle = first + (last - first) / 2
    await send(client, event(timestamp=middle.isoformat(), direction=8))
    (found,) = await buckets(
        client, from_=middle.isoformat(), to=(middle + timedelta(hours=1)).isoformat(), interval=interval
    )
    assert only(found, "start", "end", "average", "max") == [start, end, 4.0, 8]


async def test_it_loses_no_digits_of_an_average_over_quarter_hours(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:59:59.999999Z", direction=2**31 - 1))
    await refresh(connection)
    found = await series(client, from_="2026-01-05T08:00:00Z", to="2026-01-20T08:00:00Z")
    assert found["resolution"] == "15m"
    assert found["buckets"][0]["average"] == pytest.approx((2**31 - 1) * 1e-6 / 3600, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "lengths", "averages"),
    [
        ("2023-09-30T14:30:00Z", [60, 30, 60], [6.0, 12.0, 12.0]),  # cut short at 15:30Z
        ("2023-04-01T14:00:00Z", [90, 60, 60], [8.0, 12.0, 12.0]),  # prolonged by what comes after 15:00Z
    ],
)
async def test_it_takes_an_hour_that_the_clocks_cut_short_or_prolong_for_one(
    client: httpx.AsyncClient, first: str, lengths: list[int], averages: list[float]
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/room", time_zone="Australia/Lord_Howe")
    start = datetime.fromisoformat(first)
    await send(client, event(timestamp=(start + timedelta(minutes=30)).isoformat(), direction=12))
    found = await buckets(client, from_=first, to=(start + timedelta(minutes=sum(lengths))).isoformat())
    spans = [datetime.fromisoformat(b["end"]) - datetime.fromisoformat(b["start"]) for b in found]
    assert [span / timedelta(minutes=1) for span in spans] == lengths
    assert [bucket["average"] for bucket in found] == averages


# Resets, placements, the present


async def test_it_goes_on_from_a_reset_inside_a_bucket(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:15:00Z", direction=4))
    await send(client, event(timestamp="2026-01-05T08:45:00Z", direction=2))
    await reset(client, "2026-01-05T08:30:00Z", 10)
    found = (await buckets(client, **MORNING))[0]
    # a quarter of an hour each: 0, 4, 10, 12
    assert only(found, "raw_count", "min", "max", "average", "entries", "exits") == [12, 0, 12, 6.5, 6, 0]


async def test_it_counts_a_reset_at_the_edge_for_the_bucket_that_begins_there(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:30:00Z", direction=4))
    await send(client, event(timestamp="2026-01-05T09:00:00Z", direction=1))  # of that instant: before the reset
    await reset(client, "2026-01-05T09:00:00Z", 10)
    first, second = await buckets(client, **MORNING)
    assert only(first, "raw_count", "min", "max", "average", "entries") == [4, 0, 4, 2.0, 4]
    assert only(second, "raw_count", "min", "max", "average", "entries") == [10, 10, 10, 10.0, 1]


async def test_it_goes_on_from_the_daily_reset(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/room", time_zone="America/New_York", reset_at="02:30")
    await send(client, event(timestamp="2024-03-10T06:00:00Z", direction=6))
    # 02:30 is skipped on this day: the reset is at 07:00Z, when the clock shows 03:00
    found = await buckets(client, from_="2024-03-10T05:00:00Z", to="2024-03-10T08:00:00Z")
    assert [only(bucket, "raw_count", "min", "max") for bucket in found] == [[0, 0, 0], [6, 6, 6], [0, 0, 0]]
    (day,) = await buckets(client, from_="2024-03-10T05:00:00Z", to="2024-03-10T08:00:00Z", interval="1d")
    assert only(day, "raw_count", "min", "max", "entries") == [0, 0, 6, 6]
    assert day["average"] == pytest.approx(6 / 23)


async def test_it_shows_no_count_that_lasted_no_time(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    for instant in ("2026-01-05T08:00:00Z", "2026-01-05T08:30:00Z"):
        await send(
            client,
            event(timestamp=instant, direction=5),
            event(timestamp=instant, direction=-7, sequence=1),
            event(timestamp=instant, direction=3, sequence=2),
        )
    first = (await buckets(client, **MORNING))[0]
    # 1 from the first instant on, 2 from the second
    assert only(first, "raw_count", "min", "max", "average", "entries", "exits") == [2, 1, 2, 1.5, 16, 14]


async def test_it_counts_a_dpu_from_its_placement_on_inside_a_bucket(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "dpus/dpu-2")
    place = {"doorway": "door", "mounted_in": "room", "from": "2026-01-05T08:20:00Z", "until": "2026-01-05T08:40:00Z"}
    assert (await client.post("/v1/dpus/dpu-2/placements", json=place)).status_code == 201
    for minute, direction in ((19, 100), (20, 1), (39, 2), (40, 100)):
        await send(client, event("dpu-2", f"2026-01-05T08:{minute}:00Z", direction))
    for interval, asked in (("1h", MORNING), ("1d", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-12T00:00:00Z"})):
        found = await buckets(client, **asked, interval=interval)
        (busy,) = (bucket for bucket in found if bucket["entries"])
        assert only(busy, "raw_count", "min", "max", "entries") == [3, 0, 3, 3]


async def test_it_tells_a_bucket_that_is_not_over_as_far_as_it_has_come(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    now = datetime.now(UTC)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await send(client, event(timestamp=(start + (now - start) / 2).isoformat(), direction=6))
    await send(client, event(timestamp=(now + timedelta(minutes=4)).isoformat(), direction=100))
    before = datetime.now(UTC)
    months = await buckets(client, from_=(now - timedelta(seconds=1)).isoformat(), interval="1mo")
    after = datetime.now(UTC)
    # the first second of a month, and its last one, are in two of them
    (found,) = (month for month in months if datetime.fromisoformat(month["start"]) == start)
    assert datetime.fromisoformat(found["end"]) > now
    assert only(found, "raw_count", "min", "max", "entries") == [6, 0, 6, 6]
    # since the middle it grows
    half = (now - start) / 2
    least, most = (6 * ((at - start - half) / (at - start)) for at in (before, after))
    assert least == pytest.approx(3, rel=0.2)
    assert least * (1 - 1e-3) <= found["average"] <= most * (1 + 1e-3)


@pytest.mark.parametrize("refreshed", [False, True])
async def test_it_takes_the_extremes_of_a_longer_range_over_quarter_hours(
    client: httpx.AsyncClient, connection: asyncpg.Connection, refreshed: bool
) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:01:00Z", direction=60))
    await send(client, event(timestamp="2026-01-05T08:02:00Z", direction=-50))
    if refreshed:
        await refresh(connection)
    week = {"from": "2026-01-05T00:00:00Z", "to": "2026-01-12T00:00:00Z", "interval": "1d"}
    found = await series(client, **week)
    assert (found["resolution"], found["buckets"][0]["max"]) == ("event", 60)
    longer = await series(client, **week | {"from": "2026-01-01T00:00:00Z"})
    assert (longer["resolution"], longer["buckets"][4]["max"]) == ("15m", 10)
    for day in (found["buckets"][0], longer["buckets"][4]):
        assert day["average"] == pytest.approx((60 * 60 + 10 * (16 * 3600 - 120)) / 86_400)
        assert only(day, "entries", "exits") == [60, 50]
