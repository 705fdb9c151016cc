"""GET /schema, and what schemathesis makes of it."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from litestar import Litestar
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

from tests.http import body, exploring

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


async def test_it_describes_every_address(app: Litestar, client: httpx.AsyncClient) -> None:
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
    schemas = msgspec.json.decode(text)["components"]["schemas"]
    referred_to = re.findall(r'"\$ref": ?"([^"]*)"', text)
    assert {f"#/components/schemas/{name}" for name in schemas} == set(referred_to)
    assert {"ReportIn", "HeartbeatIn", "ProblemOut"} <= set(schemas)


async def test_the_sides_of_a_doorway_are_an_array_of_two(client: httpx.AsyncClient) -> None:
    text = (await client.get("/schema")).text
    assert "prefixItems" not in text
    schemas = msgspec.json.decode(text)["components"]["schemas"]
    for name in ("DoorwayIn", "DoorwayOut", "SiteDoorwayIn"):
        sides = schemas[name]["properties"]["sides"]
        assert (sides["type"], sides["minItems"], sides["maxItems"]) == ("array", 2, 2)
        assert {option["type"] for option in sides["items"]["anyOf"]} == {"string", "null"}


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
        @exploring(EXAMPLES)
        @given(cases)
        def run(case: Case[Any]) -> None:
            send(case)

        run()

    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
            await asyncio.to_thread(explore, result.ok().as_strategy(generation_mode=mode))


async def test_a_parameter_that_must_be_given_is_required(client: httpx.AsyncClient) -> None:
    paths = body(await client.get("/schema"))["paths"]
    for path, name in (("/v1/dpus/{dpu}/placements", "from"), ("/v1/spaces/{space}/resets", "at")):
        required = [one["name"] for one in paths[path]["delete"]["parameters"] if one.get("required")]
        assert name in required, path
        assert "dry_run" not in required


async def test_the_document_is_made_once_and_need_not_be_sent_again(app: Litestar, client: httpx.AsyncClient) -> None:
    first = await client.get("/schema")
    made = app.state.document.made
    again = await client.get("/schema", headers={"If-None-Match": first.headers["etag"]})
    assert app.state.document.made is made
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/schema")).content == first.content == made[0]
