"""The composition root: everything the service is made of comes together here."""

from typing import Any, Self

from litestar import Litestar
from litestar.datastructures import State
from litestar.events import BaseEventEmitterBackend

from service.db import Database
from service.errors import add_request_id, problem_response
from service.live import Live
from service.routes import HANDLERS
from service.settings import Settings


class NoEvents(BaseEventEmitterBackend):
    """Nobody listens. Litestar's own keeps a task group open, which would wrap what stops the start."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None:
        """Never called."""


def create_app(settings: Settings) -> Litestar:
    """The ASGI application. Its lifespan opens the pool and raises SchemaMismatch on a schema it cannot speak to.

    Authentication belongs into `guards` here; until there are tokens, service/settings.py sees to it that the
    service can be reached from its own machine only.
    """
    database = Database(settings)
    live = Live(database)
    return Litestar(
        route_handlers=HANDLERS,
        guards=[],
        lifespan=[database.lifespan, live.lifespan],
        state=State({"database": database, "live": live}),
        exception_handlers={Exception: problem_response},
        before_send=[add_request_id],
        event_emitter_backend=NoEvents,
        # service/negotiation.py has limits of its own, which count inflated bytes too.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
    )
