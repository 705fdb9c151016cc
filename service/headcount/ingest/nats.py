"""What comes through NATS: messages of a JetStream stream, each acknowledged after its commit and never before."""

import asyncio
import logging
import math
import random
import re
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import BadHeaderError, ConnectionClosedError, Error, MaxPayloadError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError

from headcount.database.batching import is_overload
from headcount.ingest.formats import printable
from headcount.ingest.nats_pulls import Pulls
from headcount.logs import LogThrottle
from headcount.metrics import StreamMetrics
from headcount.settings import Settings
from headcount.wire.problems import Problem, in_words, problem_of
from headcount.wire.threads import AT_ONCE_BYTES, TakesTime, WorkerThreads, in_a_hurry

# Bytes of bodies that are held; a pull asks for as many messages as are expected to fit, and for no more bytes at all.
MAX_BYTES = 16 * 1024 * 1024
# Bodies that are decoded before others have their turn, and we look again whether there is room for what they hold.
SLICE_BYTES = 512 * 1024
# What a message counts for there at least: small ones cost time too.
LEAST_BYTES = 4 * 1024
# How often a single message that is refused is tried again: after this, and twice as long each time.
RETRY_SECONDS = 5.0
LONGEST_RETRY = 60.0
# Messages of which we remember how often they were refused.
REMEMBERED = 20_000
# While the database is away.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
# Something was committed just now: the fault is the message's own, and not everybody's. Shorter than all its retries.
PROOF_SECONDS = 30.0
LAG_SECONDS = 5.0
API_SECONDS = 5.0
RECONNECT_SECONDS = 1
# Consumers of one queue together; what is beyond waits in the stream.
MAX_UNACKNOWLEDGED = 20_000
# Dead letters are for people: the oldest make room. The server sets aside as much.
DEAD_BYTES = 128 * 1024**2
REASON_BYTES = 1_000
# Names of headers that can be written. Others are left out of dead letters, as are those that the server reads, and
# those that a reader would take for the server's.
HEADER_NAME = re.compile(r"(?!nats-|headcount-|status$|description$)[!#$%&'*+.^_`|~0-9a-z-]+", re.IGNORECASE)
SHOWN_NAMES = 3
MESSAGE_TOO_LARGE = 10054  # the stream's own limit
# Messages of a subject that take time: so many from the thread to the commit at once. Of what is held a quarter is one
# subject's that waits for that.
SLOW_AT_ONCE = 2
# Further ones come again: about when it is their turn, by how long others took, but within this time; and so many at
# most, or bytes of them, of a subject. Beyond that all subjects wait.
POSTPONE_SECONDS = 0.5
LONGEST_POSTPONEMENT = 50.0
MAX_POSTPONED = 10_000
MAX_POSTPONED_BYTES = 400 * 1024 * 1024
# A little earlier, so that there is always one to go on with; and what one took counts so much in the mean.
EARLY = 0.8
WEIGHT_OF_LAST = 0.2
# A message that costs the event loop more is charged to its subject, which may have a tenth of the time and a little
# at once; what is beyond is done by threads.
DEAR_SECONDS = 0.001
# What is beyond this for each item is not its own: a garbage collection that fell into its time.
ITEM_SECONDS = 0.00002
DEAR_SHARE = 0.1
DEAR_AT_ONCE = 0.05
LONGEST_HEADERS = 16 * 1024

log = logging.getLogger("headcount.consumer")

