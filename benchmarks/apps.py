"""The applications that are measured, as factories for an ASGI server. Settings come from the environment.

    python -m benchmarks.apps service|validate_only

serves one of them just as `headcount serve` does.
"""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from unittest.mock import patch

from headcount.app import create_app
from headcount.commands.serving import run_server
from headcount.http.asgi import App
from headcount.ingest.formats import EventBatch
from headcount.ingest.heartbeats import Heartbeats, SentHeartbeats
from headcount.ingest.writer import Writer
from headcount.logs import configure_logs
from headcount.settings import Settings
from headcount.wire.messages.events import EventsRecordedOut
from headcount.wire.messages.sensors import HeartbeatRow


def service() -> App:
    """The service as it is, with its log."""
    configure_logs()
    return create_app(Settings.from_environment())


def validate_only() -> App:
    """The service, except that it stores nothing: it decodes, validates and answers that all is accepted."""
    store_nothing()
    return service()


def store_nothing() -> ExitStack:
    """From now on; closing what it returns ends it."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(Writer, "record", _store_nothing))
        stack.enter_context(patch.object(Heartbeats, "_store", _hear_nothing))
        return stack.pop_all()


async def _store_nothing(_writer: Writer, _session: object, batch: EventBatch, **_: object) -> EventsRecordedOut:
    return EventsRecordedOut(batch.received, batch.received, 0, [])


async def _hear_nothing(
    _heartbeats: Heartbeats, _session: object, sent: SentHeartbeats, _backfill: bool = False
) -> list[HeartbeatRow]:
    now = datetime.now(UTC)
    return [HeartbeatRow(None, None, heartbeat.dpu, now) for heartbeat in sent.heartbeats]


if __name__ == "__main__":
    app = validate_only() if sys.argv[1] == "validate_only" else service()
    run_server(Settings.from_environment(), lambda: None, app=app)
