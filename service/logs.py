"""Logs: lines of JSON where a program reads them, words where a person does. One line a request, without secrets."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

ACCESS = "headcount.access"
STAMP: Processor = structlog.processors.TimeStamper(fmt="iso", utc=True)
SHARED: Sequence[Processor] = (structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, STAMP)


class AccessLog:
    """Where the lines about requests go: nowhere, until configure_logs says so."""

    logger: FilteringBoundLogger | None = None


def configure_logs(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Ours from `level` on, those of libraries from warnings on, to `stream` (stderr)."""
    stream = stream or sys.stderr
    renderer: list[Processor]
    if stream.isatty():
        renderer = [structlog.dev.ConsoleRenderer()]
    else:
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("headcount").setLevel(level)
    # One a request: not through the standard library's loggers, which take four times as long.
    AccessLog.logger = None
    if level <= logging.INFO:
        AccessLog.logger = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[structlog.processors.add_log_level, STAMP, *renderer],
            wrapper_class=structlog.make_filtering_bound_logger(level),
        ).bind(logger=ACCESS)


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def log_request(
    method: str, route: str | None, status: int, seconds: float, request_id: str, token: str | None
) -> None:
    """One request that was answered. `route`: as in the OpenAPI document, None for an address that does not exist."""
    if AccessLog.logger is None:
        return
    with suppress(OSError, ValueError):  # a log that cannot be written to costs no answer
        AccessLog.logger.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            request_id=request_id,
            token=token,
        )
