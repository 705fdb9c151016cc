"""What /metrics shows. Each app has a registry of its own; every label has few values."""

import math
import time
from collections import Counter as Counted
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from litestar.types import Scope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from headcount.wire.messages.base import REFUSALS
from headcount.wire.messages.events import EventsRecordedOut, RefusalState
from headcount.wire.messages.notices import DeliveryState
from headcount.wire.messages.sensors import HeartbeatRow
from headcount.wire.messages.service import RollupState

if TYPE_CHECKING:
    from nats.js.api import ConsumerInfo  # most processes have no streams, and importing it takes a while

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LAG_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 604_800.0)
# How long the text is good for all who ask: to make it takes milliseconds.
KEPT_SECONDS = 1.0
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


class Received(Protocol):
    """Of a batch of events: how many came, and of when those are that can be counted."""

    @property
    def times(self) -> Sequence[datetime]: ...

    @property
    def received(self) -> int: ...


class Metrics:
    """Counts what happens; what can be looked up is read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "headcount_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "headcount_request_seconds",
            "From the request's head to the head of its answer.",
            ("route", "method"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.lag = Histogram(
            "headcount_ingest_lag_seconds",
            "From the device time of a transaction's newest event to its commit.",
            buckets=LAG_SECONDS,
            registry=self.registry,
        )
        self.transaction = Histogram(
            "headcount_transaction_events", "Events in a transaction.", buckets=SIZES, registry=self.registry
        )
        self.group = Histogram(
            "headcount_group_requests",
            "Requests answered by one call of the database: events or heartbeats stored, or current counts.",
            ("kind",),
            buckets=SIZES,
            registry=self.registry,
        )
        self.accepted = Counter("headcount_events_accepted", "Events stored.", registry=self.registry)
        self.duplicates = Counter("headcount_events_duplicate", "Events stored already.", registry=self.registry)
        self.rejected = Counter("headcount_events_rejected", "Events refused.", ("code",), registry=self.registry)
        for code in REFUSALS:
            self.rejected.labels(code)  # there from the start: increase() sees no first one of a series that is new
        self.heartbeats = Counter(
            "headcount_heartbeats", "Heartbeats by outcome.", ("outcome",), registry=self.registry
        )
        self.rollup_lag = Gauge(
            "headcount_rollup_lag_seconds",
            "Since the instant up to which rollups are complete.",
            registry=self.registry,
        )
        self.late_marks = Gauge(
            "headcount_rollup_late_marks",
            "Quarter-hours of DPUs with late events, to be covered by the next refresh.",
            registry=self.registry,
        )
        self.deliveries = Counter(
            "headcount_deliveries",
            "Tries to send a notice: delivered, delayed (to be tried again) or failed (given up).",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.pending = Gauge("headcount_deliveries_pending", "Deliveries that wait.", registry=self.registry)
        self.oldest = Gauge(
            "headcount_deliveries_oldest_seconds",
            "For how long the oldest delivery that waits has waited; 0 if none waits.",
            registry=self.registry,
        )
        self.dropped = Gauge(
            "headcount_refused_dropped",
            "Refused events and polls that were dropped: 30 days had passed, or they were too many in an hour.",
            ("kind",),
            registry=self.registry,
        )
        self.reads = Counter(
            "headcount_replica_reads",
            "Reads a replica might answer, by who did.",
            ("by",),
            registry=self.registry,
        )
        # Looking a child up by its labels costs more than counting.
        self.children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.kept, self.kept_at = b"", -math.inf
        self.groups = {kind: self.group.labels(kind) for kind in ("events", "counts", "counts_at", "heartbeats")}

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A number that is read whenever somebody asks."""
        Gauge(f"headcount_{name}", meaning, registry=self.registry).set_function(read)

    def note_answer(self, scope: Scope, status: int) -> None:
        """When its head is sent."""
        method = str(scope.get("method"))
        key = (str(scope.get("path_template") or "unknown"), method if method in METHODS else "other", status)
        if (children := self.children.get(key)) is None:
            route, method, status = key
            children = self.requests.labels(route, method, str(status)), self.seconds.labels(route, method)
            self.children[key] = children
        children[0].inc()
        children[1].observe(time.perf_counter() - scope["state"]["begun"])

    def note_group(self, kind: str, requests: int) -> None:
        self.groups[kind].observe(requests)

    def note_read(self, by: str) -> None:
        """by: replica or primary."""
        self.reads.labels(by).inc()

    def note_events(self, batches: Sequence[Received], recorded: Sequence[EventsRecordedOut]) -> None:
        """After the commit of some requests' events."""
        self.note_group("events", len(batches))
        self.transaction.observe(sum(batch.received for batch in batches))
        times = [time for batch in batches for time in batch.times]
        if times:
            self.lag.observe((datetime.now(UTC) - max(times)).total_seconds())
        self.accepted.inc(sum(answer.accepted for answer in recorded))
        self.duplicates.inc(sum(answer.duplicates for answer in recorded))
        for code, number in Counted(rejection.code for answer in recorded for rejection in answer.rejected).items():
            self.rejected.labels(code).inc(number)

    def note_heartbeats(self, requests: int, rows: Sequence[HeartbeatRow]) -> None:
        """After the commit of some requests' heartbeats."""
        self.note_group("heartbeats", requests)
        for outcome, number in Counted(row.verdict or "accepted" for row in rows).items():
            self.heartbeats.labels(outcome).inc(number)

    def note_rollups(self, state: RollupState | None) -> None:
        """None: the database does not answer."""
        self.rollup_lag.set(state.lag_seconds if state else float("nan"))
        self.late_marks.set(state.late_marks if state else float("nan"))

    def note_refusals(self, state: RefusalState | None) -> None:
        """None: the database does not answer."""
        self.dropped.labels("event").set(state.dropped_events if state else float("nan"))
        self.dropped.labels("poll").set(state.dropped_polls if state else float("nan"))

    def note_delivery(self, kind: str, outcome: str) -> None:
        self.deliveries.labels(kind, outcome).inc()

    def note_deliveries(self, state: DeliveryState | None) -> None:
        """None: the database does not answer."""
        self.pending.set(state.pending if state else float("nan"))
        self.oldest.set(state.oldest_seconds if state else float("nan"))

    def text(self) -> bytes:
        """In Prometheus's own format."""
        return generate_latest(self.registry)

    def kept_text(self) -> bytes:
        """The same as of a second ago at most, however many ask."""
        now = time.monotonic()
        if now - self.kept_at >= KEPT_SECONDS:
            self.kept, self.kept_at = self.text(), now
        return self.kept


