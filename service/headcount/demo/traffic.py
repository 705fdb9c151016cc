"""The demo: a site of a dozen spaces, two days of traffic, and people who go on walking.

Who is inside is read from the database at the start and after every gap, so that what the people do next fits to what
is counted, and no traffic is made up for a time in which nothing ran.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from zoneinfo import ZoneInfo

import asyncpg

from headcount.database import calls
from headcount.demo.simulation import RESET_AT, Crowd, Report, to_datetime
from headcount.wire import instants
from headcount.wire.messages.plan import OpeningHours, SiteDoorwayIn, SiteDpuIn, SiteIn, SitePlacementIn, SiteSpaceIn
from headcount.wire.problems import problem_of

ROOT = "campus"
TIME_ZONE = "Europe/Berlin"
DAYS = 2
PEOPLE = 1_400
SEED = 7
BATCH_EVENTS = 10_000
TICK_SECONDS = 1.0
TICKS_PER_LOOK = 5  # at where the DPUs are
TICKS_PER_HEARTBEAT = 60
LONGEST_GAP = timedelta(minutes=2)  # after which the people are made anew from the counts
POPULARITY = {
    "shop": 22,
    "library": 12,
    "canteen": 24,
    "open-office": 20,
    "workshop": 8,
    "meeting-1": 5,
    "meeting-2": 4,
    "board-room": 3,
}

log = logging.getLogger("headcount.demo")


def demo_site(since: datetime, moved_at: datetime) -> SiteIn:
    """The floor plan, with its DPUs mounted from `since` on; one of them was moved at `moved_at`."""
    from_ = instants.of(since)
    weekdays = [OpeningHours(day=day, open="09:00", close="20:00") for day in range(6)]
    spaces = [
        SiteSpaceIn(id=ROOT, name="Riverside Campus", capacity=600, time_zone=TIME_ZONE, reset_at=RESET_AT),
        SiteSpaceIn(id="main-building", name="Main building", parent=ROOT, capacity=320),
        SiteSpaceIn(id="ground-floor", name="Ground floor", parent="main-building", capacity=180),
        SiteSpaceIn(id="canteen", name="Canteen", parent="ground-floor", capacity=110),
        SiteSpaceIn(id="workshop", name="Workshop", parent="ground-floor", capacity=24),
        SiteSpaceIn(id="first-floor", name="First floor", parent="main-building", capacity=140),
        SiteSpaceIn(id="open-office", name="Open-plan office", parent="first-floor", capacity=80),
        SiteSpaceIn(id="meeting-1", name="Meeting room 1", parent="first-floor", capacity=14),
        SiteSpaceIn(id="meeting-2", name="Meeting room 2", parent="first-floor", capacity=10),
        SiteSpaceIn(id="board-room", name="Board room", parent="first-floor", capacity=16),
        SiteSpaceIn(id="library", name="Library", parent=ROOT, capacity=90),
        SiteSpaceIn(id="shop", name="Corner shop", parent=ROOT, capacity=60, opening_hours=weekdays),
    ]
    doorways = [
        SiteDoorwayIn(id="main-gate", name="Main gate, wide", sides=(None, ROOT)),
        SiteDoorwayIn(id="back-gate", name="Back gate", sides=(None, ROOT)),
        SiteDoorwayIn(id="shop-street", name="Shop, from the street", sides=(None, "shop")),
        SiteDoorwayIn(id="building-entrance", name="Main entrance", sides=(ROOT, "main-building")),
        SiteDoorwayIn(id="foyer", name="Foyer to ground floor", sides=("main-building", "ground-floor")),
        SiteDoorwayIn(id="stairs", name="Stairs to first floor", sides=("main-building", "first-floor")),
        SiteDoorwayIn(id="canteen-door", sides=("ground-floor", "canteen")),
        SiteDoorwayIn(id="workshop-door", sides=("ground-floor", "workshop")),
        SiteDoorwayIn(id="office-door", sides=("first-floor", "open-office")),
        SiteDoorwayIn(id="meeting-1-door", sides=("first-floor", "meeting-1")),
        SiteDoorwayIn(id="meeting-2-door", sides=("first-floor", "meeting-2")),
        SiteDoorwayIn(id="board-room-door", sides=("first-floor", "board-room")),
        SiteDoorwayIn(id="library-door", sides=(ROOT, "library")),
    ]
    mounted: list[tuple[str, str, str | None]] = [
        ("dpu-gate-left", "main-gate", ROOT),
        ("dpu-gate-middle", "main-gate", ROOT),
        ("dpu-gate-right", "main-gate", None),
        ("dpu-back-gate", "back-gate", ROOT),
        ("dpu-shop", "shop-street", "shop"),
        ("dpu-entrance-left", "building-entrance", "main-building"),
        ("dpu-entrance-right", "building-entrance", ROOT),
        ("dpu-foyer", "foyer", "ground-floor"),
        ("dpu-stairs", "stairs", "main-building"),
        ("dpu-canteen", "canteen-door", "canteen"),
        ("dpu-workshop", "workshop-door", "ground-floor"),
        ("dpu-office", "office-door", "open-office"),
        ("dpu-meeting-1", "meeting-1-door", "meeting-1"),
        ("dpu-meeting-2", "meeting-2-door", "first-floor"),
        ("dpu-board-room", "board-room-door", "board-room"),
        ("dpu-library", "library-door", "library"),
    ]
    placements = [SitePlacementIn(dpu=d, doorway=w, mounted_in=m, from_=from_) for d, w, m in mounted]
    moved = instants.of(moved_at)
    placements += [
        SitePlacementIn(dpu="dpu-spare", doorway="main-gate", mounted_in=ROOT, from_=from_, until=moved),
        SitePlacementIn(dpu="dpu-spare", doorway="canteen-door", mounted_in="ground-floor", from_=moved),
    ]
    dpus = [
        *(
            SiteDpuIn(id=dpu, mac_address=f"02:00:00:00:00:{number:02x}")
            for number, (dpu, _, _) in enumerate(mounted, start=1)
        ),
        SiteDpuIn(id="dpu-spare", name="Was at the main gate, is in the canteen", mac_address="02:00:00:00:00:ff"),
    ]
    return SiteIn(spaces=spaces, doorways=doorways, dpus=dpus, placements=placements)


def site_at(now: datetime) -> tuple[SiteIn, datetime]:
    """The site as it is made at `now`, and the beginning of its history: a night, with nobody there."""
    # A day is over when the night is, so that there are two whole ones also between midnight and then.
    last_night = now.astimezone(ZoneInfo(TIME_ZONE)) - timedelta(hours=4)
    today = last_night.replace(hour=4, minute=0, second=0, microsecond=0)
    since = (today - timedelta(days=DAYS)).astimezone(UTC)
    return demo_site(since, since + timedelta(days=1, hours=7, minutes=30)), since


async def is_empty(connection: calls.Session) -> bool:
    return not await calls.list_spaces(connection, max_rows=1) and not await calls.list_dpus(connection, max_rows=1)


async def is_demo(connection: calls.Session) -> bool:
    """Whether the database holds the demo's spaces; somebody's own beside them are all right."""
    site, _ = site_at(datetime.now(UTC))
    spaces = await calls.list_spaces(connection, max_rows=1000)
    return {space.id for space in spaces} >= {space.id for space in site.spaces}


async def load(connection: asyncpg.Connection) -> int:
    """The site and its history up to now, all or nothing. Returns the number of events."""
    now = datetime.now(UTC)
    site, since = site_at(now)
    crowd = Crowd(site, TIME_ZONE, since, PEOPLE, SEED, POPULARITY)
    reports = crowd.reports_until(now)
    number = 0
    async with connection.transaction():
        await calls.apply_site(connection, site)
        while batch := list(islice(reports, BATCH_EVENTS)):
            await _record(connection, batch, backfill=True)
            number += len(batch)
    return number


async def walk(connection: calls.Session) -> None:
    """Keeps people walking, from who is inside by the counts; returns after a gap in time."""
    site, _ = site_at(datetime.now(UTC))
    start = datetime.now(UTC)
    inside = await _inside(connection, site)
    seed = random.SystemRandom().getrandbits(32)
    crowd = Crowd(site, TIME_ZONE, start, PEOPLE, seed, POPULARITY, inside)
    before = start
    for tick in count():
        if tick % TICKS_PER_LOOK == 0:
            crowd.place(await _placements(connection, site))
        if tick % TICKS_PER_HEARTBEAT == 0:
            await _beat(connection, site)
        await asyncio.sleep(TICK_SECONDS)
        now = datetime.now(UTC)
        if now - before > LONGEST_GAP or now < before:
            return
        await _record(connection, crowd.reports_until(now))
        before = now


async def _placements(connection: calls.Session, site: SiteIn) -> list[SitePlacementIn]:
    """Where the demo's DPUs are now, should somebody have moved one; above a doorway of their own they see nobody."""
    dpus, doorways = {dpu.id for dpu in site.dpus}, {doorway.id for doorway in site.doorways}
    return [
        SitePlacementIn(
            dpu=dpu.id,
            doorway=dpu.placement.doorway,
            mounted_in=dpu.placement.mounted_in,
            from_=instants.of(dpu.placement.from_),
        )
        for dpu in await calls.list_dpus(connection, placed=True, max_rows=1000)
        if dpu.placement is not None and dpu.id in dpus and dpu.placement.doorway in doorways
    ]


