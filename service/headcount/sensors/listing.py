"""GET /sensors: one read for all who ask at about the same time and may see the same."""

import asyncio
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from headcount.database import calls
from headcount.database.pool import Client, name_of
from headcount.wire.bodies import json_encoder, msgpack_encoder
from headcount.wire.messages.sensors import SensorOut
from headcount.wire.problems import Problem
from headcount.wire.shares import ClientQuota

# Reads at a time, and lists that may wait for theirs.
READS = 2
MAX_WAITING = 200
# Of one client, those under way included. What others wait for already is nobody's.
LISTS_OF_A_CLIENT = 4
# After a read there is a pause of so many times as long as it took, at most a second.
REST = 4.0
LONGEST_REST_SECONDS = 1.0


class Encoded(NamedTuple):
    """A body and its ETag."""

    content: bytes
    tag: str


class Listed:
    """The sensors of one read, those that are offline first, then by id."""

    def __init__(self, sensors: Sequence[SensorOut]) -> None:
        self.sensors = sensors
        self.encoding: dict[bool, asyncio.Task[Encoded]] = {}

    async def encoded(self, as_msgpack: bool) -> Encoded:
        """The whole list, encoded once for everybody, and not on the event loop."""
        if as_msgpack not in self.encoding:
            self.encoding[as_msgpack] = asyncio.create_task(asyncio.to_thread(encode, self.sensors, as_msgpack))
        return await asyncio.shield(self.encoding[as_msgpack])

    def after(self, place: "Place | None", limit: int) -> Sequence[SensorOut]:
        """At most so many, from behind a place on."""
        start = 0 if place is None else bisect_right(self.sensors, place, key=place_of)
        return self.sensors[start : start + limit]


class Place(NamedTuple):
    """Where a sensor stands in a list."""

    is_not_offline: bool
    id: str


def place_of(sensor: SensorOut) -> Place:
    return Place(sensor.state != "offline", sensor.id)


def encode(sensors: Sequence[SensorOut], as_msgpack: bool) -> Encoded:
    """One by one: a call that encodes all of them lets no other thread run until it ends."""
    if as_msgpack:
        head = b"\xdd" + len(sensors).to_bytes(4)
        content = head + b"".join([msgpack_encoder.encode(sensor) for sensor in sensors])
    else:
        content = b"[" + b",".join([json_encoder.encode(sensor) for sensor in sensors]) + b"]"
    return Encoded(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Key(NamedTuple):
    """Who asks the same may see the same: everything, or what one limited token reaches."""

    token: str | None
    space: str | None
    state: str | None


class Sensors:
    """Reads lists of sensors. No answer is older than its request: whoever comes while one is being read waits for the
    next, together with all who ask the same meanwhile. The pauses bound what very long lists cost the database."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(READS)
        self.waiting: dict[Key, asyncio.Task[Listed]] = {}
        self.lists_of = ClientQuota(LISTS_OF_A_CLIENT, "lists of sensors")
        self.not_before: dict[Key, float] = {}  # by the loop's clock

    async def list(self, session: calls.Session, space: str | None, state: str | None) -> Listed:
        """Raises Problem: 404 for an unknown space, 429 and 503 where too many lists wait."""
        key = Key(session.limited_to if isinstance(session, Client) else None, space, state)
        if key not in self.waiting:
            if len(self.waiting) >= MAX_WAITING:
                raise Problem("unavailable", "Too many lists of sensors wait for the database. Try again.")
            self.lists_of.check(client := name_of(session))
            self.lists_of.add(client, 1)
            self.waiting[key] = task = asyncio.create_task(self._read(session, key))
            task.add_done_callback(lambda _: self.lists_of.add(client, -1))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # maybe nobody waits any more
        # Whoever goes away does not take the read away from the others.
        return await asyncio.shield(self.waiting[key])

    async def _read(self, session: calls.Session, key: Key) -> Listed:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self.not_before.get(key, 0.0) - loop.time())
            await self.turn.acquire()
        finally:
            del self.waiting[key]
        begun = loop.time()
        try:
            # What is read for several is in nobody's share.
            if isinstance(session, Client):
                session = Client(session.database, limited_to=key.token, is_slow=True)
            return Listed(await calls.list_sensors(session, key.space, key.state))
        finally:
            self.turn.release()
            ended = loop.time()
            self.not_before = {key: until for key, until in self.not_before.items() if until > ended}
            self.not_before[key] = ended + min(REST * (ended - begun), LONGEST_REST_SECONDS)
