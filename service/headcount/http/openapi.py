"""The OpenAPI document, made from what each handler declares with `described`."""

import hashlib
import inspect
import json
import re
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from headcount.wire.instants import Instant
from headcount.wire.messages import ID_PATTERN, EventIn, EventsIn, NoQuery, PollIn, PollsIn, ReadingsIn
from headcount.wire.problems import BY_STATUS, PROBLEM_JSON, ProblemOut

JSON = "application/json"
MSGPACK = "application/msgpack"
CSV = "text/csv"
HTML = "text/html"
CSV_ANSWER = {"schema": {"type": "string", "description": "A line of the items' field names, then a line an item."}}
TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token (hc_...) with the scope that the operation names: ingest, read or admin (includes read). "
    "One that is limited to a space sees that space and what lies below it. Not asked for with HEADCOUNT_AUTH=off.",
}
AS_OF = {
    "description": "The answer has everything that was committed before this instant.",
    "schema": {"type": "string", "format": "date-time"},
}
EVENT_TEXT = {
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "One event object a line."},
        "example": '{"dpu":"dpu-1","timestamp":"2026-01-31T12:00:00Z","direction":1}\n',
    },
    "text/csv": {
        "schema": {
            "type": "string",
            "description": "Header, in any order: timestamp,direction,dpu_id and optionally sequence. "
            "Commas, semicolons or tabs; UTF-8, or UTF-16 with its mark.",
        },
        "example": "timestamp,direction,dpu_id\n2026-01-31T12:00:00Z,1,dpu-1\n",
    },
}

POLL_TEXT = {
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "One poll object a line."},
        "example": '{"space":"store-1","timestamp":"2026-01-31T12:00:00Z","status":"active"}\n',
    },
    "text/csv": {
        "schema": {
            "type": "string",
            "description": "Header, in any order: store_id (or space), status, timestamp_utc (or timestamp).",
        },
        "example": "store_id,status,timestamp_utc\nstore-1,active,2026-01-31 12:00:00 UTC\n",
    },
}
REFERENCE = re.compile(r'"\$ref": "#/components/schemas/([^"]+)"')
TEXTS: dict[type[msgspec.Struct], dict[str, Any]] = {EventsIn: EVENT_TEXT, PollsIn: POLL_TEXT}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler takes and gives; statuses of problems that every address has are left out."""

    scope: str | None
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    answers: dict[int, type[msgspec.Struct] | None]
    problems: tuple[int, ...] = ()
    database: bool = True
    media_types: tuple[str, ...] = (JSON, MSGPACK)


def described(
    answer: Any,
    *problems: int,
    scope: str | None,
    created: bool = False,
    undone: bool = False,
    triggers: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """For a handler's `opt`: what it takes and gives, and the scope that headcount.http.auth asks for (OPEN: none).

    With `created` the answer may come as 201 as well as 200, with `undone` there may be none (204). Where text/html
    is one of its media types, who prefers that gets a page, and needs no token for it. `triggers`: it changes
    something, although it is a GET.
    """
    answers = {200: answer, 201: answer} if created else {more.pop("status", 200): answer}
    if undone:
        answers[204] = None
    spec = Described(answers=answers, problems=problems, scope=scope, **more)
    opt = {"scope": scope, "page": HTML in spec.media_types, "triggers": triggers, "described": spec}
    # What asks for a token and not for the database shows how this process is doing.
    return opt | {"is_probe": scope is not None and not spec.database}


class Document:
    """That of one app, made when it is first asked for: anybody may ask, as often as they like."""

    def __init__(self) -> None:
        self.made: tuple[bytes, str] | None = None

    def get(self, app: Litestar) -> tuple[bytes, str]:
        """The text, and an ETag of it."""
        if self.made is None:
            text = document(app)
            self.made = text, f'"{hashlib.sha256(text).hexdigest()[:32]}"'
        return self.made


def document(app: Litestar) -> bytes:
    """The whole document as JSON."""
    handlers = sorted(
        (
            (route.path_format, method.lower(), handler)
            for route in app.routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            if "described" in handler.opt
            for method in handler.http_methods
        ),
        key=lambda found: found[:2],
    )
    kinds: list[Any] = [ProblemOut]
    for *_, handler in handlers:
        spec: Described = handler.opt["described"]
        kinds += [kind for kind in (spec.query, spec.body, *spec.answers.values()) if kind]
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=_schema, ref_template="#/components/schemas/{name}"
    )
    references = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler in handlers:
        paths.setdefault(path, {})[method] = _operation(path, handler, references, components)
    _bound_events(components)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Headcount",
            "version": "1",
            "description": "People counting. Every body can be JSON or MessagePack; errors are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {"schemas": _used(paths, components), "securitySchemes": {"token": TOKEN_SCHEME}},
    }
    # Patterns end in Python's \Z here, which JSON Schema writes $.
    return json.dumps(_plain(whole)).replace('\\\\Z"', '$"').encode()


def _schema(kind: type) -> dict[str, Any]:
    if kind is Instant:
        return {"type": "string", "format": "date-time"}
    raise NotImplementedError(kind)


def _used(paths: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The components that an operation refers to, itself or by others: query Structs became parameters."""
    used: dict[str, Any] = {}
    found = REFERENCE.findall(json.dumps(paths))
    while found:
        name = found.pop()
        if name not in used:
            used[name] = components[name]
            found += REFERENCE.findall(json.dumps(components[name]))
    return dict(sorted(used.items()))


