"""The applications that are measured, as factories for an ASGI server. Settings come from the environment.

    python -m benchmarks.apps service|validate_only

serves one of them just as `headcount serve` does.
"""

import sys
from unittest.mock import patch

from litestar import Litestar

from service import calls
from service.app import create_app
from service.commands.serving import run_server
from service.messages import Verdict
from service.settings import Settings


def service() -> Litestar:
    """The service as it is."""
    return create_app(Settings.from_environment())


def validate_only() -> Litestar:
    """The service, except that it stores nothing: every event that can be decoded counts as accepted."""
    store_nothing()
    return service()


def store_nothing() -> None:
    patch.object(calls, "record_events", _store_nothing).start()


async def _store_nothing(*_arguments: object, **_named: object) -> list[Verdict]:
    return []


if __name__ == "__main__":
    if sys.argv[1] == "validate_only":
        store_nothing()
    run_server(Settings.from_environment(), lambda: None)