async def _inside(connection: calls.Session, site: SiteIn) -> dict[str, int]:
    """How many people are in each space of the demo and in none of those below it."""
    counts = {
        row.space: row.raw_count for row in await calls.list_counts(connection, [space.id for space in site.spaces])
    }
    inside = dict(counts)
    for space in site.spaces:
        if isinstance(space.parent, str):
            inside[space.parent] -= counts[space.id]
    return {space: max(0, number) for space, number in inside.items()}


async def _beat(connection: calls.Session, site: SiteIn) -> None:
    """Heartbeats of the demo's DPUs: at night nobody passes, and they are online all the same."""
    dpus = [dpu.id for dpu in site.dpus]
    nothing = [None] * len(dpus)
    await calls.record_heartbeats(connection, dpus, nothing, nothing, auto_register=False)


async def _record(connection: calls.Session, reports: Iterable[Report], backfill: bool = False) -> None:
    batch = list(reports)
    if batch:
        await calls.record_events(
            connection,
            dpus=[report.dpu for report in batch],
            times=[to_datetime(report.at) for report in batch],
            directions=[report.direction for report in batch],
            sequences=[0] * len(batch),
            backfill=backfill,
        )


def passes(error: Exception) -> bool:
    """Whether the error is one of a database that is away for a while."""
    return problem_of(error).kind.code == "unavailable"
