"""GET /schema, and what schemathesis makes of it."""

import asyncio
import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import SkipTest

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable, UnsatisfiedAssumption
from litestar.routes import HTTPRoute
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headcount.http.asgi import App
from headcount.http.openapi import DETAILS
from headcount.wire.messages.base import ProblemOut
from headcount.wire.problems import PROBLEM_TYPES
from tests.http import Json, body, exploring

EXAMPLES = 10


@schemathesis.serializer("application/msgpack")
def as_msgpack(_: object, value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:  # integers beyond 64 bits
        reject()


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(_: object, value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


async def test_it_describes_every_address(app: App, client: httpx.AsyncClient) -> None:
    document = body(await client.get("/schema"))
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }
    assert document["openapi"].startswith("3.1")
    assert "\\Z" not in msgspec.json.encode(document).decode()
    events = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert set(events) == {"application/json", "application/msgpack", "application/x-ndjson", "text/csv"}


async def test_every_reference_leads_somewhere_and_everything_is_referred_to(client: httpx.AsyncClient) -> None:
    text = (await client.get("/schema")).text
    components = msgspec.json.decode(text)["components"]
    referred_to = set(re.findall(r'"\$ref": ?"([^"]*)"', text))
    found = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses", "headers") for name in components[kind]}
    assert found == referred_to
    assert {"ReportIn", "HeartbeatIn", "ProblemOut", "ListAgainOut"} <= set(components["schemas"])


async def test_the_sides_of_a_doorway_are_an_array_of_two(client: httpx.AsyncClient) -> None:
    text = (await client.get("/schema")).text
    assert "prefixItems" not in text
    schemas = msgspec.json.decode(text)["components"]["schemas"]
    for name in ("DoorwayIn", "DoorwayOut", "SiteDoorwayIn"):
        sides = schemas[name]["properties"]["sides"]
        assert (sides["type"], sides["minItems"], sides["maxItems"]) == ("array", 2, 2)
        assert {option["type"] for option in sides["items"]["anyOf"]} == {"string", "null"}


def schemas_of(part: Any, place: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema in the document, with the place where it stands."""
    if isinstance(part, list):
        for index, one in enumerate(part):
            yield from schemas_of(one, f"{place}[{index}]")
    elif isinstance(part, dict):
        for name, value in part.items():
            here = f"{place}.{name}"
            if name == "schemas":
                for kind, schema in value.items():
                    yield from _within(schema, f"{here}.{kind}")
            elif name in ("schema", "itemSchema"):
                yield from _within(value, here)
            elif name not in ("example", "examples"):
                yield from schemas_of(value, here)


def _within(schema: Json, place: str) -> Iterator[tuple[str, Json]]:
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _within(inner, f"{place}.{name}")
    for name in ("items", "additionalProperties", "contentSchema"):
        if isinstance(schema.get(name), dict):
            yield from _within(schema[name], f"{place}.{name}")
    for option in schema.get("anyOf", []):
        yield from _within(option, place)


def operations_of(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def is_described(part: Json) -> bool:
    return isinstance(part.get("description"), str) and part["description"].strip() != ""


async def test_every_operation_has_a_tag_a_summary_and_a_name_of_its_own(client: httpx.AsyncClient) -> None:
    document = body(await client.get("/schema"))
    assert is_described(document["info"])
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    tags = {tag["name"] for tag in document["tags"] if is_described(tag)}
    assert len(tags) == len(document["tags"])
    operations = dict(operations_of(document))
    for place, operation in operations.items():
        assert set(operation["tags"]) <= tags, place
        assert len(operation["tags"]) == 1, place
        assert operation["summary"].strip(), place
        assert is_described(operation), place
        assert operation["description"].count("Needs ") == 1, place
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    assert {tag for operation in operations.values() for tag in operation["tags"]} == tags


async def test_everything_in_it_is_described(client: httpx.AsyncClient) -> None:
    document = body(await client.get("/schema"))
    components = document["components"]
    missing: list[str] = []
    for place, operation in operations_of(document):
        for parameter in operation["parameters"]:
            missing += [f"{place} {parameter['name']}"] * (not is_described(parameter))
            assert "type" in parameter["schema"] or "anyOf" in parameter["schema"], (place, parameter)
        if "requestBody" in operation:
            missing += [f"{place} body"] * (not is_described(operation["requestBody"]))
        for status, named in operation["responses"].items():
            response = components["responses"][named["$ref"].rpartition("/")[2]] if "$ref" in named else named
            missing += [f"{place} {status}"] * (not is_described(response))
            assert "X-Request-Id" in response["headers"] or status == "304", (place, status)
            assert response.get("content") or status in ("204", "304"), (place, status)
            for kind, content in response.get("content", {}).items():
                assert content.get("schema") or content.get("itemSchema"), (place, status, kind)
    for kind in ("schemas", "headers", "securitySchemes"):
        missing += [name for name, part in components[kind].items() if not is_described(part)]
    for place, schema in schemas_of(document):
        for name, field in schema.get("properties", {}).items():
            missing += [f"{place}.{name}"] * (not is_described(field))
    assert missing == []
    text = (await client.get("/schema")).text
    descriptions: list[str] = re.findall(r'"description": ?"((?:[^"\\]|\\.)*)"', text)
    assert [found for found in descriptions if "    " in found] == []


async def test_every_schema_in_it_has_a_type(client: httpx.AsyncClient) -> None:
    for place, schema in schemas_of(body(await client.get("/schema"))):
        assert {"type", "$ref", "anyOf"} & set(schema), place
        if schema.get("type") == "array":
            assert schema.get("items"), place
        if schema.get("type") == "object":
            is_free = place.endswith((".data", "/schema.get.responses.200.content.application/json.schema"))
            assert is_free or schema.get("properties") or schema.get("additionalProperties"), place
        if "enum" in schema:
            assert schema["type"] == "string", place


INSTANTS = re.compile(
    r"(?:.*_)?at|from|to|until|since|.*_since|.*_until|timestamp|.*_timestamp|last_.*|first_heard|start|end|now"
)


async def test_every_instant_in_it_is_a_date_time(client: httpx.AsyncClient) -> None:
    document = body(await client.get("/schema"))
    found = [(place.rpartition(".")[2], place, schema) for place, schema in schemas_of(document)]
    found += [
        (parameter["name"], place, parameter["schema"])
        for place, operation in operations_of(document)
        for parameter in operation["parameters"]
    ]
    seen = set()
    for name, place, schema in found:
        # `reset_at` is a local time, `to` of a channel are e-mail addresses
        is_other = "reset_at" in name or ".Channel" in place
        if INSTANTS.fullmatch(name) and not is_other and schema.get("type") == "string":
            assert schema.get("format") == "date-time", place
            seen.add(name)
    assert {"at", "from", "to", "until", "timestamp", "latest_timestamp", "last_seen", "received_at"} <= seen


async def test_problems_in_it_have_their_codes_and_headers(client: httpx.AsyncClient) -> None:
    assert set(DETAILS) == set(PROBLEM_TYPES)
    responses = body(await client.get("/schema"))["components"]["responses"]
    shown = {}
    for response in responses.values():
        for code, example in response["content"]["application/problem+json"]["examples"].items():
            shown[code] = msgspec.convert(example["value"], ProblemOut)
            assert f"`{code}`" in response["description"]
    assert {code: (shown[code].status, shown[code].title) for code in shown} == {
        code: (PROBLEM_TYPES[code].status, PROBLEM_TYPES[code].title) for code in shown
    }
    # 405, 421 and 431 can come from every address: `info` says so
    assert set(PROBLEM_TYPES) - set(shown) == {"method_not_allowed", "misdirected", "head_too_large"}
    assert "Retry-After" in responses["rate_limited"]["headers"]
    assert "Retry-After" in responses["unavailable"]["headers"]
    assert "WWW-Authenticate" in responses["unauthorized"]["headers"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_it_keeps_to_its_description_whatever_it_is_sent(client: httpx.AsyncClient, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(body(await client.get("/schema")))
    loop = asyncio.get_running_loop()
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    ]

    def send(case: Case[Any]) -> None:
        sent = case.as_transport_kwargs(base_url="http://localhost")
        content = sent.pop("data", None)
        request = client.request(
            **{name: value for name, value in sent.items() if name in ("method", "url", "params", "headers", "json")},
            content=content,
        )
        try:
            response = asyncio.run_coroutine_threadsafe(request, loop).result(60)
        except httpx.InvalidURL:
            return  # longer than the client can send
        case.validate_response(response, checks=checks)

    def explore(cases: st.SearchStrategy[Case[Any]]) -> None:
        tries, sent = itertools.count(), itertools.count()

        @st.composite
        def some(draw: st.DrawFn) -> Case[Any]:
            try:
                return draw(cases)
            except UnsatisfiedAssumption:
                if next(tries) == 10 * EXAMPLES and next(sent) == 0:
                    raise SkipTest("It would be tried hundreds of times.") from None
                raise

        @exploring(EXAMPLES)
        @given(some())
        def run(case: Case[Any]) -> None:
            next(sent)
            send(case)

        run()

    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        with suppress(Unsatisfiable, SkipTest):  # what takes nothing cannot be asked wrongly
            await asyncio.to_thread(explore, result.ok().as_strategy(generation_mode=mode))


async def test_a_parameter_that_must_be_given_is_required(client: httpx.AsyncClient) -> None:
    paths = body(await client.get("/schema"))["paths"]
    for path, name in (("/v1/dpus/{dpu}/placements", "from"), ("/v1/spaces/{space}/resets", "at")):
        required = [one["name"] for one in paths[path]["delete"]["parameters"] if one.get("required")]
        assert name in required, path
        assert "dry_run" not in required


async def test_the_document_is_made_once_and_need_not_be_sent_again(app: App, client: httpx.AsyncClient) -> None:
    first = await client.get("/schema")
    made = app.services.document.made
    again = await client.get("/schema", headers={"If-None-Match": first.headers["etag"]})
    assert app.services.document.made is made
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/schema")).content == first.content == (made and made[0])
