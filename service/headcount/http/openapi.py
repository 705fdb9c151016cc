"""The OpenAPI document, made from the signatures of the handlers and what they add with `described`.

What a field or a parameter means is said where its type is (headcount.wire.messages, headcount.http.inputs), what an
operation does in the docstring of its handler. Why this is not Litestar's own: docs/explanation/decisions.md.
"""

import hashlib
import inspect
import json
import re
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from headcount.wire.instants import Instant
from headcount.wire.messages.base import ID_PATTERN, NoQuery, ProblemOut
from headcount.wire.messages.counts import LIVE_EVENTS
from headcount.wire.messages.events import EventIn, EventsIn, ReadingsIn
from headcount.wire.messages.sensors import HeartbeatsIn
from headcount.wire.messages.uptime import PollIn, PollsIn
from headcount.wire.problems import PROBLEM_JSON, PROBLEM_TYPES, ProblemType

JSON = "application/json"
MSGPACK = "application/msgpack"
CSV = "text/csv"
HTML = "text/html"
EVENT_STREAM = "text/event-stream"

ABOUT = """\
People counting: sensors above doorways (DPUs) send events, and the service answers how many people are in a space,
now and at any instant.

- Bodies are JSON or MessagePack in both directions. Ask for MessagePack with `Accept: application/msgpack`.
- Instants are RFC 3339 with an offset on the way in, and UTC with `Z` on the way out, to the microsecond.
- Ids are chosen by you: 1 to 64 of `A-Z a-z 0-9 . _ : -`, but not `.` or `..`.
- Every error is `application/problem+json` (RFC 9457). Besides those that an operation lists, any address may answer
  404 (no such address), 405 (with `Allow`), 421 (not a name of this service) and 431 (the head of the
  request is too large).
- Retries are safe: what was stored counts once, however often it is sent. After 429 and 503 wait for `Retry-After`.
- An unknown field or parameter is refused (422). An answer may gain fields, so ignore those that you do not know.
"""
# By module of headcount.routes: what its operations are about.
TAGS = {
    "counts": ("Counts", "How many people are, or were, in a space."),
    "events": ("Events", "Events in and out, and those that were rejected."),
    "plan": ("Floor plan", "Spaces, doorways, DPUs, where DPUs are, and resets."),
    "sensors": ("Sensors", "Heartbeats, states of sensors, incidents and availability."),
    "devices": (
        "Devices",
        "Events of one sensor under other names, for programs that already use them: a device is a DPU, a reading is "
        "an event. New programs use the addresses below `/v1`.",
    ),
    "polls": ("Uptime", "How long sites were up within their opening hours: polls, reports, timelines."),
    "reports": ("Uptime", "How long sites were up within their opening hours: polls, reports, timelines."),
    "notices": ("Notices", "Channels (webhooks, e-mail, chat) and what was sent by them."),
    "tokens": ("Tokens", "Tokens: who may do what."),
    "probes": ("Service", "The service itself: probes, metrics and this document."),
    "page": ("Pages", "Pages for people, and the files they are made of."),
}
TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token (hc_...) with the scope that the operation names: ingest, read or admin (includes read). "
    "A token that is limited to a space sees that space and everything below it. Not needed with HEADCOUNT_AUTH=off.",
}
INSTANT = {"type": "string", "format": "date-time"}
# Headers of answers, by the name under which they stand among the components.
HEADERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "RequestId": (
        "X-Request-Id",
        "Id of this request: yours, if you sent one of 1 to 64 `A-Z a-z 0-9 . _ : -`. The service's log names it.",
        {"type": "string", "examples": ["6f1c2a0e-54ce-4b0b-a1cf-6c2f4f0a3d11"]},
    ),
    "DataAsOf": ("X-Data-As-Of", "The answer has everything that was committed before this instant.", INSTANT),
    "RetryAfter": ("Retry-After", "In how many seconds to try again.", {"type": "integer", "examples": [1]}),
    "Authenticate": (
        "WWW-Authenticate",
        "What the token lacks (RFC 6750).",
        {"type": "string", "examples": ['Bearer realm="headcount", error="invalid_token"']},
    ),
    "Tag": (
        "ETag",
        "Send it as `If-None-Match` to get 304 while nothing has changed.",
        {"type": "string", "examples": ['"0123456789abcdef0123456789abcdef"']},
    ),
    "NextPage": (
        "Link",
        'Address of the next page, with `rel="next"`; absent on the last page.',
        {"type": "string", "examples": ['</sensors?limit=100&after=...>; rel="next"']},
    ),
    "ReportState": (
        "X-Report-Status",
        "How far the report is.",
        {"type": "string", "enum": ["Running", "Complete", "Failed"]},
    ),
}
IF_NONE_MATCH = "If-None-Match"
LAST_EVENT_ID = "Last-Event-ID"
# Headers of requests that an operation can name.
REQUEST_HEADERS = {
    IF_NONE_MATCH: "The `ETag` of the answer that you have: 304 without a body while it is still good.",
    LAST_EVENT_ID: "The `id` of the last event that you got: only what changed since is sent.",
}
HEADERS_OF_PROBLEMS = {401: ("Authenticate",), 403: ("Authenticate",), 429: ("RetryAfter",), 503: ("RetryAfter",)}
# What a problem of each kind can say; docs/errors.md has more of each.
DETAILS = {
    "malformed": "Input data was truncated.",
    "unauthorized": "A token is required. Send it in the header Authorization: Bearer hc_...",
    "forbidden": "The token is valid but lacks the scope `admin`; it has `read`.",
    "not_found": "There is no space 'room'. Create it with PUT /v1/spaces/{id}, or look at GET /v1/spaces.",
    "method_not_allowed": "This address takes GET, OPTIONS.",
    "conflict": "'house' is in use: the space 'room' lies in it.",
    "too_large": "A request can have 10,000 events; send them in parts.",
    "unsupported_media_type": "The body came as 'text/plain'; send application/json, application/msgpack.",
    "misdirected": "HEADCOUNT_AUTH is off, so this service answers only as localhost, 127.0.0.1 or [::1].",
    "invalid": "`nmae`: is not a field here.",
    "rate_limited": "This token can send 100 events a second. Nothing was stored; try again.",
    "head_too_large": "The head of the request is longer than 65536 bytes.",
    "internal": "The error is in the service. It was logged under this request's X-Request-Id.",
    "clock_suspect": "The clock of the service is more than 5 minutes behind that of the database.",
    "unavailable": "The database cannot be reached, or is too busy. Try again: nothing counts twice.",
}
STATUSES = {200: "OK", 201: "Created", 202: "Accepted", 204: "Done; the answer has no body."}
# Answers that are no JSON, by media type.
OTHER_ANSWERS: dict[str, dict[str, Any]] = {
    CSV: {
        "schema": {"type": "string", "description": "A line with the names of the fields, then a line for each item."}
    },
    HTML: {"schema": {"type": "string", "description": "The page."}},
    EVENT_STREAM: {
        "example": 'id: 9113:9113:@1772625600123456\nevent: count\ndata: {"space":"cafe","count":3,"raw_count":3}\n\n',
    },
    "image/svg+xml": {"schema": {"type": "string", "description": "A picture."}},
    "text/javascript": {"schema": {"type": "string", "description": "A script."}},
    "text/css": {"schema": {"type": "string", "description": "A style sheet."}},
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
REFERRED_RESPONSE = re.compile(r'"\$ref": "#/components/responses/([^"]+)"')
TEXTS: dict[type[msgspec.Struct], dict[str, Any]] = {EventsIn: EVENT_TEXT, PollsIn: POLL_TEXT}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler takes and gives that its signature does not say, or says otherwise than clients see it.

    Statuses of problems that every address has are left out.
    """

    scope: str | None
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    problems: tuple[int, ...] = ()
    created: bool = False
    undone: bool = False
    database: bool = True
    media_types: tuple[str, ...] = (JSON, MSGPACK)
    # Of the request, and (by their names among the components) of the answer.
    takes_headers: tuple[str, ...] = ()
    gives_headers: tuple[str, ...] = ()


def described(
    *problems: int,
    scope: str | None,
    cached: bool = False,
    triggers: bool = False,
    is_direct: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """For a handler's `opt`: what its signature does not say, and the scope that headcount.http.auth asks for.

    `scope` is OPEN where there is none. With `created` the answer may come as 201 as well as 200, with `undone` there
    may be none (204). With `cached` it has an ETag. Where text/html is one of its media types, who prefers that gets a
    page, and needs no token for it. `triggers`: it changes something, although it is a GET.
    `is_direct`: it is called without what Litestar has around it (http.direct).
    """
    if cached:
        more["takes_headers"] = (IF_NONE_MATCH, *more.get("takes_headers", ()))
        more["gives_headers"] = ("Tag", *more.get("gives_headers", ()))
    spec = Described(problems=problems, scope=scope, **more)
    opt = {"scope": scope, "page": HTML in spec.media_types, "triggers": triggers, "described": spec}
    opt["is_direct"] = is_direct
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
    kinds: list[Any] = [ProblemOut, *LIVE_EVENTS.values()]
    for *_, handler in handlers:
        kinds += [kind for kind in (_query(handler), _content(handler), _answer_kind(handler)) if kind]
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=_schema, ref_template="#/components/schemas/{name}"
    )
    references = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler in handlers:
        paths.setdefault(path, {})[method] = _operation(path, handler, references, components)
    _bound_events(components)
    referred = set(REFERRED_RESPONSE.findall(json.dumps(paths)))
    responses = {
        _name_of(status): _problem(status, references[str(ProblemOut)])
        for status in sorted({kind.status for kind in PROBLEM_TYPES.values()})
        if _name_of(status) in referred
    }
    tags = dict(TAGS[_topic(handler)] for *_, handler in handlers)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Headcount",
            "version": "1",
            "summary": "People counting on TimescaleDB.",
            "description": ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "The service that this document came from."}],
        "tags": [{"name": name, "description": tags[name]} for name, _ in dict.fromkeys(TAGS.values()) if name in tags],
        "paths": paths,
        "components": {
            "schemas": _used([paths, responses], components),
            "responses": responses,
            "headers": {key: {"description": text, "schema": schema} for key, (_, text, schema) in HEADERS.items()},
            "securitySchemes": {"token": TOKEN_SCHEME},
        },
    }
    # Patterns end in Python's \Z here, which JSON Schema writes $.
    return json.dumps(_plain(whole)).replace('\\\\Z"', '$"').encode()


def _schema(kind: type) -> dict[str, Any]:
    if kind is Instant:
        return dict(INSTANT)
    raise NotImplementedError(kind)


def _used(users: Any, components: dict[str, Any]) -> dict[str, Any]:
    """The schemas that an operation refers to, itself or by others: query Structs became parameters."""
    used: dict[str, Any] = {}
    found = REFERENCE.findall(json.dumps(users))
    while found:
        name = found.pop()
        if name not in used:
            used[name] = components[name]
            found += REFERENCE.findall(json.dumps(components[name]))
    return dict(sorted(used.items()))


def _plain(schema: Any) -> Any:
    """The same as generators of clients understand it.

    Tuples are arrays of a fixed length, since many do not know `items: false`. What is null by default is optional
    and no more: with a default, some would have it given always. Words are of type string, which msgspec leaves out.
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
    if isinstance(schema.get("enum"), list) and "type" not in schema:
        schema = {"type": "string", **schema}
    if isinstance(schema.get("description"), str):
        schema = {**schema, "description": inspect.cleandoc(schema["description"])}
    return {name: _plain(value) for name, value in schema.items() if (name, value) != ("default", None)}


def _bound_events(components: dict[str, Any]) -> None:
    """What headcount.ingest.formats checks for a whole batch, and therefore the Structs do not say."""
    for item, name in ((EventIn, "dpu"), (PollIn, "space")):
        components[item.__name__]["properties"][name]["pattern"] = ID_PATTERN
    for kind, name in ((EventsIn, "events"), (ReadingsIn, "readings"), (PollsIn, "polls")):
        components[kind.__name__]["properties"][name]["maxItems"] = 10_000


def _topic(handler: HTTPRouteHandler) -> str:
    return handler.fn.__module__.rpartition(".")[2]


def _spec(handler: HTTPRouteHandler) -> Described:
    spec: Described = handler.opt["described"]
    return spec


def _parameters(handler: HTTPRouteHandler) -> dict[str, FieldDefinition]:
    return handler.parsed_fn_signature.parameters


def _struct(field: FieldDefinition | None) -> Any:
    """The Struct that a parameter is, or may be."""
    if field is None:
        return None
    return next((one.annotation for one in (field, *field.inner_types) if one.is_subclass_of(msgspec.Struct)), None)


def _query(handler: HTTPRouteHandler) -> type[msgspec.Struct]:
    return _spec(handler).query or _struct(_parameters(handler).get("params")) or NoQuery


def _content(handler: HTTPRouteHandler) -> Any:
    return _spec(handler).body or _struct(_parameters(handler).get("content"))


def _answer_kind(handler: HTTPRouteHandler) -> Any:
    """What is returned, by itself or within a response: the first of several. None for streams, files and nothing."""
    returned = handler.parsed_fn_signature.return_type.annotation
    for kind in get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,):
        held = get_args(kind)[0] if issubclass(_class(kind), Response) and get_args(kind) else kind
        if issubclass(_class(held), msgspec.Struct):
            return held
    return _spec(handler).answer


