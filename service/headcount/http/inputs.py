"""What handlers are given beside the request: ids from the address by type, all else as dependencies.

These are `params`, what the query string says; `session`, where to read and write; and `content`, what the body says.
Each is made from the one before it, so that no two could be made at once: for such ones Litestar starts a group of
tasks, which makes a request cost a third more (docs/explanation/decisions.md).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Protocol, TypeVar

from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import Example
from litestar.params import PathParameter, SkipValidation
from msgspec import Struct

from headcount.database.pool import Client
from headcount.database.replica import ReplicaSession
from headcount.http.auth import charge
from headcount.http.decoding import admit
from headcount.http.requests import HttpRequest, client_of, decode, query
from headcount.http.services import Services, services
from headcount.http.sessions import database, database_of_token, plan_database, reading
from headcount.ingest.backpressure import Intake
from headcount.wire.bodies import MAX_PLAN_BODY
from headcount.wire.messages.base import ID_PATTERN, NoQuery
from headcount.wire.shares import Place, Places


class Counted(Protocol):
    """What is charged by the number of its items."""

    @property
    def received(self) -> int: ...


Items = TypeVar("Items", bound=Counted)


def _id(of: str, example: str) -> PathParameter:
    return PathParameter(pattern=ID_PATTERN, description=of, examples=[Example(value=example)])


SpaceId = Annotated[str, _id("Id of the space.", "cafe")]
DoorwayId = Annotated[str, _id("Id of the doorway.", "front-door")]
DpuId = Annotated[str, _id("Id of the DPU.", "dpu-1")]
DeviceId = Annotated[str, _id("Id of the device (DPU).", "1234")]
ReportId = Annotated[str, _id("Id of the report.", "0f9a2c54-7d0e-4c7f-9d3a-2b1f0c9e8d7a")]
ChannelId = Annotated[str, _id("Id of the channel.", "facilities")]
DeliveryId = Annotated[str, _id("Id of the delivery.", "17")]
TokenId = Annotated[str, _id("Id of the token (not its secret).", "tok_1")]
FileName = Annotated[str, _id("Name of the file.", "page.css")]

# A session that reads from the replica, or from the primary.
ReadingSession = NamedDependency[SkipValidation[Client | ReplicaSession]]


def query_of(kind: type[Struct]) -> Provide:
    """`params`: the query string as this Struct."""

    def provide(request: HttpRequest) -> Any:
        return query(request, kind)

    return Provide(provide, sync_to_thread=False)


def session_of(make: Callable[[HttpRequest, Any], object]) -> Provide:
    """`session`: made of the request and what is asked."""

    def provide(request: HttpRequest, params: NamedDependency[Any]) -> Any:
        return make(request, params)

    return Provide(provide, sync_to_thread=False)


def content_of(read: Callable[[HttpRequest], Awaitable[object]]) -> Provide:
    """`content`: what `read` makes of the request's body."""

    async def provide(request: HttpRequest, session: NamedDependency[Any]) -> Any:
        return await read(request)

    return Provide(provide)


def placed_content_of(
    places_of: Callable[[Services], Places], read: Callable[[HttpRequest, Place], Awaitable[object]]
) -> Provide:
    """As content_of, with a place that `read` may take. It is free again when the call has ended."""

    async def provide(request: HttpRequest, session: NamedDependency[Any]) -> AsyncIterator[Any]:
        with places_of(services(request)).one(client_of(request)) as place:
            yield await read(request, place)

    return Provide(provide)


def body_of(kind: type[Struct], limit: int = MAX_PLAN_BODY) -> Provide:
    """`content`: the body, of at most so many bytes, as this Struct."""
    return content_of(lambda request: decode(request, kind, limit))


def batch_of(intake_of: Callable[[Services], Intake], read: Callable[[HttpRequest], Awaitable[Items]]) -> Provide:
    """`content`: many items, whose body is read only if there is room for them. They are charged to its token."""

    async def read_batch(request: HttpRequest) -> Items:
        await admit(request, intake_of(services(request)))
        batch = await read(request)
        charge(request, batch.received)
        return batch

    return content_of(read_batch)


# What all handlers get unless they say otherwise. An address takes no query parameters then.
DEFAULTS = {"params": query_of(NoQuery), "session": session_of(lambda request, _: database(request))}
# Sessions for what may take seconds, for that where the answer may be as old as `max_staleness`, and for changes of the
# floor plan.
SLOW_SESSION = session_of(lambda request, _: database(request, is_slow=True))
SLOW_READING = session_of(lambda request, params: reading(request, params.max_staleness, is_slow=True))
PLAN_SESSION = session_of(lambda request, _: plan_database(request))
TOKEN_SESSION = session_of(lambda request, _: database_of_token(request))
