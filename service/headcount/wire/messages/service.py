"""The service itself: health, schema, retention, imports."""

from datetime import datetime
from typing import Annotated

from msgspec import Struct

from headcount.wire.messages.base import about


class HealthOut(Struct, frozen=True):
    """The service answers."""

    status: Annotated[str, about("Always `ok`; what is not ok is a problem.", "ok")] = "ok"


class SchemaRow(Struct, frozen=True):
    """A migration that ran; number 0 stands for the repeatable files."""

    number: int
    sha256: str
    breaking: bool


class WalPosition(Struct, frozen=True):
    """How far a server has come in the write-ahead log (null: a standby that has replayed nothing), and its clock."""

    is_standby: bool
    wal_bytes: int | None
    system_id: int
    at: datetime


class RollupState(Struct, frozen=True):
    """How far the rollups have come, and how many quarter-hours of DPUs before that wait to be covered again."""

    materialized_until: datetime
    lag_seconds: float
    late_marks: int


class RetentionRow(Struct, frozen=True):
    """Events are kept for `keep_days` (null: for ever); all are there from `events_from` on (null: ever)."""

    keep_days: int | None
    events_from: datetime | None


class ImportRow(Struct, frozen=True):
    """How far an import has come: lines done (the header included) and what became of them."""

    lines: int
    accepted: int
    duplicates: int
    rejected: int
    finished: bool


class Difference(Struct, frozen=True):
    """Something stored that is not what the facts add up to."""

    check: str
    item: str
    stored: str | None
    recomputed: str | None