def _class(kind: Any) -> type:
    found = get_origin(kind) or kind
    return found if isinstance(found, type) else object


def _answers(handler: HTTPRouteHandler) -> dict[int, Any]:
    """By status."""
    spec, kind = _spec(handler), _answer_kind(handler)
    answers = {200: kind, 201: kind} if spec.created else {int(handler.status_code): kind}
    return answers | {204: None} if spec.undone else answers


def _operation(
    path: str, handler: HTTPRouteHandler, references: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    spec, query, body = _spec(handler), _query(handler), _content(handler)
    summary, _, rest = inspect.cleandoc(handler.fn.__doc__ or "").partition("\n")
    needs = f"Needs a token with the scope `{spec.scope}`." if spec.scope else "Needs no token."
    operation: dict[str, Any] = {
        "operationId": handler.handler_name,
        "summary": summary,
        "description": f"{rest.strip()}\n\n{needs}".strip(),
        "tags": [TAGS[_topic(handler)][0]],
        "parameters": [
            *(_path_parameter(name, _parameters(handler)[name]) for name in re.findall(r"\{(\w+)\}", path)),
            *_query_parameters(components.get(query.__name__, {})),
            *map(_header_parameter, spec.takes_headers),
        ],
        "responses": {},
        "security": [{"token": [spec.scope]}] if spec.scope else [],
    }
    if body is not None:
        operation["requestBody"] = _body(body, references[str(body)], components)
    for status, answer in _answers(handler).items():
        operation["responses"][str(status)] = _answer(spec, query, status, answer, references)
    if IF_NONE_MATCH in spec.takes_headers:
        operation["responses"]["304"] = {
            "description": "Nothing has changed; the answer has no body.",
            "headers": _headers(*spec.gives_headers),
        }
    problems = {422, 500, *spec.problems}
    problems |= {400, 413, 415} if body is not None else set()
    problems |= {503} if spec.database else set()
    problems |= {401, 403, 429, 503} if spec.scope else set()
    for status in sorted(problems):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{_name_of(status)}"}
    return operation


def _path_parameter(name: str, field: FieldDefinition) -> dict[str, Any]:
    kind = field.kwarg_definition
    if not isinstance(kind, PathParameter):
        raise TypeError(f"the type of {name} does not say what it is: see headcount.http.inputs")
    examples = [example.value for example in kind.examples or ()]
    schema = {"type": "string", "pattern": kind.pattern, "examples": examples}
    return {"name": name, "in": "path", "description": kind.description, "required": True, "schema": schema}


def _query_parameters(query: dict[str, Any]) -> list[dict[str, Any]]:
    parameters = []
    for name, schema in query.get("properties", {}).items():
        text = schema.get("description", "")
        parameter = {"name": name, "in": "query", "description": text, "schema": _without_null(schema)}
        if name in query.get("required", ()):
            parameter["required"] = True
        parameters.append(parameter)
    return parameters


def _header_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": REQUEST_HEADERS[name], "schema": {"type": "string"}}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is absent rather than null. What it means is said beside its schema."""
    schema = {name: value for name, value in schema.items() if name != "description"}
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    return {**options[0], **({"examples": schema["examples"]} if "examples" in schema else {})}


def _body(body: type[msgspec.Struct], reference: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": reference} for kind in (JSON, MSGPACK)}
    content |= TEXTS.get(body, {})
    text = components[body.__name__]["description"]
    if body in (EventsIn, ReadingsIn, PollsIn, HeartbeatsIn):
        text += " Up to 10,000 items and 8 MiB, inflated. With `Content-Encoding: gzip` the body can be gzip."
    return {"description": text, "required": True, "content": content}


def _answer(
    spec: Described, query: type[msgspec.Struct], status: int, answer: Any, references: dict[str, Any]
) -> dict[str, Any]:
    text = inspect.getdoc(answer) if isinstance(answer, type) and issubclass(answer, msgspec.Struct) else None
    response: dict[str, Any] = {"description": f"{STATUSES[status]}: {text}" if text else STATUSES[status]}
    names = ["RequestId", *spec.gives_headers]
    if "max_staleness" in query.__struct_fields__:
        names.append("DataAsOf")
    response["headers"] = _headers(*names)
    if status == 204:
        return response
    shown = {"schema": references[str(answer)]} if answer is not None else {}
    if EVENT_STREAM in spec.media_types:
        response["content"] = {EVENT_STREAM: {"itemSchema": _event(references), **OTHER_ANSWERS[EVENT_STREAM]}}
        return response
    response["content"] = {
        kind: OTHER_ANSWERS[kind] if kind in OTHER_ANSWERS else shown or _text(kind) for kind in spec.media_types
    }
    return response


def _event(references: dict[str, Any]) -> dict[str, Any]:
    """One server-sent event, as OpenAPI 3.2 describes them; tools for 3.1 take this name or pass over it."""
    data = [references[str(kind)] for kind in LIVE_EVENTS.values()]
    names = ", ".join(LIVE_EVENTS)
    return {
        "type": "object",
        "description": "A server-sent event.",
        "required": ["event", "data", "id"],
        "properties": {
            "id": {"type": "string", "description": "Send it as `Last-Event-ID` to go on after this event."},
            "event": {"type": "string", "description": f"What `data` is: {names}.", "examples": ["count"]},
            "data": {
                "type": "string",
                "description": "JSON, on one line.",
                "contentMediaType": JSON,
                "contentSchema": {"anyOf": data},
            },
        },
    }


def _text(kind: str) -> dict[str, Any]:
    if kind == JSON:
        return {"schema": {"type": "object", "description": "The OpenAPI document."}}
    return {"schema": {"type": "string", "description": f"Text, as {kind}."}}


def _headers(*names: str) -> dict[str, Any]:
    return {HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in names}


def _kinds_of(status: int) -> list[ProblemType]:
    return [kind for kind in PROBLEM_TYPES.values() if kind.status == status]


def _name_of(status: int) -> str:
    """The name of a problem's response among the components: its code, of several the last one's."""
    return _kinds_of(status)[-1].code


def _problem(status: int, reference: dict[str, Any]) -> dict[str, Any]:
    kinds = _kinds_of(status)
    examples = {
        kind.code: {
            "summary": kind.title,
            "value": {
                "type": f"urn:headcount:error:{kind.code}",
                "title": kind.title,
                "status": kind.status,
                "detail": DETAILS[kind.code],
                "code": kind.code,
            },
        }
        for kind in kinds
    }
    return {
        "description": " ".join(f"`{kind.code}`: {kind.title.rstrip('.')}." for kind in kinds),
        "headers": _headers("RequestId", *HEADERS_OF_PROBLEMS.get(status, ())),
        "content": {PROBLEM_JSON: {"schema": reference, "examples": examples}},
    }
