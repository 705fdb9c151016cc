"""Logs: lines of JSON where a program reads them, words where a person does. One line a request, without secrets."""

import asyncio
import atexit
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import Processor

ACCESS = "headcount.access"
# Lines about requests wait for others so long, and for so many.
BUFFER_SECONDS = 0.05
BUFFER_LINES = 256
STAMP: Processor = structlog.processors.TimeStamper(fmt="iso", utc=True)
SHARED: Sequence[Processor] = (structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, STAMP)


class AccessLog:
    """Where the lines about requests go: nowhere, until configure_logs says so."""

    logger: Callable[..., object] | None = None
    # Those that wait to be written.
    lines: "Lines | None" = None


def configure_logs(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Ours from `level` on, those of libraries from warnings on, to `stream` (stderr)."""
    stream = stream or sys.stderr
    renderer: list[Processor]
    if stream.isatty():
        # not the renderer's own formatter: it shows what variables hold, and so passwords and tokens
        renderer = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
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
    AccessLog.logger = AccessLog.lines = None
    if level <= logging.INFO and stream.isatty():
        AccessLog.logger = _in_words(stream)
    elif level <= logging.INFO:
        AccessLog.lines = lines = Lines(stream)
        AccessLog.logger = _in_json(lines)
        handler.addFilter(lines.come_first)


def _in_words(stream: TextIO) -> Callable[..., object]:
    processors: list[Processor] = [structlog.processors.add_log_level, STAMP, structlog.dev.ConsoleRenderer()]
    logger = structlog.wrap_logger(structlog.WriteLogger(stream), processors=processors)
    return partial(logger.bind(logger=ACCESS).info, "request")


class Lines:
    """Writes the lines of BUFFER_SECONDS, or BUFFER_LINES, by one system call: one for each line would cost more than
    all the rest of it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.waiting: list[str] = []

    def add(self, line: str) -> None:
        self.waiting.append(line)
        if len(self.waiting) == 1:
            try:
                asyncio.get_running_loop().call_later(BUFFER_SECONDS, self.flush)
            except RuntimeError:
                self.flush()
        elif len(self.waiting) >= BUFFER_LINES:
            self.flush()

    def come_first(self, _record: logging.LogRecord) -> bool:
        """As a filter of a handler: its lines come in the order in which things happened."""
        self.flush()
        return True

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            with suppress(OSError, ValueError):  # a log that cannot be written to costs no answer
                self.stream.write("".join(waiting))
                self.stream.flush()


def _in_json(lines: Lines) -> Callable[..., object]:
    """One line a request: structlog would take twice as long for it, the standard library's loggers eight times."""
    atexit.register(lines.flush)

    def write(**fields: object) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = {"logger": ACCESS, **fields, "event": "request", "level": "info", "timestamp": at}
        lines.add(_json(line) + "\n")

    return write


class LogThrottle:
    """Lets one line of each kind through in a while, where there could be thousands alike."""

    def __init__(self, seconds: float = 1.0, max_kinds: int = 100) -> None:
        self.seconds = seconds
        self.max_kinds = max_kinds
        # By kind, when the last line was written, and how many were left out since.
        self.written: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """How many of this kind were left out since the last one; None: leave out this one too."""
        now = time.monotonic()
        at, left_out = self.written.pop(kind, (None, 0))
        if at is not None and now - at < self.seconds:
            self.written[kind] = at, left_out + 1
            return None
        self.written[kind] = now, 0
        while len(self.written) > self.max_kinds:
            del self.written[next(iter(self.written))]
        return left_out


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def log_request(
    method: str, route: str | None, status: int, seconds: float, request_id: str, token: str | None
) -> None:
    """One request that was answered. `route`: as in the OpenAPI document, None for an address that does not exist."""
    if AccessLog.logger is None:
        return
    with suppress(OSError, ValueError):  # a log that cannot be written to costs no answer
        AccessLog.logger(
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            request_id=request_id,
            token=token,
        )
