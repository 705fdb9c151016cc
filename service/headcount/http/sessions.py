"""Where a request reads and writes: as far as its token reaches."""

from datetime import UTC, datetime

from headcount.database.pool import (
    PLAN_IS_BUSY,
    PLAN_SECONDS,
    PREVIEW_IS_BUSY,
    PREVIEW_SECONDS,
    Bounded,
    Client,
    Database,
)
from headcount.database.replica import ReplicaSession
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.wire.access import Access


def access_of(request: HttpRequest) -> Access:
    """What the request's token may do. Raises where nobody has asked for one: an open address has no business here."""
    access = request.auth
    if not isinstance(access, Access):
        raise RuntimeError(f"{request.url.path} asks for no token, so it must not read or write")
    return access


def database(request: HttpRequest, *, is_slow: bool = False) -> Client:
    """The one that belongs to the request's app, as far as the request's token reaches. Raises as access_of.

    `is_slow`: what is asked may take seconds; of these one client has few at a time.
    """
    access = access_of(request)
    limited_to = access.token if access.is_limited else None
    return Client(whole_database(request), access.client, limited_to, is_slow=is_slow)


def plan_database(request: HttpRequest) -> Bounded:
    """As database, for a change of the floor plan."""
    return Bounded(database(request), PLAN_SECONDS, PLAN_IS_BUSY)


def preview_database(request: HttpRequest) -> Bounded:
    """As database, for a dry run of such a change."""
    return Bounded(database(request), PREVIEW_SECONDS, PREVIEW_IS_BUSY)


def database_of_token(request: HttpRequest) -> Client:
    """As database; its statements know the token that asks also where that is not limited."""
    access = access_of(request)
    return Client(whole_database(request), access.client, access.token)


def whole_database(request: HttpRequest) -> Database:
    """For what nobody needs a token for: whether it is there."""
    return services(request).database


def reading(
    request: HttpRequest, max_staleness: int, *, is_now: bool = False, is_slow: bool = False
) -> Client | ReplicaSession:
    """Where a request reads that allows its answer to be so many seconds old, within the reach of its token.

    What is asked of this very moment (`is_now`) is cheap, and leaves the primary only if it may be old. The answer
    says in X-Data-As-Of up to when it has everything. `is_slow`: as `database` says.
    """
    state = request.scope["state"]

    def note(at: datetime) -> None:
        state["as_of"] = at

    note(datetime.now(UTC))
    session = database(request, is_slow=is_slow)
    replica = services(request).replica
    if replica is None or (is_now and not max_staleness):
        return session
    return ReplicaSession(replica, session, max_staleness, note)
