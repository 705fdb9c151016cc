"""How many people are, or were, in a space."""

from datetime import UTC, datetime

from litestar import Response, get

from service import calls
from service.db import database
from service.messages import CountOut, CountQuery, CountsOut, CountsQuery
from service.negotiation import HttpRequest, answer, path_id, query
from service.openapi import described


@get("/v1/spaces/{space:str}/count", opt=described(CountOut, 404, query=CountQuery))
async def get_count(request: HttpRequest) -> Response[bytes]:
    """The count of a space at an instant (without `at`: now), from what was known at `known_at`."""
    asked = query(request, CountQuery)
    return answer(
        request, await calls.get_count(database(request), path_id(request, "space"), asked.at, asked.known_at)
    )


@get("/v1/counts", opt=described(CountsOut, 404, query=CountsQuery))
async def list_counts(request: HttpRequest) -> Response[bytes]:
    """The counts of the spaces named, or of a space and all below it, or of all, from one snapshot."""
    asked = query(request, CountsQuery)
    counts = await calls.list_counts(database(request), asked.space, asked.under, asked.at, asked.known_at)
    return answer(request, CountsOut(counts[0].at if counts else asked.at or datetime.now(UTC), counts))


HANDLERS = [get_count, list_counts]
