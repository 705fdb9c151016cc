"""The floor plan: spaces, doorways, DPUs, where they are, and resets."""

from datetime import datetime

from litestar import Response, delete, get, post, put

from service import calls, cursor
from service.db import database
from service.messages import (
    DoorwayIn,
    DoorwayOut,
    DpuIn,
    DpuOut,
    DpusQuery,
    Id,
    Page,
    PageQuery,
    PlacementIn,
    PlacementOut,
    ResetIn,
    ResetOut,
    ResetRow,
    ResetsQuery,
    SiteIn,
    SiteOut,
    SpaceIn,
    SpaceOut,
    SpacesQuery,
)
from service.negotiation import HttpRequest, answer, decode, no_query, path_id, query
from service.openapi import described


def _after(text: str | None) -> str | None:
    return cursor.read(text, Id) if text else None


@put("/v1/spaces/{space:str}", opt=described(SpaceOut, 404, 409, scope="admin", created=True, body=SpaceIn))
async def put_space(request: HttpRequest) -> Response[bytes]:
    """Makes or changes a space. What is absent stays as it is; null clears it."""
    no_query(request)
    created, result = await calls.put_space(
        database(request), path_id(request, "space"), await decode(request, SpaceIn)
    )
    return answer(request, result, 201 if created else 200)


@get("/v1/spaces/{space:str}", opt=described(SpaceOut, 404, scope="read"))
async def get_space(request: HttpRequest) -> Response[bytes]:
    """One space."""
    no_query(request)
    return answer(request, await calls.get_space(database(request), path_id(request, "space")))


@get("/v1/spaces", opt=described(Page[SpaceOut], 404, scope="read", query=SpacesQuery))
async def list_spaces(request: HttpRequest) -> Response[bytes]:
    """The spaces, or those right below a parent, by id."""
    asked = query(request, SpacesQuery)
    rows = await calls.list_spaces(database(request), asked.parent, _after(asked.after), asked.limit + 1)
    return answer(request, cursor.page(rows, asked.limit, lambda space: space.id))


@delete("/v1/spaces/{space:str}", status_code=204, opt=described(None, 404, 409, scope="admin", status=204))
async def delete_space(request: HttpRequest) -> None:
    """Deletes a space to which nothing refers."""
    no_query(request)
    await calls.delete_space(database(request), path_id(request, "space"))


@put("/v1/doorways/{doorway:str}", opt=described(DoorwayOut, 404, 409, scope="admin", created=True, body=DoorwayIn))
async def put_doorway(request: HttpRequest) -> Response[bytes]:
    """Makes or changes a doorway. Its sides are fixed once a DPU was placed there."""
    no_query(request)
    created, result = await calls.put_doorway(
        database(request), path_id(request, "doorway"), await decode(request, DoorwayIn)
    )
    return answer(request, result, 201 if created else 200)


@get("/v1/doorways/{doorway:str}", opt=described(DoorwayOut, 404, scope="read"))
async def get_doorway(request: HttpRequest) -> Response[bytes]:
    """One doorway."""
    no_query(request)
    return answer(request, await calls.get_doorway(database(request), path_id(request, "doorway")))


@get("/v1/doorways", opt=described(Page[DoorwayOut], scope="read", query=PageQuery))
async def list_doorways(request: HttpRequest) -> Response[bytes]:
    """The doorways, by id."""
    asked = query(request, PageQuery)
    rows = await calls.list_doorways(database(request), _after(asked.after), asked.limit + 1)
    return answer(request, cursor.page(rows, asked.limit, lambda doorway: doorway.id))


@put("/v1/dpus/{dpu:str}", opt=described(DpuOut, 404, 409, scope="admin", created=True, body=DpuIn))
async def put_dpu(request: HttpRequest) -> Response[bytes]:
    """Registers or changes a DPU."""
    no_query(request)
    created, result = await calls.put_dpu(database(request), path_id(request, "dpu"), await decode(request, DpuIn))
    return answer(request, result, 201 if created else 200)


@get("/v1/dpus/{dpu:str}", opt=described(DpuOut, 404, scope="read"))
async def get_dpu(request: HttpRequest) -> Response[bytes]:
    """One DPU: its state, where it is, and what its events add up to."""
    no_query(request)
    return answer(request, await calls.get_dpu(database(request), path_id(request, "dpu")))


@get("/v1/dpus", opt=described(Page[DpuOut], 404, scope="read", query=DpusQuery))
async def list_dpus(request: HttpRequest) -> Response[bytes]:
    """The DPUs, by id."""
    asked = query(request, DpusQuery)
    rows = await calls.list_dpus(
        database(request), asked.space, asked.state, asked.placed, _after(asked.after), asked.limit + 1
    )
    return answer(request, cursor.page(rows, asked.limit, lambda dpu: dpu.id))


@get("/v1/dpus/{dpu:str}/placements", opt=described(Page[PlacementOut], 404, scope="read"))
async def list_placements(request: HttpRequest) -> Response[bytes]:
    """Where a DPU was and is, as believed now, oldest first."""
    no_query(request)
    return answer(request, Page(await calls.list_placements(database(request), path_id(request, "dpu"))))


@post(
    "/v1/dpus/{dpu:str}/placements", opt=described(PlacementOut, 404, 409, scope="admin", status=201, body=PlacementIn)
)
async def record_placement(request: HttpRequest) -> Response[bytes]:
    """Places a DPU, back-dated if need be. What was believed of that period is trimmed or replaced."""
    no_query(request)
    body = await decode(request, PlacementIn)
    result = await calls.record_placement(
        database(request), path_id(request, "dpu"), body.doorway, body.mounted_in, body.from_, body.until
    )
    return answer(request, result, 201)


@put("/v1/site", opt=described(SiteOut, 404, 409, scope="admin", body=SiteIn))
async def apply_site(request: HttpRequest) -> Response[bytes]:
    """Brings a whole floor plan about, all or nothing."""
    no_query(request)
    return answer(request, SiteOut(await calls.apply_site(database(request), await decode(request, SiteIn))))


@post("/v1/spaces/{space:str}/resets", opt=described(ResetOut, 404, 409, scope="admin", status=201, body=ResetIn))
async def record_reset(request: HttpRequest) -> Response[bytes]:
    """Records that the space held exactly this many people at an instant."""
    no_query(request)
    body = await decode(request, ResetIn)
    return answer(
        request,
        await calls.record_reset(database(request), path_id(request, "space"), body.count, body.at),
        201,
    )


@get("/v1/spaces/{space:str}/resets", opt=described(Page[ResetRow], 404, scope="read", query=ResetsQuery))
async def list_resets(request: HttpRequest) -> Response[bytes]:
    """The resets of a space in [from, to), oldest first; with `scheduled` the daily ones as well."""
    asked = query(request, ResetsQuery)
    after = cursor.read(asked.after, datetime) if asked.after else None
    rows = await calls.list_resets(
        database(request),
        path_id(request, "space"),
        asked.from_,
        asked.to,
        asked.scheduled,
        after,
        asked.limit + 1,
    )
    return answer(request, cursor.page(rows, asked.limit, lambda reset: reset.at))


HANDLERS = [
    put_space,
    get_space,
    list_spaces,
    delete_space,
    put_doorway,
    get_doorway,
    list_doorways,
    put_dpu,
    get_dpu,
    list_dpus,
    list_placements,
    record_placement,
    apply_site,
    record_reset,
    list_resets,
]
