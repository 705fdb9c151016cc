"""Answers: JSON, MessagePack or CSV, as the caller prefers."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from litestar import Litestar, Request, Response
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from msgspec import Struct
from msgspec.structs import astuple

from headcount.http.requests import AnyConnection, HttpRequest, header_of
from headcount.wire import instants
from headcount.wire.bodies import CSV, HTML, JSON, MSGPACK, MSGPACK_NAMES, json_encoder, msgpack_encoder

T = TypeVar("T")

# Of an Accept header: what comes later is not read.
MAX_ACCEPT = 1_000
# A piece of a CSV answer.
CSV_ROWS = 500


class Answer(Response[T]):
    """What a handler returns becomes one, as the app's response class: Structs as the caller prefers them.

    A handler returns one itself where the answer has another status than its decorator says, or headers.
    """

    def to_asgi_response(
        self,
        app: Litestar | None,
        request: Request[Any, Any, Any],
        *,
        headers: dict[str, str] | None = None,
        status_code: int | None = None,
        **more: Any,
    ) -> ASGIResponse:
        if self.content is None or isinstance(self.content, str | bytes):
            return super().to_asgi_response(app, request, headers=headers, status_code=status_code, **more)
        body, media_type = encoded(request, self.content)
        return ASGIResponse(
            body=body, media_type=media_type, headers=self.headers, status_code=self.status_code or status_code
        )


def nothing() -> Answer[None]:
    """204: done, and there is nothing to say."""
    return Answer(None, status_code=204)


def encoded(request: AnyConnection, content: object) -> tuple[bytes, str]:
    """Structs as MessagePack for who prefers that, else as JSON; and which of the two."""
    if prefers_msgpack(request):
        return msgpack_encoder.encode(content), MSGPACK
    return json_encoder.encode(content), JSON


def prefers_msgpack(request: AnyConnection) -> bool:
    return prefers(request, MSGPACK_NAMES, (JSON,))


def prefers_csv(request: AnyConnection) -> bool:
    return prefers(request, (CSV,), (JSON, *MSGPACK_NAMES))


def prefers_html(request: AnyConnection) -> bool:
    return prefers(request, (HTML,), (JSON, *MSGPACK_NAMES))


def prefers(request: AnyConnection, names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the caller would rather have one of these media types, which it names, than one of the others."""
    accept = header_of(request.scope, b"accept")[:MAX_ACCEPT].lower()
    if not any(name in accept for name in names):
        return False
    weights = {}
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        weights[name] = float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0

    def weight_of(name: str) -> tuple[float, int]:
        """The second part: of two that weigh the same, the one that is named more exactly."""
        ranges = (name, f"{name.partition('/')[0]}/*", "*/*")
        return next(((weights[found], -place) for place, found in enumerate(ranges) if found in weights), (0.0, 0))

    return max(map(weight_of, names)) > max(map(weight_of, others))


def unless_known(request: HttpRequest, response: Response[bytes]) -> Response[bytes]:
    """The answer with an ETag; without its body (304) for who names that as the one it has."""
    content: bytes = response.content
    tag = response.headers.get("ETag") or f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    if request.headers.get("if-none-match") == tag:
        response.content, response.status_code = b"", 304
    return response


def csv_answer(rows: Sequence[Struct], kind: type[Struct]) -> Stream:
    """Structs of a kind as CSV (RFC 4180) below a line of their fields' names, sent as the client takes them."""

    def pieces() -> Iterator[str]:
        for start in range(0, max(len(rows), 1), CSV_ROWS):
            text = io.StringIO()
            writer = csv.writer(text)
            if not start:
                writer.writerow(kind.__struct_fields__)
            writer.writerows(_cells(row) for row in rows[start : start + CSV_ROWS])
            yield text.getvalue()

    return Stream(pieces(), media_type=CSV)


def _cells(row: Struct) -> Iterable[object]:
    return [instants.shortest(value) if isinstance(value, datetime) else value for value in astuple(row)]
