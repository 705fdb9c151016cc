"""The composition root: everything the service is made of comes together here."""

from collections.abc import Sequence
from typing import Any, Self

from litestar.config.cors import CORSConfig
from litestar.events import BaseEventEmitterBackend
from litestar.types import ControllerRouterHandler

from headcount.database.current_counts import Reader
from headcount.database.pool import Database
from headcount.database.replica import Replica
from headcount.http.answers import Answer
from headcount.http.asgi import App
from headcount.http.auth import Authenticator, Tokens, authorize
from headcount.http.direct import DirectHandlers
from headcount.http.errors import problem_response
from headcount.http.inputs import DEFAULTS
from headcount.http.openapi import Document
from headcount.http.rate_limits import Limiter
from headcount.http.services import Services
from headcount.ingest import sites
from headcount.ingest.heartbeats import Heartbeats
from headcount.ingest.writer import Writer
from headcount.live.feed import Live
from headcount.logs import LogThrottle
from headcount.metrics import Metrics
from headcount.notices.sender import Notices
from headcount.routes import HANDLERS
from headcount.sensors.listing import Sensors
from headcount.sensors.outages import Jobs
from headcount.settings import Settings
from headcount.uptime.reports import Reports
from headcount.wire.bodies import Bodies
from headcount.wire.shares import Places
from headcount.wire.threads import WorkerThreads


class NoEvents(BaseEventEmitterBackend):
    """Nobody listens. Litestar's own keeps a task group open, which would wrap what stops the start."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None:
        """Never called."""


def cross_origin(settings: Settings) -> CORSConfig | None:
    """Which pages of other sites may use the API: by default none."""
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding", "Last-Event-ID", "X-Request-Id"],
        expose_headers=[
            *("X-Request-Id", "X-Data-As-Of", "X-Report-Status", "ETag", "Link"),
            *("Retry-After", "WWW-Authenticate", "Allow"),
        ],
    )


def create_app(settings: Settings, handlers: Sequence[ControllerRouterHandler] | None = None) -> App:
    """The ASGI application. Its lifespan opens the pool and raises SchemaMismatch on a schema it cannot speak to.

    By default it answers all addresses; `headcount consume` has some of them only,
    and sends no notices and makes no reports.
    """
    metrics = Metrics()
    database = Database(settings)
    writer = Writer(database, settings, metrics)
    heartbeats = Heartbeats(database, settings, metrics)
    bodies = Bodies(settings.max_body_bytes)
    worker_threads = WorkerThreads()
    tokens = Tokens(database.door) if settings.auth == "required" else None
    authenticator = Authenticator(tokens, Limiter(settings.events_per_second, settings.requests_per_second))
    live = Live(database, authenticator)
    notices = Notices(database, metrics)
    replica = Replica(database, settings.read_url, metrics) if settings.read_url else None
    reports = Reports(database, settings)
    metrics.watch("queue_events", "Events that wait for their commit.", lambda: writer.intake.items)
    metrics.watch("queue_bytes", "Memory of the events that wait, estimated.", lambda: writer.intake.bytes)
    metrics.watch("queue_heartbeats", "Heartbeats that wait for their commit.", lambda: heartbeats.intake.items)
    metrics.watch("body_bytes", "Bytes of bodies that are being received.", lambda: bodies.held)
    metrics.watch("listeners", "Open streams of GET /v1/live.", lambda: live.listening)
    metrics.watch("sending", "Deliveries that are being sent.", lambda: len(notices.running))
    metrics.watch("pool_connections", "Open connections to the database.", database.get_size)
    metrics.watch("pool_idle_connections", "Open connections that nobody uses.", database.get_idle_size)
    metrics.watch("pool_waiting", "Calls that wait for a connection.", database.get_waiting)
    if replica:
        metrics.watch("replica_lag_seconds", "Everything committed so long ago is on the replica.", replica.get_lag)
    app = App(
        route_handlers=handlers or HANDLERS,
        response_class=Answer,
        before_request=authorize,
        dependencies=DEFAULTS,
        # ended in the opposite order: the pool last
        lifespan=[
            database.lifespan,
            *([tokens.lifespan] if tokens else []),
            *([replica.lifespan] if replica else []),
            worker_threads.lifespan,
            Jobs(database).lifespan,
            writer.intake.lifespan,
            heartbeats.intake.lifespan,
            *(() if handlers else (live.lifespan, notices.lifespan, reports.lifespan)),
        ],
        exception_handlers={Exception: problem_response},
        cors_config=cross_origin(settings),
        event_emitter_backend=NoEvents,
        # headcount.wire.bodies has limits of its own, which count inflated bytes too.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
    )
    app.direct = DirectHandlers(handlers or HANDLERS)
    app.services = Services(
        database=database,
        authenticator=authenticator,
        writer=writer,
        heartbeats=heartbeats,
        live=live,
        notices=notices,
        replica=replica,
        reports=reports,
        reader=Reader(database, metrics),
        sensors=Sensors(),
        bodies=bodies,
        site_places=Places(sites.LARGE, sites.LARGE_OF_A_CLIENT, "large floor plans"),
        worker_threads=worker_threads,
        metrics=metrics,
        document=Document(),
        overload=LogThrottle(),
    )
    return app
