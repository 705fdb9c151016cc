"""GET /sensors: pages, and whole lists, of which those who ask together and may see the same share a read."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from headcount.database import calls
from headcount.database.pool import Client, name_of
from headcount.wire import paging
from headcount.wire.bodies import json_encoder, msgpack_encoder
from headcount.wire.messages.sensors import SensorOut, SensorsQuery
from headcount.wire.problems import Problem
from headcount.wire.shares import ClientQuota
from headcount.wire.threads import breathe, breathing

# Reads at a time, and lists that may wait for theirs.
READS = 2
MAX_WAITING = 200
# Of one client, those under way included. What others wait for already is nobody's.
LISTS_OF_A_CLIENT = 4
# After a read there is a pause of so many times as long as it took, at most a second: for who asks the same, and for
# whatever else its client asks. Those of a client add up.
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
            work = asyncio.to_thread(breathing, encode, self.sensors, as_msgpack)
            self.encoding[as_msgpack] = asyncio.create_task(work)
        return await asyncio.shield(self.encoding[as_msgpack])


class Place(NamedTuple):
    """Where a sensor stands in a list."""

    is_not_offline: bool
    id: str


def place_of(sensor: SensorOut) -> Place:
    return Place(sensor.state != "offline", sensor.id)


async def list_page(session: calls.Session, params: SensorsQuery, max_rows: int) -> Sequence[SensorOut]:
    """At most so many, from behind the place that the query names on. Raises Problem: 404, 422."""
    place = paging.read(params.after, Place) if params.after else None
    after_offline = None if place is None else not place.is_not_offline
    after_id = None if place is None else place.id
    return await calls.list_sensors(session, params.space, params.state, after_offline, after_id, max_rows)


def encode(sensors: Sequence[SensorOut], as_msgpack: bool) -> Encoded:
    """One by one: a call that encodes all of them lets no other thread run until it ends."""
    encode_one = msgpack_encoder.encode if as_msgpack else json_encoder.encode
    found = []
    for number, sensor in enumerate(sensors):
        breathe(number)
        found.append(encode_one(sensor))
    head = b"\xdd" + len(sensors).to_bytes(4)
    content = head + b"".join(found) if as_msgpack else b"[" + b",".join(found) + b"]"
    return Encoded(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Key(NamedTuple):
    """Who asks the same may see the same: everything, or what one limited token reaches."""

    token: str | None
    space: str | None
    state: str | None


class Waiting:
    """A read that has not begun, and when it may (by the loop's clock)."""

    def __init__(self, not_before: float) -> None:
        self.not_before = not_before
        self.hurry = asyncio.Event()
        self.task: asyncio.Task[Listed] | None = None

    def hasten(self, not_before: float) -> None:
        """Somebody joins whom it need not keep waiting for so long."""
        if not_before < self.not_before:
            self.not_before = not_before
            self.hurry.set()

    async def rest(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self.not_before - loop.time()) > 0:
            self.hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.hurry.wait()


class Sensors:
    """Reads whole lists. No answer is older than its request: whoever comes while one is being read waits for the next,
    together with all who ask the same meanwhile. The pauses bound what very long lists cost the database."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(READS)
        self.waiting: dict[Key, Waiting] = {}
        self.lists_of = ClientQuota(LISTS_OF_A_CLIENT, "lists of sensors")
        # Of what is asked, and of clients; by the loop's clock.
        self.not_before: dict[Key | str, float] = {}

    async def list(self, session: calls.Session, params: SensorsQuery) -> Listed:
        """Raises Problem: 404 for an unknown space, 429 and 503 where too many lists wait."""
        key = Key(session.limited_to if isinstance(session, Client) else None, params.space, params.state)
        client = name_of(session)
        not_before = max(self.not_before.get(key, 0.0), self.not_before.get(client, 0.0) if client else 0.0)
        waiting = self.waiting.get(key)
        if waiting is None:
            if len(self.waiting) >= MAX_WAITING:
                raise Problem("unavailable", "Too many lists of sensors wait for the database. Try again.")
            self.lists_of.check(client)
            self.lists_of.add(client, 1)
            waiting = self.waiting[key] = Waiting(not_before)
            waiting.task = asyncio.create_task(self._read(session, key, client, waiting))
            waiting.task.add_done_callback(lambda _: self.lists_of.add(client, -1))
            waiting.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # maybe nobody waits now
        else:
            waiting.hasten(not_before)
        assert waiting.task is not None
        # Whoever goes away does not take the read away from the others.
        return await asyncio.shield(waiting.task)

    async def _read(self, session: calls.Session, key: Key, client: str | None, waiting: Waiting) -> Listed:
        loop = asyncio.get_running_loop()
        try:
            await waiting.rest()
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
            self.not_before = {who: until for who, until in self.not_before.items() if until > ended}
            rest = min(REST * (ended - begun), LONGEST_REST_SECONDS)
            self.not_before[key] = ended + rest
            if client is not None:
                self.not_before[client] = self.not_before.get(client, ended) + rest
