"""The applications that are measured, as factories for an ASGI server. Settings come from the environment.

    python -m benchmarks.apps service|validate_only

serves one of them just as `headcount serve` does.
"""

import sys
from unittest.mock import patch

from litestar import Litestar

from service.app import create_app
from service.commands.serving import run_server
from service.ingest import Batch
from service.messages import EventsRecordedOut
from service.settings import Settings
from service.writer import Writer


def service() -> Litestar:
    """The service as it is."""
    return create_app(Settings.from_environment())


def validate_only() -> Litestar:
    """The service, except that it stores nothing: it decodes, validates and answers that all is accepted."""
    store_nothing()
    return service()


def store_nothing() -> None:
    patch.object(Writer, "record", _store_nothing).start()


async def _store_nothing(_writer: Writer, _session: object, batch: Batch) -> EventsRecordedOut:
    return EventsRecordedOut(batch.received, batch.received, 0, [])


if __name__ == "__main__":
    if sys.argv[1] == "validate_only":
        store_nothing()
    run_server(Settings.from_environment(), lambda: None)