Decoded = TypeVar("Decoded")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages come from, and with what the stream and its consumer are created if they are not there.

    `batch`: messages held at a time. `deliveries`: what is refused for reasons of its own that often is a dead letter.
    """

    stream: str = "headcount-events"
    subject: str = "headcount.events.>"
    durable: str = "headcount-events"
    dead_stream: str = "headcount-dead"
    dead_subject: str = "headcount.dead"
    replicas: int = 1
    max_bytes: int | None = None
    max_age_seconds: float | None = None
    max_per_subject: int | None = None
    ack_seconds: float = 30.0
    batch: int = 1_000
    deliveries: int = 5
    retry_seconds: float = RETRY_SECONDS


class Misconfigured(Exception):
    """The server refuses what the consumer needs, and always will."""


class Undecodable(Exception):
    """A message that is of no format at all; or, by the error, one that our decoder fails with."""

    def __init__(self, problem: Problem, error: Exception | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.error = error


class Postponed(Exception):
    """Too many messages of its subject wait for their turn: it is to come again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Body(msgspec.Struct, frozen=True):
    """What a message holds, its headers where it has some, and when the stream got it."""

    data: bytes
    content_type: str
    content_encoding: str
    at: datetime


class Held(msgspec.Struct):
    """A message that was pulled and is neither acknowledged nor given back; `since` by the monotonic clock."""

    message: Msg
    since: float
    task: "asyncio.Task[None] | None" = None