def _plain(schema: Any) -> Any:
    """The same as generators of clients understand it.

    Tuples are arrays of a fixed length, since many do not know `items: false`. What is null by default is optional
    and no more: with a default, some would have it given always.
    """
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "prefixItems" in schema:
        first, *others = schema["prefixItems"]
        if any(other != first for other in others):
            raise ValueError(f"the parts of a tuple differ, which many generators cannot read: {schema}")
        schema = {name: value for name, value in schema.items() if name != "prefixItems"} | {"items": first}
    return {name: _plain(value) for name, value in schema.items() if (name, value) != ("default", None)}


def _bound_events(components: dict[str, Any]) -> None:
    """What headcount.ingest.formats checks for a whole batch, and therefore the Structs do not say."""
    for item, name in ((EventIn, "dpu"), (PollIn, "space")):
        components[item.__name__]["properties"][name] = {"type": "string", "pattern": ID_PATTERN}
    for kind, name in ((EventsIn, "events"), (ReadingsIn, "readings"), (PollsIn, "polls")):
        components[kind.__name__]["properties"][name]["maxItems"] = 10_000


def _operation(
    path: str, handler: HTTPRouteHandler, references: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    spec: Described = handler.opt["described"]
    summary, _, rest = inspect.cleandoc(handler.fn.__doc__ or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": handler.handler_name,
        "summary": summary,
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": ID_PATTERN},
            }
            for name in re.findall(r"\{(\w+)\}", path)
        ],
        "responses": {},
        "security": [{"token": [spec.scope]}] if spec.scope else [],
    }
    if rest.strip():
        operation["description"] = rest.strip()
    query = components.get(spec.query.__name__, {})
    for name, schema in query.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "schema": _without_null(schema)}
        if name in query.get("required", ()):
            parameter["required"] = True
        operation["parameters"].append(parameter)
    if spec.body is not None:
        content: dict[str, Any] = {kind: {"schema": references[str(spec.body)]} for kind in (JSON, MSGPACK)}
        content |= TEXTS.get(spec.body, {})
        operation["requestBody"] = {"required": True, "content": content}
    for status, answer in spec.answers.items():
        response: dict[str, Any] = {"description": "Created" if status == 201 else "Done"}
        if answer is not None:
            other: dict[str, Any] = {CSV: CSV_ANSWER, HTML: {}}
            response["content"] = {
                kind: other.get(kind, {"schema": references[str(answer)]}) for kind in spec.media_types
            }
        elif status == 200:
            response["content"] = {kind: {} for kind in spec.media_types}
        if "max_staleness" in query.get("properties", {}):
            response["headers"] = {"X-Data-As-Of": AS_OF}
        operation["responses"][str(status)] = response
    problems = {422, 500, *spec.problems}
    problems |= {400, 413, 415} if spec.body is not None else set()
    problems |= {503} if spec.database else set()
    problems |= {401, 403, 429, 503} if spec.scope else set()
    for status in sorted(problems):
        operation["responses"][str(status)] = {
            "description": BY_STATUS[status].title,
            "content": {PROBLEM_JSON: {"schema": references[str(ProblemOut)]}},
        }
    return operation


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is absent rather than null."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema
