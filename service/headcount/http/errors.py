"""How an exception becomes an answer."""

import logging
import random
import re
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Scope

from headcount.http.requests import header_of
from headcount.http.services import services
from headcount.wire.messages.base import ID_PATTERN, PATTERNS_IN_WORDS
from headcount.wire.problems import (
    BY_STATUS,
    PROBLEM_JSON,
    PROBLEM_TYPES,
    WORDS,
    Problem,
    encode_problem,
    in_words,
    invalid,
    is_of_the_database,
    problem_of,
)

log = logging.getLogger("headcount.errors")


# Two bits of this digit of a UUID say who laid it out.
VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def request_id(scope: Scope) -> str:
    """The caller's X-Request-Id if it is a sane one, else one of ours; the same throughout a request."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        given = header_of(scope, b"x-request-id")
        state["request_id"] = given if given and REQUEST_ID.fullmatch(given) else make_id()
    return str(state["request_id"])


def make_id() -> str:
    """A random UUID (version 4). Nobody has to be unable to guess it, so it costs no call of the system."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one place where an exception becomes an answer."""
    if isinstance(error, ValidationException):
        problem = problem_of_address(request, error)
    else:
        problem = problem_of_status(error) if isinstance(error, HTTPException) else problem_of(error)
    if problem.kind.status >= 500 or is_of_the_database(error):
        _log(request, problem, error)
    return Response(
        encode_problem(problem),
        status_code=HTTPStatus(problem.kind.status),
        media_type=PROBLEM_JSON,
        headers=problem.headers,
    )


def _log(request: Request[Any, Any, Any], problem: Problem, error: Exception) -> None:
    """Every mistake of ours; others once a second for each reason, or their lines would be a load of their own."""
    left_out: int | None = 0
    if problem.kind.code != "internal":
        left_out = services(request).overload.admit(f"{type(error).__name__}: {problem.detail}")
    if left_out is None:
        return
    log.error(
        "%s %s: %s (%s), request %s%s",
        request.method,
        request.url.path,
        problem.kind.code,
        in_words(error),
        request_id(request.scope),
        f"; and {left_out} alike since the last line like this" if left_out else "",
        exc_info=error if problem.kind.code == "internal" else None,
    )


def problem_of_address(request: Request[Any, Any, Any], error: ValidationException) -> Problem:
    """An id in the address that is none. What Litestar hands to a handler beside those was checked before."""
    names = {item["key"] for item in error.extra or () if isinstance(item, dict) and "key" in item}
    for name in request.path_params:
        if name in names:
            return invalid(f"The {name} in the address {PATTERNS_IN_WORDS[ID_PATTERN]}.", name)
    return Problem("malformed", error.detail)


def problem_of_status(error: HTTPException) -> Problem:
    """Litestar's own errors: no such route, method not allowed, a broken head of a request."""
    kind = BY_STATUS.get(error.status_code, PROBLEM_TYPES["malformed" if error.status_code < 500 else "internal"])
    allow = (error.headers or {}).get("allow")
    detail = {
        "not_found": "There is nothing at this address.",
        "method_not_allowed": f"This address takes {allow}.",
        "internal": WORDS["internal"],
    }.get(kind.code, error.detail)
    return Problem(kind.code, detail, headers={"Allow": allow} if allow else None)
