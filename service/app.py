"""The composition root: everything the service is made of comes together here."""

import time
from typing import Any, Self

from litestar import Litestar
from litestar.datastructures import State
from litestar.events import BaseEventEmitterBackend
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

from service.db import Database
from service.errors import add_request_id, problem_response
from service.metrics import Metrics
from service.negotiation import Bodies
from service.reader import Reader
from service.routes import HANDLERS
from service.settings import Settings
from service.writer import Writer


class NoEvents(BaseEventEmitterBackend):
    """Nobody listens. Litestar's own keeps a task group open, which would wrap what stops the start."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None:
        """Never called."""


class Application(Litestar):
    """Notes when each request began, for whoever wants to know how long it took."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})["begun"] = time.perf_counter()
        await super().__call__(scope, receive, send)


def create_app(settings: Settings) -> Litestar:
    """The ASGI application. Its lifespan opens the pool and raises SchemaMismatch on a schema it cannot speak to.

    Authentication belongs into `guards` here; until there are tokens, service/settings.py sees to it that the
    service can be reached from its own machine only.
    """
    metrics = Metrics()
    database = Database(settings)
    writer = Writer(database, settings, metrics)
    bodies = Bodies(settings.max_body_bytes)
    metrics.watch("queue_events", "Events that wait for their commit.", lambda: writer.events)
    metrics.watch("queue_bytes", "Memory that they take, estimated.", lambda: writer.bytes)
    metrics.watch("body_bytes", "Bytes of bodies that are being received.", lambda: bodies.held)
    metrics.watch("pool_connections", "Open connections to the database.", database.get_size)
    metrics.watch("pool_idle_connections", "Those of them that nobody uses.", database.get_idle_size)
    metrics.watch("pool_waiting", "Calls that wait for a connection.", lambda: database.waiting)
    return Application(
        route_handlers=HANDLERS,
        guards=[],
        # ended in the opposite order: the pool last
        lifespan=[database.lifespan, writer.lifespan],
        state=State(
            {
                "database": database,
                "writer": writer,
                "reader": Reader(database, metrics),
                "bodies": bodies,
                "metrics": metrics,
            }
        ),
        exception_handlers={Exception: problem_response},
        before_send=[add_request_id, metrics.note_answer],
        event_emitter_backend=NoEvents,
        # service/negotiation.py has limits of its own, which count inflated bytes too.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
    )
