"""What comes through NATS: messages of a JetStream stream, each acknowledged after its commit and never before."""

import asyncio
import logging
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Generic, TypeVar

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, Error
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError

from headcount.database.batching import is_overload
from headcount.ingest.formats import printable
from headcount.logs import LogThrottle
from headcount.metrics import StreamMetrics
from headcount.settings import Settings
from headcount.wire.problems import Problem, problem_of

# A pull waits so long for a first message; a stop waits for the pull.
PULL_SECONDS = 1.0
# Bytes of bodies that are held; a pull asks for as many messages as are expected to fit.
MAX_BYTES = 16 * 1024 * 1024
# Bodies that are decoded before we look again whether there is room for what they hold.
SLICE_BYTES = 512 * 1024
# How often a single message that is refused is tried again: after this, and twice as long each time.
RETRY_SECONDS = 5.0
LONGEST_RETRY = 60.0
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
    ack_seconds: float = 30.0
    batch: int = 1_000
    deliveries: int = 5
    retry_seconds: float = RETRY_SECONDS


class Misconfigured(Exception):
    """The server refuses what the consumer needs, and always will."""


class Undecodable(Exception):
    """A message that is of no format at all."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


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


class Consumer(Generic[Decoded]):
    """One of any number that share the messages of a stream.

    `decode` raises Problem for what is of no format; `record` returns after the commit. While the database is away
    nothing is pulled and what is held is given back, to come again later.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        metrics: StreamMetrics,
        *,
        decode: Callable[[Body], Decoded],
        record: Callable[[Decoded], Awaitable[object]],
        has_room: Callable[[], bool] = lambda: True,
        stop_seconds: float = 30.0,
    ) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=API_SECONDS)
        self.source = source
        self.metrics = metrics
        self.decode = decode
        self.record = record
        self.has_room = has_room
        self.stop_seconds = stop_seconds
        self.ack_seconds = source.ack_seconds
        self.held: dict[str, Held] = {}
        self.bytes = 0
        self.typical_bytes = 1_000.0
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
        subscription = await self._bind_at_first()
        tasks = [asyncio.create_task(work) for work in (self._pull(subscription), self._keep(), self._watch())]
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

    async def _bind_at_first(self) -> JetStreamContext.PullSubscription:
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

    async def _bind(self) -> JetStreamContext.PullSubscription:
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
        return await self.jetstream.pull_subscribe_bind(stream=source.stream, consumer=source.durable)

    async def _make_stream(
        self,
        name: str,
        subjects: list[str],
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
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
                    num_replicas=self.source.replicas,
                )
            )

    # Pulling

    async def _pull(self, bound: JetStreamContext.PullSubscription) -> None:
        subscription: JetStreamContext.PullSubscription | None = bound
        while not self.stopping.is_set():
            try:
                if subscription is None or self.is_gone:
                    subscription = await self._bind()
                    self.is_gone = False
                await self._sleep(self.resume_at - time.monotonic())
                await self._wait_until(lambda: len(self.held) <= self.source.batch // 2)
                if self.stopping.is_set():
                    return
                messages = await subscription.fetch(self._room(), PULL_SECONDS)
            except TimeoutError:
                continue  # nothing there, or no answer: both took their time
            except ConnectionClosedError:
                raise
            except (Error, OSError) as error:
                self._complain("Messages cannot be pulled", error)
                if subscription is not None:
                    with suppress(Error):
                        await subscription.unsubscribe()
                subscription = None
                await self._sleep(RECONNECT_SECONDS)
                continue
            if messages:  # a pull may end with none
                await self._take(messages)

    def _room(self) -> int:
        """How many messages to ask for."""
        fitting = int((MAX_BYTES - self.bytes) / self.typical_bytes)
        return max(1, min(self.source.batch - len(self.held), fitting))

    async def _take(self, messages: list[Msg]) -> None:
        self.metrics.pulled.labels(self.source.stream).observe(len(messages))
        again = sum(message.metadata.num_delivered > 1 for message in messages)
        self.metrics.again.labels(self.source.stream).inc(again)
        now = time.monotonic()
        taken = [Held(message, now) for message in messages]
        for held in taken:
            self.held[held.message.reply] = held
            self.bytes += len(held.message.data)
        self.typical_bytes = max(self.typical_bytes * 0.9, sum(len(m.data) for m in messages) / len(messages), 1.0)
        begun = 0
        for held in taken:
            if begun > SLICE_BYTES:
                begun = 0
                await asyncio.sleep(0)  # what was begun is decoded now, and counts
                await self._wait_until(self.has_room)
            if self.stopping.is_set():
                return
            begun += len(held.message.data)
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
                await self.record(self._decode(message))
            except Undecodable as error:
                await self._bury(message, error.problem)
            except Exception as error:
                await self._refuse(message, error)
            else:
                self.pause = 0.0
                self.committed_at = time.monotonic()
                await message.ack()
                self._count("stored")
        except Error as error:
            # It comes again when nobody has acknowledged it: nothing counts twice.
            self._complain("NATS cannot be told what became of a message", error)
        finally:
            self._release(message)

    def _release(self, message: Msg) -> None:
        if self.held.pop(message.reply, None):
            self.bytes -= len(message.data)
        self.released.set()

    def _decode(self, message: Msg) -> Decoded:
        given = {name.lower(): value for name, value in (message.headers or {}).items()}
        content_type, content_encoding = given.get("content-type", ""), given.get("content-encoding", "")
        try:
            return self.decode(Body(message.data, content_type, content_encoding, message.metadata.timestamp))
        except Problem as problem:
            raise Undecodable(problem) from None

    async def _refuse(self, message: Msg, error: Exception) -> None:
        """It was not stored. If that is the message's own fault, it comes again a few times only."""
        problem = problem_of(error)
        deliveries = message.metadata.num_delivered
        if problem.kind.code == "clock_suspect":
            # Others may be stored: what is of the past.
            self._complain("Nothing from ahead of the clock is stored", error)
            delay = LONGEST_PAUSE
        elif problem.kind.code == "unavailable":
            if is_overload(error):
                self._back_off(error)
            delay = max(self.pause, FIRST_PAUSE)
        elif deliveries >= self.source.deliveries and time.monotonic() - self.committed_at < PROOF_SECONDS:
            await self._bury(message, problem, error)
            return
        else:
            delay = min(self.source.retry_seconds * 2 ** min(deliveries - 1, 10), LONGEST_RETRY)
            self._complain(f"A message of {message.subject} was not stored", error)
        await message.nak(delay=delay)
        self._count("returned")

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
        reasons = {
            "Headcount-Code": problem.kind.code,
            "Headcount-Reason": _in_a_header(reason),
            "Headcount-Subject": message.subject,
            "Headcount-Stream": metadata.stream,
            "Headcount-Sequence": str(metadata.sequence.stream),
            "Headcount-Deliveries": str(metadata.num_delivered),
            # One that is buried again, because its acknowledgement was lost, is there once.
            "Nats-Msg-Id": f"{metadata.stream}-{metadata.sequence.stream}-{int(metadata.timestamp.timestamp())}",
        }
        kept = {
            name: value
            for name, value in (message.headers or {}).items()
            if not name.startswith(("Nats-", "Headcount-"))
        }
        body, headers = message.data, kept | reasons
        # The client looks at the body only, and the server cuts the connection.
        if len(body) + _size(headers) > self.client.max_payload:
            headers = reasons | {"Headcount-Cut-From": str(len(body))}
            body = body[: max(self.client.max_payload - _size(headers), 0)]
        try:
            await self.jetstream.publish(self.source.dead_subject, body, headers=headers)
        except Error as failed:
            self._complain("A dead letter cannot be written", failed)
            await message.nak(delay=self.source.retry_seconds)
            self._count("returned")
            return
        await message.ack()
        self._count("dead")
        if (left_out := self.lines.admit("dead")) is not None:
            log.warning("A message of %s is among the dead letters: %s; and %d more", message.subject, reason, left_out)

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
            self.metrics.note_lag(self.source.stream, info)
            await asyncio.sleep(LAG_SECONDS)

    async def _finish(self) -> None:
        """What is being stored is acknowledged; the rest is given back, for others to have it at once."""
        if tasks := [held.task for held in self.held.values() if held.task]:
            await asyncio.wait(tasks, timeout=self.stop_seconds)
        for held in list(self.held.values()):
            with suppress(Error):
                await held.message.nak()
                self._count("returned")
            self._release(held.message)
        with suppress(Error):
            await self.client.flush(int(API_SECONDS))

    def _count(self, outcome: str) -> None:
        self.metrics.messages.labels(self.source.stream, outcome).inc()

    def _complain(self, what: str, error: Exception) -> None:
        if (left_out := self.lines.admit(what)) is not None:
            log.warning("%s (%s: %s); and %d alike", what, type(error).__name__, error, left_out)


def _size(headers: dict[str, str]) -> int:
    """Of headers as they are sent: `NATS/1.0`, a line each, an empty one."""
    return 12 + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())


def _in_a_header(text: str) -> str:
    return printable(text[:REASON_BYTES]).encode("ascii", "backslashreplace").decode()[:REASON_BYTES]


@asynccontextmanager
async def connected_to(settings: Settings) -> AsyncIterator[Client]:
    """A connection that comes back by itself, to whichever of the servers answers. Waits for a first one."""
    lines = LogThrottle()

    async def complain(error: Exception) -> None:
        if (left_out := lines.admit(str(error))) is not None:
            log.warning("NATS: %s (%s); and %d alike", error, type(error).__name__, left_out)

    client = await nats.connect(
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
