"""The oracle itself against cases worked out by hand."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from .oracle import Bucket, Counted, Event, Refused, World, local_buckets, read_timestamp, wall_clock_reaches

MICROSECOND = timedelta(microseconds=1)
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
CLOCK = datetime(2024, 6, 1, tzinfo=UTC)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def house() -> World:
    """outside |door| hall |inner| room; the house is both. `d` hangs in the hall, `i` in the room."""
    world = World()
    world.put_space("house", {})
    world.put_space("hall", {"parent": "house"})
    world.put_space("room", {"parent": "house"})
    world.put_doorway("door", "hall", None)
    world.put_doorway("inner", "hall", "room")
    world.place("d", "door", "hall", LONG_AGO)
    world.place("i", "inner", "room", LONG_AGO)
    return world


def walk(world: World, dpu: str, direction: int, at: datetime = NOON) -> None:
    assert world.record([Event(dpu, at, direction)], CLOCK) == ["accepted"]


@pytest.mark.parametrize(
    ("zone", "day", "clock", "instant"),
    [
        # 2024-03-10 02:00 EST -> 03:00 EDT at 07:00Z.
        ("America/New_York", "2024-03-10", "01:59", "2024-03-10T06:59:00Z"),
        ("America/New_York", "2024-03-10", "02:00", "2024-03-10T07:00:00Z"),
        ("America/New_York", "2024-03-10", "02:30", "2024-03-10T07:00:00Z"),
        ("America/New_York", "2024-03-10", "02:59:59", "2024-03-10T07:00:00Z"),
        ("America/New_York", "2024-03-10", "03:00", "2024-03-10T07:00:00Z"),
        ("America/New_York", "2024-03-10", "03:01", "2024-03-10T07:01:00Z"),
        ("America/New_York", "2024-03-10", "00:00", "2024-03-10T05:00:00Z"),
        ("America/New_York", "2024-03-11", "00:00", "2024-03-11T04:00:00Z"),
        # 2024-11-03 02:00 EDT -> 01:00 EST at 06:00Z.
        ("America/New_York", "2024-11-03", "00:59", "2024-11-03T04:59:00Z"),
        ("America/New_York", "2024-11-03", "01:00", "2024-11-03T05:00:00Z"),
        ("America/New_York", "2024-11-03", "01:59:30", "2024-11-03T05:59:30Z"),
        ("America/New_York", "2024-11-03", "02:00", "2024-11-03T07:00:00Z"),
        # Lord Howe, half an hour: 02:00 -> 02:30 at 2023-09-30T15:30Z; 02:00 -> 01:30 at 2023-04-01T15:00Z.
        ("Australia/Lord_Howe", "2023-10-01", "01:59", "2023-09-30T15:29:00Z"),
        ("Australia/Lord_Howe", "2023-10-01", "02:15", "2023-09-30T15:30:00Z"),
        ("Australia/Lord_Howe", "2023-10-01", "02:30", "2023-09-30T15:30:00Z"),
        ("Australia/Lord_Howe", "2023-04-02", "01:30", "2023-04-01T14:30:00Z"),
        ("Australia/Lord_Howe", "2023-04-02", "01:45", "2023-04-01T14:45:00Z"),
        ("Australia/Lord_Howe", "2023-04-02", "02:00", "2023-04-01T15:30:00Z"),
        # Beirut at midnight: 2022-03-27 00:00 -> 01:00 at 03-26T22:00Z;
        # 2022-10-30 00:00 -> 10-29 23:00 at 10-29T21:00Z.
        ("Asia/Beirut", "2022-03-27", "00:00", "2022-03-26T22:00:00Z"),
        ("Asia/Beirut", "2022-03-27", "00:30", "2022-03-26T22:00:00Z"),
        ("Asia/Beirut", "2022-03-27", "01:00", "2022-03-26T22:00:00Z"),
        ("Asia/Beirut", "2022-10-29", "23:00", "2022-10-29T20:00:00Z"),
        ("Asia/Beirut", "2022-10-29", "23:59", "2022-10-29T20:59:00Z"),
        ("Asia/Beirut", "2022-10-30", "00:00", "2022-10-29T22:00:00Z"),
        # St John's a minute past midnight: 2010-03-14 00:01 -> 01:01 at 03:31Z;
        # 2010-11-07 00:01 -> 11-06 23:01 at 02:31Z.
        ("America/St_Johns", "2010-03-14", "00:00", "2010-03-14T03:30:00Z"),
        ("America/St_Johns", "2010-03-14", "00:01", "2010-03-14T03:31:00Z"),
        ("America/St_Johns", "2010-03-14", "00:30", "2010-03-14T03:31:00Z"),
        ("America/St_Johns", "2010-11-06", "23:00", "2010-11-07T01:30:00Z"),
        ("America/St_Johns", "2010-11-06", "23:01", "2010-11-07T01:31:00Z"),
        ("America/St_Johns", "2010-11-06", "23:30", "2010-11-07T02:00:00Z"),
        ("America/St_Johns", "2010-11-07", "00:00", "2010-11-07T02:30:00Z"),
        ("America/St_Johns", "2010-11-07", "00:00:30", "2010-11-07T02:30:30Z"),
        ("America/St_Johns", "2010-11-07", "00:01", "2010-11-07T03:31:00Z"),
        # Apia crossed the date line: 2011-12-29 24:00 was 2011-12-31 00:00, at 2011-12-30T10:00Z.
        ("Pacific/Apia", "2011-12-29", "23:59", "2011-12-30T09:59:00Z"),
        ("Pacific/Apia", "2011-12-30", "00:00", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-30", "16:00", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "00:00", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "04:00", "2011-12-30T14:00:00Z"),
        # Cairo: 2023-04-28 00:00 -> 01:00 at 04-27T22:00Z; 2023-10-27 00:00 -> 10-26 23:00 at 21:00Z.
        ("Africa/Cairo", "2023-04-28", "00:00", "2023-04-27T22:00:00Z"),
        ("Africa/Cairo", "2023-10-26", "23:30", "2023-10-26T20:30:00Z"),
        ("Africa/Cairo", "2023-10-27", "00:00", "2023-10-26T22:00:00Z"),
        ("Asia/Kathmandu", "2023-10-27", "04:00", "2023-10-26T22:15:00Z"),
    ],
)
def test_it_finds_the_instant_of_a_daily_reset(zone: str, day: str, clock: str, instant: str) -> None:
    found = wall_clock_reaches(date.fromisoformat(day), time.fromisoformat(clock), zone)
    assert found == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-05-06T12:00:00Z", NOON),
        ("2024-05-06T17:45:00+05:45", NOON),
        ("2024-05-06T08:30:00.0000005-03:30", NOON),
        ("2024-05-06T12:00:00.00000050001Z", NOON + MICROSECOND),
        ("2024-05-06T12:00:00.0000015Z", NOON + 2 * MICROSECOND),
        ("2024-05-06T11:59:59.9999995Z", NOON),
        ("2024-05-06T11:59:59.9999985Z", NOON - 2 * MICROSECOND),
        ("2024-05-06T11:59:59.99999949Z", NOON - MICROSECOND),
    ],
)
def test_it_reads_a_timestamp_to_the_nearest_even_microsecond(text: str, instant: datetime) -> None:
    assert read_timestamp(text) == instant


def test_it_counts_people_into_the_side_the_dpu_is_mounted_on() -> None:
    world = house()
    walk(world, "d", 3)
    walk(world, "i", 1)
    assert [world.raw_count(space, NOON) for space in ("house", "hall", "room")] == [3, 2, 1]


def test_a_space_is_counted_from_its_first_event_with_a_sign_or_its_first_reset() -> None:
    world = house()
    walk(world, "i", 1)
    known = world.now
    assert [world.counted_since(space) for space in ("house", "hall", "room")] == [None, NOON, NOON]
    world.reset("room", 3, NOON - MICROSECOND)
    walk(world, "d", 0, NOON + MICROSECOND)
    assert [world.counted_since(space) for space in ("house", "hall", "room")] == [
        NOON + MICROSECOND,
        NOON,
        NOON - MICROSECOND,
    ]
    assert world.counted_since("room", known) == NOON
    world.place("i", None, None, LONG_AGO)
    assert world.counted_since("hall") == NOON + MICROSECOND


def test_it_turns_the_sign_when_the_dpu_hangs_on_the_other_side() -> None:
    world = house()
    world.place("d", "door", None, LONG_AGO)
    walk(world, "d", -2)
    assert world.raw_count("house", NOON) == 2


def test_it_counts_an_event_from_its_own_instant_on() -> None:
    world = house()
    walk(world, "d", 1)
    assert world.raw_count("hall", NOON - MICROSECOND) == 0
    assert world.raw_count("hall", NOON) == 1


def test_it_never_shows_a_negative_count_but_keeps_the_raw_one() -> None:
    world = house()
    walk(world, "d", -4)
    assert world.count("hall", NOON) == Counted(
        count=0, raw_count=-4, since=None, placed=2, online=1, counted_since=NOON
    )


def test_it_counts_an_event_at_the_instant_of_a_reset_as_before_it() -> None:
    world = house()
    walk(world, "d", 1)
    walk(world, "d", 1, NOON + MICROSECOND)
    world.reset("hall", 7, NOON)
    assert world.raw_count("hall", NOON - MICROSECOND) == 0
    assert world.raw_count("hall", NOON) == 7
    assert world.raw_count("hall", NOON + MICROSECOND) == 8
    assert world.raw_count("house", NOON) == 1


def test_it_lets_the_later_of_two_resets_at_one_instant_stand() -> None:
    world = house()
    world.reset("hall", 7, NOON)
    then = world.now
    world.reset("hall", 5, NOON)
    assert world.raw_count("hall", NOON) == 5
    assert world.raw_count("hall", NOON, known_at=then) == 7
    assert world.raw_count("hall", NOON, known_at=then - 1) == 0


def test_it_prefers_the_explicit_reset_to_the_scheduled_one_at_the_same_instant() -> None:
    world = house()
    world.reset("hall", 7, NOON)
    world.put_space("house", {"reset_at": "12:00", "time_zone": "UTC"})
    assert world.count("hall", NOON).raw_count == 7
    assert world.count("room", NOON + timedelta(hours=1)).since == NOON
    assert world.count("hall", NOON + timedelta(days=1)).raw_count == 0


def test_it_resets_daily_to_zero_by_the_nearest_schedule_upwards() -> None:
    world = house()
    walk(world, "d", 1)
    world.put_space("house", {"time_zone": "America/New_York"})
    world.put_space("hall", {"reset_at": "08:00"})  # EDT: 12:00Z
    assert world.count("hall", NOON - MICROSECOND).since == NOON - timedelta(days=1)
    assert world.count("hall", NOON).since == NOON
    assert world.raw_count("hall", NOON) == 0
    assert world.raw_count("house", NOON) == 1
    world.put_space("hall", {"time_zone": "Asia/Kathmandu"})  # 02:15Z
    assert world.count("hall", NOON).since == datetime(2024, 5, 6, 2, 15, tzinfo=UTC)
    world.put_space("hall", {"reset_at": "never"})
    assert world.count("hall", NOON).since is None


def test_it_knows_what_the_schedule_was_believed_to_be() -> None:
    world = house()
    before = world.now
    world.put_space("house", {"reset_at": "12:00"})
    assert world.count("hall", NOON).since == NOON
    assert world.count("hall", NOON, known_at=before).since is None


def test_it_changes_exactly_the_period_of_a_corrected_placement() -> None:
    world = house()
    for hour in range(4):
        walk(world, "d", 1, NOON + timedelta(hours=hour))
    believed = world.now
    world.place("d", None, None, NOON + timedelta(hours=1), NOON + timedelta(hours=3))
    evening = NOON + timedelta(hours=6)
    assert world.raw_count("hall", evening) == 2
    assert world.raw_count("hall", evening, known_at=believed) == 4
    assert world.count("hall", NOON + timedelta(hours=1)).placed == 1
    assert world.count("hall", NOON + timedelta(hours=3)).placed == 2
    world.place("d", "inner", "room", NOON + timedelta(hours=2))
    assert [world.raw_count(space, evening) for space in ("house", "hall", "room")] == [1, -1, 2]


def test_it_counts_events_of_an_unplaced_dpu_once_it_is_placed() -> None:
    world = house()
    walk(world, "new", 1)
    assert world.raw_count("house", NOON) == 0
    world.place("new", "door", "hall", NOON)
    assert world.raw_count("house", NOON) == 1


def test_it_judges_repeats_within_and_across_batches() -> None:
    world = house()
    first, again, other = Event("d", NOON, 1), Event("d", NOON, 1), Event("d", NOON, -1)
    assert world.record([first, again, other], CLOCK) == ["accepted", "duplicate", "conflict"]
    assert world.record([other, again, Event("d", NOON, 1, sequence=1)], CLOCK) == [
        "conflict",
        "duplicate",
        "accepted",
    ]
    assert world.raw_count("hall", NOON) == 2
    assert len(world.conflicts) == 2


def test_it_refuses_events_outside_time_and_range() -> None:
    world = house()
    ahead = CLOCK + timedelta(minutes=5)
    events = [
        Event("d", datetime(2010, 1, 3, tzinfo=UTC) + MICROSECOND, 1),
        Event("d", datetime(2010, 1, 3, tzinfo=UTC), 1),
        Event("d", datetime(2009, 12, 31, 10, tzinfo=UTC), 1),
        Event("d", datetime(2009, 12, 31, 10, tzinfo=UTC) - MICROSECOND, 1),
        Event("d", ahead, 1),
        Event("d", ahead + MICROSECOND, 1),
        Event("d", NOON, 2**31 - 1),
        Event("d", NOON, 2**31),
    ]
    assert world.record(events, CLOCK) == [
        "accepted",
        "clock_unset",
        "clock_unset",
        "too_old",
        "accepted",
        "in_future",
        "accepted",
        "invalid",
    ]


def test_it_takes_a_dpu_to_be_online_from_its_first_event_on() -> None:
    world = house()
    walk(world, "d", 0)
    assert world.count("hall", NOON - MICROSECOND).online == 0
    assert world.count("hall", NOON).online == 1
    assert world.count("hall", CLOCK).online == 1


def test_it_applies_the_tree_of_today_to_the_whole_history() -> None:
    world = house()
    walk(world, "d", 1)
    then = world.now
    world.put_space("annex", {})
    world.put_space("hall", {"parent": "annex"})
    assert world.raw_count("annex", NOON) == 1
    assert world.raw_count("house", NOON, known_at=then) == 0


@pytest.mark.parametrize("parent", ["house", "hall", "room", "nowhere"])
def test_it_refuses_a_ring_of_spaces_and_a_parent_that_is_not_there(parent: str) -> None:
    world = house()
    world.check_tree()
    world.put_space("house", {"parent": parent})
    with pytest.raises(Refused):
        world.check_tree()


def test_it_refuses_other_sides_once_a_dpu_was_placed() -> None:
    world = house()
    with pytest.raises(Refused):
        world.put_doorway("door", "room", None)
    world.put_doorway("door", "hall", None)


def test_it_refuses_to_mount_a_dpu_in_a_space_that_is_no_side() -> None:
    with pytest.raises(Refused):
        house().place("d", "door", "room", NOON)


@pytest.mark.parametrize(
    ("zone", "interval", "start", "end", "expected"),
    [
        ("America/New_York", "1h", "2024-03-10T05:00Z", "2024-03-10T09:00Z", "05:00 06:00 07:00 08:00"),
        ("America/New_York", "1h", "2024-11-03T04:00Z", "2024-11-03T08:00Z", "04:00 05:00 06:00 07:00"),
        ("Australia/Lord_Howe", "1h", "2023-09-30T14:30Z", "2023-09-30T18:00Z", "14:30 15:30 16:00 17:00"),
        ("Australia/Lord_Howe", "1h", "2023-04-01T13:30Z", "2023-04-01T17:00Z", "13:00 14:00 15:30 16:30"),
        ("Australia/Lord_Howe", "30m", "2023-04-01T14:00Z", "2023-04-01T16:00Z", "14:00 14:30 15:00 15:30"),
        ("Asia/Beirut", "1d", "2022-10-29T00:00Z", "2022-10-31T00:00Z", "21:00 22:00 22:00"),
        ("Asia/Kathmandu", "30m", "2024-05-06T00:00Z", "2024-05-06T01:00Z", "23:45 00:15 00:45"),
        ("Pacific/Apia", "1d", "2011-12-29T12:00Z", "2011-12-31T12:00Z", "10:00 10:00 10:00"),
    ],
)
def test_it_cuts_a_range_by_the_clock_on_the_wall(
    zone: str, interval: str, start: str, end: str, expected: str
) -> None:
    found = local_buckets(datetime.fromisoformat(start), datetime.fromisoformat(end), interval, zone)
    assert [f"{a:%H:%M}" for a, _ in found] == expected.split()


def noon_hour(world: World, resolution: str = "event") -> Bucket:
    days = 9 if resolution == "15m" else 1
    found, buckets = world.series(
        "hall", NOON - timedelta(days=days), NOON + timedelta(hours=1), "1h", "UTC", NOON + timedelta(minutes=40)
    )
    assert found == resolution
    return buckets[-1]


def dropped(*cuts: datetime) -> World:
    """People at the door from noon on, each five minutes; resets of the hall at some instants; then that day goes."""
    world = house()
    for number in range(12):
        walk(world, "d", 1, NOON + number * timedelta(minutes=5))
    for cut in cuts:
        world.reset("hall", 3, cut)
    world.retire(NOON + timedelta(hours=12))
    return world


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(0, False), (15, False), (1, True), (29, True), (-1, False), (61, False), (720, False)],
)
def test_it_lacks_the_events_of_a_quarter_hour_that_is_cut(minutes: int, expected: bool) -> None:
    at = NOON + timedelta(minutes=minutes)
    assert dropped().lacks("hall", at) == expected
    assert not dropped().lacks("room", at)


def test_it_lacks_nothing_of_a_quarter_hour_that_was_cut_already() -> None:
    world = dropped(NOON + timedelta(minutes=16))
    assert not world.lacks("hall", NOON + timedelta(minutes=20))
    assert not world.lacks("hall", NOON + timedelta(minutes=30))
    assert world.lacks("hall", NOON + timedelta(minutes=31))
    world.reset("hall", 3, NOON + timedelta(minutes=31))
    assert world.lacks("hall", NOON + timedelta(days=9))
    assert world.series_lacks("hall", NOON + timedelta(minutes=30), NOON + timedelta(hours=1))
    assert not world.series_lacks("hall", NOON, NOON + timedelta(minutes=30))


def test_it_lacks_whatever_was_dropped_for_what_was_known_then() -> None:
    world = dropped()
    assert world.lacks("hall", NOON, world.now)
    assert not world.lacks("hall", NOON - timedelta(minutes=1), world.now)
    assert not world.lacks("room", NOON, world.now)


def test_it_takes_no_events_from_before_what_is_kept() -> None:
    world = dropped()
    horizon = NOON + timedelta(hours=12)
    early, late = Event("d", horizon - MICROSECOND, 1), Event("d", horizon, 1)
    assert world.record([early, late], CLOCK) == ["too_old", "accepted"]


def test_it_follows_the_count_through_a_bucket_that_is_not_over() -> None:
    world = house()
    walk(world, "d", 1, NOON - timedelta(hours=1))
    walk(world, "d", 2, NOON)
    walk(world, "d", -1, NOON + timedelta(minutes=10))
    walk(world, "i", 1, NOON + timedelta(minutes=10))
    world.reset("hall", 9, NOON + timedelta(minutes=20))
    walk(world, "d", 7, NOON + timedelta(minutes=20))
    walk(world, "d", -4, NOON + timedelta(minutes=30))
    walk(world, "d", 1, NOON + timedelta(minutes=50))
    # ten minutes each: 3, 1, 9, 5
    assert noon_hour(world) == Bucket(NOON, NOON + timedelta(hours=1), 5, 5, 1, 9, 4.5, 9, 6)


def test_it_sees_the_count_at_the_ends_of_quarters_and_around_resets_in_a_long_range() -> None:
    world = house()
    walk(world, "d", 2, NOON + timedelta(minutes=1))
    walk(world, "d", 50, NOON + timedelta(minutes=2))
    walk(world, "d", -49, NOON + timedelta(minutes=3))
    assert (noon_hour(world, "15m").min, noon_hour(world, "15m").max) == (0, 3)
    world.reset("hall", 20, NOON + timedelta(minutes=2))
    assert (noon_hour(world, "15m").min, noon_hour(world, "15m").max) == (-29, 20)
    world.reset("hall", -1, NOON)
    assert (noon_hour(world, "15m").min, noon_hour(world, "15m").max) == (-29, 20)


def test_a_retired_dpu_is_out_of_use_from_then_on_as_far_as_that_was_known() -> None:
    world = house()
    walk(world, "d", 1)
    before = world.now
    world.retire_dpu("d", True, NOON + timedelta(hours=1))
    retired = world.now
    world.retire_dpu("d", False, NOON + timedelta(hours=2))

    def placed(hours: float, known_at: int | None = None) -> int:
        return world.count("house", NOON + timedelta(hours=hours), known_at).placed

    assert [placed(hours) for hours in (0.9, 1, 1.9, 2)] == [1, 0, 0, 1]
    assert [placed(hours, retired) for hours in (0.9, 1, 2)] == [1, 0, 0]
    assert placed(1, before) == 1
    assert world.raw_count("house", NOON + timedelta(hours=1)) == 1


def test_a_space_is_retired_when_nothing_in_use_lies_in_it_and_goes_on_counting() -> None:
    world = house()
    walk(world, "d", 1)
    with pytest.raises(Refused):
        world.retire_space("house", True)
    world.retire_space("room", True)
    world.retire_space("hall", True)
    world.retire_space("house", True)
    assert world.asked_under("house") == ["house"]
    assert world.asked_under("hall") == ["hall"]
    assert world.raw_count("hall", NOON) == 1
    world.retire_space("hall", False)
    assert world.asked_under("house") == ["hall", "house"]