class StreamMetrics:
    """What `headcount consume` adds: by stream, how far behind it is and what became of its messages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        label = ("stream",)
        self.pulled = Histogram(
            "headcount_stream_pull_messages",
            "Messages that were pulled together.",
            label,
            buckets=SIZES,
            registry=registry,
        )
        self.messages = Counter(
            "headcount_stream_messages",
            "Messages by outcome: stored and acknowledged, given back to come again, put among the dead letters, "
            "or dropped since no dead letter of them can be written.",
            ("stream", "outcome"),
            registry=registry,
        )
        self.again = Counter(
            "headcount_stream_messages_again", "Messages that had been delivered before.", label, registry=registry
        )
        self.held = Gauge(
            "headcount_stream_held_messages", "Messages that this process works on.", label, registry=registry
        )
        self.pending = Gauge(
            "headcount_stream_pending_messages", "Messages that nobody has pulled yet.", label, registry=registry
        )
        self.unacknowledged = Gauge(
            "headcount_stream_unacknowledged_messages",
            "Messages that were pulled, by whatever process, and not acknowledged yet.",
            label,
            registry=registry,
        )
        self.redelivered = Gauge(
            "headcount_stream_redelivered_messages",
            "Unacknowledged messages that were delivered more than once.",
            label,
            registry=registry,
        )

    def note_lag(self, stream: str, info: "ConsumerInfo | None") -> None:
        """None: the server does not answer."""
        unknown = float("nan")
        for gauge, value in (
            (self.pending, info.num_pending if info else unknown),
            (self.unacknowledged, info.num_ack_pending if info else unknown),
            (self.redelivered, info.num_redelivered if info else unknown),
        ):
            gauge.labels(stream).set(value or 0)