class Lane:
    """Of one subject: what it cost of late, and its messages that take time, of which a few have their turn."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(SLOW_AT_ONCE)
        self.waiting = 0
        self.bytes = 0
        self.seconds = 0.05  # from one that is done to the next
        self.postponed_to = -math.inf
        self.postponed: list[tuple[float, int]] = []  # a heap: when they come again, and their bytes
        self.postponed_bytes = 0
        self.charged = 0.0
        self.charged_at = -math.inf

    def charge(self, seconds: float) -> None:
        """What a message cost the event loop."""
        now = time.monotonic()
        self.charged = max(self.charged - (now - self.charged_at) * DEAR_SHARE, 0.0) + seconds
        self.charged_at = now

    def is_dear(self) -> bool:
        return self.charged - (time.monotonic() - self.charged_at) * DEAR_SHARE > DEAR_AT_ONCE

    def note_turn(self, seconds: float) -> None:
        self.seconds += (seconds / SLOW_AT_ONCE - self.seconds) * WEIGHT_OF_LAST

    def postpone(self, size: int) -> float | None:
        """After how many seconds one more message, of so many bytes, is to come again. None: it has to wait here."""
        now = time.monotonic()
        while self.postponed and self.postponed[0][0] < now:
            self.postponed_bytes -= heappop(self.postponed)[1]
        if len(self.postponed) >= MAX_POSTPONED or self.postponed_bytes + size > MAX_POSTPONED_BYTES:
            return None
        self.postponed_to = max(self.postponed_to + self.seconds * EARLY, now + POSTPONE_SECONDS)
        if self.postponed_to > now + LONGEST_POSTPONEMENT:
            self.postponed_to = now + LONGEST_POSTPONEMENT
            seconds = random.uniform(LONGEST_POSTPONEMENT / 2, LONGEST_POSTPONEMENT)
        else:
            seconds = self.postponed_to - now
        heappush(self.postponed, (now + seconds, size))
        self.postponed_bytes += size
        return seconds

    def is_idle(self) -> bool:
        """Whether one made anew would do the same."""
        now = time.monotonic()
        comes_again = any(at >= now for at, _ in self.postponed)
        return not (self.waiting or comes_again) and self.charged <= (now - self.charged_at) * DEAR_SHARE


class Consumer(Generic[Decoded]):
    """One of any number that share the messages of a stream.

    `decode` raises Problem for what is of no format; `record`, which is told the subject as well, returns after the
    commit. While the database is away nothing is pulled and what is held is given back, to come again later.

    Whoever may publish to one subject only delays no others by what is published there. What is decoded at once is
    held up by nothing but the database; `weigh` says how many items it has, of which `room` may wait for that. What
    takes time is decoded by `threads`; of each subject a few such messages are under way or wait, and the rest comes
    again later. No message ends the consumer.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        metrics: StreamMetrics,
        *,
        decode: Callable[[Body], Decoded],
        record: Callable[[Decoded, str], Awaitable[object]],
        weigh: Callable[[Decoded], int] = lambda _: 1,
        room: float = math.inf,
        threads: WorkerThreads | None = None,
        stop_seconds: float = 30.0,
    ) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=API_SECONDS)
        self.source = source
        self.metrics = metrics
        self.decode = decode
        self.record = record
        self.weigh = weigh
        self.room = room
        self.threads = threads or WorkerThreads()
        self.stop_seconds = stop_seconds
        self.ack_seconds = source.ack_seconds
        self.held: dict[str, Held] = {}
        self.bytes = 0
        self.typical_bytes = 1_000.0
        self.pulled: deque[Held] = deque()  # those of them that nobody has begun with
        self.items = 0
        self.lanes: dict[str, Lane] = {}
        # By sequence in the stream: deliveries count what was postponed, too.
        self.refusals: OrderedDict[int, int] = OrderedDict()
        self.released = asyncio.Event()
        self.stopping = asyncio.Event()
        self.is_gone = False
        self.pause = 0.0
        self.resume_at = -math.inf
        self.committed_at = -math.inf
        self.lines = LogThrottle()
        metrics.held.labels(source.stream).set_function(lambda: len(self.held))

    async def run(self) -> None:
        """Until it is cancelled; then what it holds is stored or given back.

        Raises Misconfigured, at first only, and ConnectionClosedError when the client has given up its connection.
        """
        pulls = await self._bind_at_first()
        tasks = [asyncio.create_task(work) for work in (self._pull(pulls), self._keep(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.stopping.set()
            await asyncio.wait(tasks[:1])
            await self._finish()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # Stream and consumer

    async def _bind_at_first(self) -> Pulls:
        while True:
            try:
                return await self._bind()
            except BadRequestError as error:
                raise Misconfigured(error.description or str(error)) from None
            except ConnectionClosedError:
                raise
            except Error as error:
                self._complain("There is no stream yet", error)
            await self._sleep(RECONNECT_SECONDS)

    async def _bind(self) -> Pulls:
        """Creates what is missing; what is there stays as it is."""
        source = self.source
        await self._make_stream(
            source.stream,
            [source.subject],
            # Kept until it is acknowledged. What does not fit is refused, so that its sender knows.
            retention=api.RetentionPolicy.WORK_QUEUE,
            discard=api.DiscardPolicy.NEW,
            max_bytes=source.max_bytes,
            max_age=source.max_age_seconds,
            max_per_subject=source.max_per_subject,
        )
        await self._make_stream(source.dead_stream, [source.dead_subject], max_bytes=DEAD_BYTES)
        try:
            info = await self.jetstream.consumer_info(source.stream, source.durable)
        except NotFoundError:
            info = await self.jetstream.add_consumer(
                source.stream,
                api.ConsumerConfig(
                    name=source.durable,
                    durable_name=source.durable,
                    filter_subject=source.subject,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=source.ack_seconds,
                    # How often is decided here: an outage makes no dead letters.
                    max_deliver=-1,
                    max_ack_pending=MAX_UNACKNOWLEDGED,
                ),
            )
        if info.config.filter_subject != source.subject:
            # It would get what is for another, and acknowledge it.
            raise Misconfigured(f"{source.durable} is there already, for {info.config.filter_subject}")
        self.ack_seconds = info.config.ack_wait or source.ack_seconds
        log.info("Consuming %s of stream %s as %s", source.subject, source.stream, source.durable)
        self.refusals.clear()  # another stream may have the same numbers
        pulls = Pulls(self.client, source.stream, source.durable, self._hold)
        await pulls.open()
        return pulls

    async def _make_stream(
        self,
        name: str,
        subjects: list[str],
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        max_per_subject: int | None = None,
        retention: api.RetentionPolicy = api.RetentionPolicy.LIMITS,
        discard: api.DiscardPolicy = api.DiscardPolicy.OLD,
    ) -> None:
        try:
            await self.jetstream.stream_info(name)
        except NotFoundError:
            if name.startswith("$"):  # one of the server's own, such as $MQTT_msgs, which it makes when it needs it
                raise
            await self.jetstream.add_stream(
                api.StreamConfig(
                    name=name,
                    subjects=subjects,
                    retention=retention,
                    discard=discard,
                    storage=api.StorageType.FILE,
                    max_bytes=max_bytes,
                    max_age=max_age,
                    max_msgs_per_subject=max_per_subject or -1,
                    discard_new_per_subject=max_per_subject is not None,
                    num_replicas=self.source.replicas,
                )
            )

    # Pulling

    async def _pull(self, bound: Pulls) -> None:
        pulls: Pulls | None = bound
        while not self.stopping.is_set():
            try:
                if pulls is None or self.is_gone:
                    if pulls:
                        await pulls.close()
                    pulls, self.is_gone = None, False
                    pulls = await self._bind()
                if not pulls.is_under_way():
                    await self._sleep(self.resume_at - time.monotonic())
                    await self._wait_until(lambda: bool(self.pulled) or self._has_room())
                    if self.stopping.is_set():
                        break
                    if not self.pulled:
                        await pulls.ask(self._room_now(), MAX_BYTES)
                await pulls.wait()
                await self._begin()
            except ConnectionClosedError:
                raise
            except Exception as error:
                self._complain("Messages cannot be pulled", error)
                await self._sleep(RECONNECT_SECONDS)
                if pulls is not None:
                    await pulls.close()
                pulls = None
        if pulls is not None:
            await pulls.end()  # what it brings is given back

    def _has_room(self) -> bool:
        return len(self.held) <= self.source.batch // 2 and self.bytes <= MAX_BYTES // 2

    def _room_now(self) -> int:
        """How many messages to ask for."""
        fitting = int((MAX_BYTES - self.bytes) / self.typical_bytes)
        return max(1, min(self.source.batch - len(self.held), fitting))

    def _hold(self, message: Msg) -> None:
        """As soon as it is there: from then on the server is told that it is worked on."""
        held = Held(message, time.monotonic())
        self.held[message.reply] = held
        self.bytes += len(message.data)
        self.pulled.append(held)
        self.released.set()

    async def _begin(self) -> None:
        """With what was pulled."""
        if not self.pulled:
            return
        self.metrics.pulled.labels(self.source.stream).observe(len(self.pulled))
        again = sum(held.message.metadata.num_delivered > 1 for held in self.pulled)
        self.metrics.again.labels(self.source.stream).inc(again)
        mean = sum(len(held.message.data) for held in self.pulled) / len(self.pulled)
        self.typical_bytes = max(self.typical_bytes * 0.9, mean, 1.0)
        begun = 0
        for _ in range(len(self.pulled)):
            if begun > SLICE_BYTES:
                begun = 0
                await asyncio.sleep(0)  # what was begun is decoded now, and counts
                await self._wait_until(lambda: self.items < self.room)
            if self.stopping.is_set():
                return
            held = self.pulled.popleft()
            begun += max(len(held.message.data), LEAST_BYTES)
            held.task = asyncio.create_task(self._handle(held.message))

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Looks again whenever a message is done with."""
        while not condition() and not self.stopping.is_set():
            self.released.clear()
            await self.released.wait()

    async def _sleep(self, seconds: float) -> None:
        """A stop ends it."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), seconds)

    # One message

    async def _handle(self, message: Msg) -> None:
        try:
            try:
                await self._store(message)
            except Undecodable as error:
                await self._bury(message, error.problem, error.error)
            except Postponed as error:
                self._complain("Messages that take time wait for others of their subject", error)
                await self._give_back(message, error.seconds)
            except Exception as error:
                await self._refuse(message, error)
            else:
                self.pause = 0.0
                self.committed_at = time.monotonic()
                await self._acknowledge(message)
                self._count("stored")
        except Error as error:
            # It comes again when nobody has acknowledged it: nothing counts twice.
            self._complain("NATS cannot be told what became of a message", error)
        except Exception as error:
            self._complain("It is not known what became of a message", error)
        finally:
            self._release(message)

    def _release(self, message: Msg) -> None:
        if self.held.pop(message.reply, None):
            self.bytes -= len(message.data)
        self.released.set()

    async def _store(self, message: Msg) -> None:
        """Raises Undecodable, Postponed, or what `record` does."""
        given = {name.lower(): value for name, value in (message.headers or {}).items()}
        content_type, content_encoding = given.get("content-type", ""), given.get("content-encoding", "")
        body = Body(message.data, content_type, content_encoding, message.metadata.timestamp)
        lane = self.lanes.get(message.subject)
        if len(body.data) <= AT_ONCE_BYTES and not (lane and lane.is_dear()):
            begun = time.thread_time()
            try:
                decoded = in_a_hurry(self._decode, body)
            except TakesTime:
                pass
            else:
                items = self.weigh(decoded)
                if (seconds := min(time.thread_time() - begun, items * ITEM_SECONDS)) > DEAR_SECONDS:
                    self._lane(message.subject).charge(seconds)
                await self._record_at_once(decoded, items, message.subject)
                return
        async with self._turn_of(message):
            decoded = await self.threads.run(message.subject, lambda: self._decode(body))
            await self.record(decoded, message.subject)

    def _decode(self, body: Body) -> Decoded:
        try:
            return self.decode(body)
        except (TakesTime, MemoryError):
            raise
        except Problem as problem:
            raise Undecodable(problem) from None
        except Exception as error:
            raise Undecodable(problem_of(error), error) from error

    async def _record_at_once(self, decoded: Decoded, items: int, subject: str) -> None:
        self.items += items
        try:
            await self.record(decoded, subject)
        finally:
            self.items -= items

    @asynccontextmanager
    async def _turn_of(self, message: Msg) -> AsyncIterator[None]:
        """Its subject's, for what takes time. Raises Postponed where too many wait for that."""
        lane = self._lane(message.subject)
        size = len(message.data)
        if lane.waiting and (lane.waiting >= self.source.batch // 4 or lane.bytes + size > MAX_BYTES // 4):
            seconds = lane.postpone(size)
            if seconds is not None:
                raise Postponed(seconds)
        lane.waiting += 1
        lane.bytes += size
        try:
            async with lane.turn:
                begun = time.monotonic()
                yield
            lane.note_turn(time.monotonic() - begun)
        finally:
            lane.waiting -= 1
            lane.bytes -= size

    def _lane(self, subject: str) -> Lane:
        return self.lanes.setdefault(subject, Lane())

    async def _refuse(self, message: Msg, error: Exception) -> None:
        """It was not stored. If that is the message's own fault, it comes again a few times only."""
        problem = problem_of(error)
        if problem.kind.code == "clock_suspect":
            # Others may be stored: what is of the past.
            self._complain("Nothing from ahead of the clock is stored", error)
            delay = LONGEST_PAUSE
        elif problem.kind.code == "unavailable":
            if is_overload(error):
                self._back_off(error)
            delay = max(self.pause, FIRST_PAUSE)
        elif problem.kind.code == "rate_limited":  # too much of its subject waits for the database
            delay = POSTPONE_SECONDS
        else:
            refusals = self._refused(message)
            if refusals >= self.source.deliveries and time.monotonic() - self.committed_at < PROOF_SECONDS:
                await self._bury(message, problem, error)
                return
            delay = self._retry_delay(refusals)
            self._complain(f"A message of {printable(message.subject)} was not stored", error)
        await self._give_back(message, delay)

    def _refused(self, message: Msg) -> int:
        """How often it was, this time included."""
        number = message.metadata.sequence.stream
        refusals = self.refusals.pop(number, 0) + 1
        self.refusals[number] = refusals
        if len(self.refusals) > REMEMBERED:
            self.refusals.popitem(last=False)
        return refusals

    def _retry_delay(self, refusals: int) -> float:
        return min(self.source.retry_seconds * 2.0 ** min(refusals - 1, 10), LONGEST_RETRY)

    async def _give_back(self, message: Msg, seconds: float) -> None:
        await message.nak(delay=seconds)
        self._count("returned")

    async def _acknowledge(self, message: Msg) -> None:
        await message.ack()
        self.refusals.pop(message.metadata.sequence.stream, None)

    def _back_off(self, error: Exception) -> None:
        """Nothing is pulled for a while, longer each time; all that fail together count once."""
        now = time.monotonic()
        if now >= self.resume_at:
            self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
            self.resume_at = now + self.pause
            self._complain("Nothing can be stored", error)

    async def _bury(self, message: Msg, problem: Problem, error: Exception | None = None) -> None:
        """Puts it among the dead letters with the reason, and only then acknowledges it."""
        metadata = message.metadata
        reason = f"{problem.detail} ({type(error).__name__}: {error})" if error else problem.detail
        given = message.headers or {}
        kept = {name: value for name, value in given.items() if HEADER_NAME.fullmatch(name)}
        if left := [name for name in given if name not in kept and not name.startswith(("Nats-", "Headcount-"))]:
            more = f" and {len(left) - SHOWN_NAMES} more" if len(left) > SHOWN_NAMES else ""
            reason = f"{reason[: REASON_BYTES // 2]} Left out headers: {', '.join(left[:SHOWN_NAMES])}{more}."
        reasons = {
            "Headcount-Code": problem.kind.code,
            "Headcount-Reason": _in_a_header(reason),
            "Headcount-Subject": _in_a_header(message.subject),
            "Headcount-Stream": metadata.stream,
            "Headcount-Sequence": str(metadata.sequence.stream),
            "Headcount-Deliveries": str(metadata.num_delivered),
            # One that is buried again, because its acknowledgement was lost, is there once.
            "Nats-Msg-Id": f"{metadata.stream}-{metadata.sequence.stream}-{int(metadata.timestamp.timestamp())}",
        }
        body, headers = message.data, kept | reasons
        # The client looks at the body only, and the server cuts the connection.
        if len(body) + _size(headers) > self.client.max_payload:
            headers = reasons | {"Headcount-Cut-From": str(len(body))}
            body = body[: max(self.client.max_payload - _size(headers), 0)]
        try:
            await self.jetstream.publish(self.source.dead_subject, body, headers=headers)
        except Exception as failed:
            await self._keep_or_drop(message, reason, failed)
            return
        await self._acknowledge(message)
        self._count("dead")
        if (left_out := self.lines.admit("dead")) is not None:
            log.warning(
                "A message of %s is among the dead letters: %s; and %d more",
                printable(message.subject),
                _in_a_header(reason),
                left_out,
            )

    async def _keep_or_drop(self, message: Msg, reason: str, failed: Exception) -> None:
        """A message of which no dead letter could be written. If that is its own fault, it is tried a few times only:
        it would be one of those that keep others from being delivered."""
        if isinstance(failed, NoStreamResponseError):
            self.is_gone = True  # the stream of dead letters is made anew with the rest
        refusals = self._refused(message)
        if refusals >= self.source.deliveries and _is_of_the_letter(failed):
            await message.term()
            self._count("dropped")
            if (left_out := self.lines.admit("dropped")) is not None:
                log.error(
                    "A message of %s (%d of its stream) is dropped: %s; no dead letter can be written (%s: %s);"
                    " and %d more",
                    printable(message.subject),
                    message.metadata.sequence.stream,
                    _in_a_header(reason),
                    type(failed).__name__,
                    failed,
                    left_out,
                )
            return
        self._complain("A dead letter cannot be written", failed)
        await self._give_back(message, self._retry_delay(refusals))

    # Beside it

    async def _keep(self) -> None:
        """Tells the server what is still worked on, so that it is not delivered to another."""
        while True:
            await asyncio.sleep(self.ack_seconds / 3)
            before = time.monotonic() - self.ack_seconds / 4
            for held in [held for held in self.held.values() if held.since < before]:
                with suppress(Error):
                    await held.message.in_progress()

    async def _watch(self) -> None:
        while True:
            info: api.ConsumerInfo | None = None
            try:
                info = await self.jetstream.consumer_info(self.source.stream, self.source.durable)
            except NotFoundError:
                self.is_gone = True  # a pull would wait for ever
            except Error:
                pass
            except Exception as error:
                self._complain("The answer of NATS about the consumer cannot be read", error)
            self.metrics.note_lag(self.source.stream, info)
            for subject in [subject for subject, lane in self.lanes.items() if lane.is_idle()]:
                del self.lanes[subject]
            await asyncio.sleep(LAG_SECONDS)

    async def _finish(self) -> None:
        """What is being stored is acknowledged; the rest is given back, for others to have it at once."""
        if tasks := [held.task for held in self.held.values() if held.task]:
            await asyncio.wait(tasks, timeout=self.stop_seconds)
        for held in list(self.held.values()):
            with suppress(Error):  # or it was done with just now
                await held.message.nak()
                self._count("returned")
            self._release(held.message)
        with suppress(Error):
            await self.client.flush(int(API_SECONDS))

    def _count(self, outcome: str) -> None:
        self.metrics.messages.labels(self.source.stream, outcome).inc()

    def _complain(self, what: str, error: Exception) -> None:
        if (left_out := self.lines.admit(what)) is not None:
            log.warning("%s (%s); and %d alike", what, in_words(error), left_out)


def _size(headers: dict[str, str]) -> int:
    """Of headers as they are sent: `NATS/1.0`, a line each, an empty one."""
    return 12 + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())


def _is_of_the_letter(error: Exception) -> bool:
    """Whether writing it fails for what is in it, and not since the server cannot."""
    if isinstance(error, APIError):
        return error.err_code == MESSAGE_TOO_LARGE
    return isinstance(error, BadHeaderError | MaxPayloadError) or not isinstance(error, Error | OSError)


def _in_a_header(text: str) -> str:
    return printable(text[:REASON_BYTES]).encode("ascii", "backslashreplace").decode()[:REASON_BYTES]


class TolerantClient(Client):
    """nats-py's reads nothing more once it met headers or a subject that it cannot read. Of headers this one reads the
    first part only, which is more than ours have."""

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        if headers and len(headers) > LONGEST_HEADERS:
            headers = headers[:LONGEST_HEADERS].rpartition(b"\r\n")[0] + b"\r\n\r\n"
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except Exception:
            return None
        return found

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        readable = subject.decode("utf-8", "backslashreplace").encode()
        return super()._build_message(sid, readable, reply, data, headers)


@asynccontextmanager
async def connected_to(settings: Settings) -> AsyncIterator[Client]:
    """A connection that comes back by itself, to whichever of the servers answers. Waits for a first one."""
    lines = LogThrottle()

    async def complain(error: Exception) -> None:
        # those of a websocket quote its address, and with it a password
        words = error if isinstance(error, Error | OSError) else "not connected"
        if (left_out := lines.admit(str(words))) is not None:
            log.warning("NATS: %s (%s); and %d alike", words, type(error).__name__, left_out)

    client = TolerantClient()
    await client.connect(
        servers(settings),
        name="headcount consume",
        error_cb=complain,
        tls=tls_context(settings),
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_SECONDS,
        ping_interval=10,
        max_outstanding_pings=2,
    )
    try:
        yield client
    finally:
        await client.close()


def servers(settings: Settings) -> list[str]:
    return [url.strip() for url in (settings.nats_url or "").split(",") if url.strip()]


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None: what Python trusts, where the server asks for TLS. Raises OSError for files that cannot be used."""
    if settings.nats_ca is None and settings.nats_certificate is None:
        return None
    context = ssl.create_default_context(cafile=settings.nats_ca)
    if settings.nats_certificate is not None:
        context.load_cert_chain(settings.nats_certificate, settings.nats_key)
    return context
