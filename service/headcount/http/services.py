"""What a service is made of, as its handlers and commands reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # they are made of what reaches them through here
    from litestar.connection import ASGIConnection

    from headcount.database.current_counts import Reader
    from headcount.database.pool import Database
    from headcount.database.replica import Replica
    from headcount.http.auth import Authenticator
    from headcount.http.openapi import Document
    from headcount.ingest.heartbeats import Heartbeats
    from headcount.ingest.writer import Writer
    from headcount.live.feed import Live
    from headcount.logs import LogThrottle
    from headcount.metrics import Metrics
    from headcount.notices.sender import Notices
    from headcount.sensors.listing import Sensors
    from headcount.uptime.reports import Reports
    from headcount.wire.bodies import Bodies
    from headcount.wire.shares import Places
    from headcount.wire.threads import WorkerThreads


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """One of each; `replica` only where there is one."""

    database: Database
    authenticator: Authenticator
    writer: Writer
    heartbeats: Heartbeats
    live: Live
    notices: Notices
    replica: Replica | None
    reports: Reports
    reader: Reader
    sensors: Sensors
    bodies: Bodies
    site_places: Places
    worker_threads: WorkerThreads
    metrics: Metrics
    document: Document
    overload: LogThrottle


def services(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Those of the app that answers."""
    app: Any = connection.app
    found: Services = app.services
    return found
