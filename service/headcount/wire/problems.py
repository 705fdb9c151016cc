"""What goes wrong, and how it is told: one shape (RFC 9457) and one table from SQLSTATE to HTTP."""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from headcount.wire.messages.base import ProblemItem, ProblemOut

PROBLEM_JSON = "application/problem+json"
# Where whoever raises the problem knows no better.
RETRY_AFTER = {
    "unavailable": {"Retry-After": "1"},
    "clock_suspect": {"Retry-After": "10"},
    "rate_limited": {"Retry-After": "10"},
}


log = logging.getLogger("headcount.errors")

LONGEST_CONTEXT = 500


class ProblemType(msgspec.Struct, frozen=True):
    """A kind of error. Its code is for programs and never changes; the title is for people."""

    status: int
    code: str
    title: str


# Every kind there is; docs/reference/errors.md shows an example of each.
PROBLEM_TYPES = {
    kind.code: kind
    for kind in (
        ProblemType(400, "malformed", "Malformed request"),
        ProblemType(401, "unauthorized", "A valid token is required"),
        ProblemType(403, "forbidden", "Forbidden"),
        ProblemType(404, "not_found", "Not found"),
        ProblemType(405, "method_not_allowed", "Method not allowed"),
        ProblemType(409, "conflict", "Conflict"),
        ProblemType(413, "too_large", "Request too large"),
        ProblemType(415, "unsupported_media_type", "Unsupported media type"),
        ProblemType(421, "misdirected", "Misdirected request"),
        ProblemType(422, "invalid", "Invalid request"),
        ProblemType(429, "rate_limited", "Rate limit exceeded"),
        ProblemType(431, "head_too_large", "Request header too large"),
        ProblemType(500, "internal", "Internal error"),
        ProblemType(503, "clock_suspect", "Clock suspect"),
        ProblemType(503, "unavailable", "Service unavailable"),
    )
}
BY_STATUS = {kind.status: kind for kind in PROBLEM_TYPES.values()}

# Beside 503: the request would be answered in smaller parts.
TOO_LARGE = "too_large"

# SQLSTATE, or the beginning of one, and the kind; the longest that fits decides. PT + status is raised by our
# own functions and carries words for the user; all others come from PostgreSQL and keep their words to our log.
SQLSTATES = {
    "PT403": "forbidden",
    "PT404": "not_found",
    "PT409": "conflict",
    "PT422": "invalid",
    "PT429": "rate_limited",
    "PT503": "unavailable",
    "22": "invalid",
    "23": "invalid",
    "23503": "conflict",
    "23505": "conflict",
    "23P01": "conflict",
    "08": "unavailable",
    "25006": "unavailable",  # a standby, after a failover
    "25P03": "unavailable",  # we stood still within a transaction
    "28": "unavailable",
    "3D000": "unavailable",
    "40001": "unavailable",
    "40P01": "unavailable",
    "53": "unavailable",
    "55P03": "unavailable",
    "57014": "unavailable",
    "57P0": "unavailable",
}
# What PostgreSQL says without a SQLSTATE of its own (XX000) where something was replaced while it was used.
IS_REPLACED = re.compile(r"cache lookup failed for |could not open relation with OID |tuple concurrently ")
REPLACED = "The schema of the database is being changed just now (headcount migrate). Try again: nothing counts twice."
WORDS = {
    "conflict": "Something else that is stored stands in the way.",
    "invalid": "The database refused a value.",
    "unavailable": "The database cannot be reached, or is too busy. Try again: nothing counts twice.",
    "internal": "The error is in the service. It was logged under this request's X-Request-Id.",
}


class Problem(Exception):
    """Raised anywhere below a route; becomes the answer."""

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[ProblemItem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = PROBLEM_TYPES[code]
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = RETRY_AFTER.get(code, {}) | dict(headers or {})


def invalid(detail: str, where: str = "") -> Problem:
    """A 422 that names the place."""
    return Problem("invalid", detail, [ProblemItem(where, "invalid", detail)] if where else ())


def problem_of(error: Exception) -> Problem:
    """The problem that an exception amounts to."""
    match error:
        case Problem():
            return error
        case asyncpg.PostgresError():
            return problem_of_sqlstate(error)
        case SchemaMismatch():
            return Problem("unavailable", str(error))
        # What asyncpg, the pool and the socket raise when the database goes away.
        case asyncpg.InterfaceError() | asyncpg.InternalClientError() | OSError() | asyncio.TimeoutError():
            return Problem("unavailable", WORDS["unavailable"])
    return Problem("internal", WORDS["internal"])


def problem_of_sqlstate(error: asyncpg.PostgresError) -> Problem:
    state = getattr(error, "sqlstate", None) or ""
    if (state == "XX000" and IS_REPLACED.match(str(error))) or isinstance(error, asyncpg.InvalidCachedStatementError):
        return Problem("unavailable", REPLACED)
    code = next((SQLSTATES[state[:n]] for n in range(len(state), 0, -1) if state[:n] in SQLSTATES), "internal")
    if not state.startswith("PT"):
        return Problem(code, WORDS[code])
    # a narrower code than the status tells
    narrow = getattr(error, "constraint_name", None)
    code = narrow if narrow in PROBLEM_TYPES else code
    return problem_in_words(code, *(getattr(error, name, None) for name in ("message", "detail", "hint")))


def is_of_the_database(error: Exception) -> bool:
    """Whether it is PostgreSQL's own. It logs nothing of the service's errors (sql/repeatable/90_grants.sql)."""
    return isinstance(error, asyncpg.PostgresError) and not (getattr(error, "sqlstate", None) or "").startswith("PT")


def in_words(error: BaseException) -> str:
    """What a log says of an error: its class, its SQLSTATE, its words and where in SQL it came up. Without its details:
    they can show a whole row, and with it a secret. Of what a problem was made of, where that is known."""
    while isinstance(error, Problem) and error.__cause__ is not None:
        error = error.__cause__
    name = type(error).__name__
    if not isinstance(error, asyncpg.PostgresError):
        return f"{name}: {error}"
    state, words, context = (getattr(error, known, None) for known in ("sqlstate", "message", "context"))
    where = f"; {' '.join(context.split())[:LONGEST_CONTEXT]}" if context else ""
    return f"{name}, SQLSTATE {state}: {words or error}{where}"


def problem_in_words(code: str, message: str | None, where: str | None, hint: str | None) -> Problem:
    """What SQL refuses in its own words: the place, where it names one, and the remedy."""
    message = message or ""
    items = [ProblemItem(where, code, message)] if where else []
    return Problem(code, f"{message.rstrip('.')}. {hint}" if hint else message, items)


def encode_problem(problem: Problem) -> bytes:
    """The body of the answer."""
    body = ProblemOut(
        type=f"urn:headcount:error:{problem.kind.code}",
        title=problem.kind.title,
        status=problem.kind.status,
        detail=problem.detail,
        code=problem.kind.code,
        errors=problem.errors,
    )
    return msgspec.json.encode(body)


class SchemaMismatch(RuntimeError):
    """The service cannot speak to the schema it found; the text ends with the remedy."""
