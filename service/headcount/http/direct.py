"""Handlers that are called without Litestar's router, middleware, dependency groups and responses.

An address that sensors or screens ask for all the time says so: `opt={..., "is_direct": True}`. Its handler, its
dependencies, authorization and errors are the same functions that Litestar would call, in the same order. What is out
of the ordinary (another spelling of the address, another site's page) takes Litestar's way. What that saves is in
docs/explanation/decisions.md.
"""

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Send

from headcount.http.answers import encoded
from headcount.http.auth import authorize
from headcount.http.errors import problem_response
from headcount.http.inputs import DEFAULTS
from headcount.wire.messages.base import ID_PATTERN
from headcount.wire.problems import PROBLEM_JSON

# As Litestar writes a parameter of an address.
PARAMETER = re.compile(r"\{(\w+):str\}")
# Within an address, where more may follow.
ID = ID_PATTERN.removeprefix("^").removesuffix(r"\Z")


class Direct:
    """One handler. It has a path, `method`, parameters in its address that are ids, and returns a Struct."""

    def __init__(self, handler: HTTPRouteHandler) -> None:
        (path,) = handler.paths
        (self.method,) = handler.http_methods
        self.handler = handler
        self.template = PARAMETER.sub(r"{\1}", path)
        self.path = re.compile(PARAMETER.sub(lambda found: f"(?P<{found[1]}>{ID})", path).encode())
        self.status = handler.status_code or 200
        self.call: Callable[..., Any] = handler.fn
        self.names = [*signature(handler.fn).parameters]
        provided: dict[str, Any] = {**DEFAULTS, **(handler.dependencies or {})}
        self.params: Callable[..., Any] = provided["params"].dependency
        self.session: Callable[..., Any] = provided["session"].dependency
        self.content: Callable[..., Any] | None = provided["content"].dependency if "content" in provided else None

    async def run(self, scope: Any, receive: Receive, send: Send, ids: dict[str, str]) -> None:
        """Answers, also where something is wrong."""
        scope["route_handler"] = self.handler
        scope["path_params"] = ids
        scope["path_template"] = self.template
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        try:
            content = await self._answer(request, ids)
            body, media_type = encoded(request, content)
            status, headers = self.status, []
        except Exception as error:
            answer = problem_response(request, error)
            body, media_type, status = answer.content, PROBLEM_JSON, answer.status_code or 500
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        headers += ((b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _answer(self, request: Request[Any, Any, Any], ids: dict[str, str]) -> object:
        await authorize(request)
        given: dict[str, Any] = {**ids, "request": request}
        given["params"] = params = self.params(request)
        given["session"] = session = self.session(request, params)
        if self.content is not None:
            given["content"] = await self.content(request, session)
        return await self.call(**{name: given[name] for name in self.names})


class DirectHandlers:
    """Those of an app."""

    def __init__(self, handlers: Any) -> None:
        found = [Direct(handler) for handler in handlers if handler.opt.get("is_direct")]
        self.of_path = {one.template.encode(): one for one in found if "{" not in one.template}
        self.others = [one for one in found if "{" in one.template]

    def find(self, scope: HTTPScope) -> tuple[Direct, dict[str, str]] | None:
        """The handler of a request and the ids in its address; None: it takes Litestar's way."""
        found = self._match(scope.get("raw_path") or scope["path"].encode())
        if found is None or found[0].method != scope["method"] or _is_foreign(scope):
            return None
        return found

    def _match(self, path: bytes) -> tuple[Direct, dict[str, str]] | None:
        if (one := self.of_path.get(path)) is not None:
            return one, {}
        for one in self.others:
            if (match := one.path.fullmatch(path)) is not None:
                return one, {name: value.decode() for name, value in match.groupdict().items()}
        return None


def _is_foreign(scope: HTTPScope) -> bool:
    """A page of another site asks: its answer needs headers of its own."""
    return any(name == b"origin" for name, _ in scope["headers"])
