"""What handlers are given, and what is done before they are."""

import re
from collections.abc import Iterator

import httpx
from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from headcount.app import create_app
from headcount.http.asgi import App
from headcount.http.auth import authorize
from headcount.http.inputs import query_of
from headcount.settings import Settings
from headcount.wire.messages.base import PageQuery
from tests.http import body, problem

# Files, the same whatever is asked.
PAGES = ("/", "/reports", "/docs")


def app_of(*handlers: HTTPRouteHandler) -> App:
    return create_app(Settings(), handlers or None)


def made_at_once(app: App) -> Iterator[tuple[str, set[str]]]:
    """Each handler's name, with the inputs that Litestar would make at the same time for it."""
    for route in app.routes:
        assert isinstance(route, HTTPRoute)
        for handler, inputs in route.route_handler_map.values():
            for batch in inputs.dependency_batches:
                yield handler.handler_name, {dependency.key for dependency in batch}


def test_every_handler_gets_one_input_after_the_other() -> None:
    found = dict(made_at_once(app_of()))
    assert {"get_count", "record_events", "put_space"} <= set(found)
    assert [name for name, keys in made_at_once(app_of()) if len(keys) > 1] == []


def test_inputs_that_need_nothing_of_each_other_would_be_made_at_once() -> None:
    @get("/pages", dependencies={"params": query_of(PageQuery), "other": Provide(lambda: 1, sync_to_thread=False)})
    async def list_pages(params: NamedDependency[PageQuery], other: NamedDependency[int]) -> None: ...

    assert ("list_pages", {"params", "other"}) in made_at_once(app_of(list_pages))


def test_every_handler_is_authorized_before_it_gets_anything() -> None:
    for route in app_of().routes:
        assert isinstance(route, HTTPRoute), f"{route.path} is none that before_request stands before"
        for handler in route.route_handlers:
            assert handler.resolve_before_request() is authorize, handler


async def test_every_address_refuses_a_query_parameter_that_it_does_not_know(client: httpx.AsyncClient) -> None:
    asked = 0
    for path, operations in body(await client.get("/schema"))["paths"].items():
        for method in operations:
            response = await client.request(method, re.sub(r"{\w+}", "x", path) + "?surprise=1")
            if path in PAGES:
                assert response.status_code == 200
            else:
                problem(response, 422, "invalid", "surprise")
            asked += 1
    assert asked > 60
