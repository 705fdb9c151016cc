"""The floor plan: spaces, doorways, DPUs, where they are, and resets."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from litestar import Response, delete, get, post, put
from msgspec import Struct, convert

from headcount.database import calls
from headcount.database.previews import preview
from headcount.http.decoding import decode_site
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, decode, no_query, nothing, path_id, query
from headcount.http.sessions import database, plan_database, preview_database
from headcount.wire import paging
from headcount.wire.messages import (
    DoorwayIn,
    DoorwayOut,
    DpuIn,
    DpuOut,
    DpusQuery,
    DryRunOut,
    DryRunQuery,
    Id,
    Page,
    PlacementIn,
    PlacementOut,
    PlacementSavedOut,
    PlacementUndoQuery,
    ResetIn,
    ResetRow,
    ResetSavedOut,
    ResetsQuery,
    ResetUndoQuery,
    SiteIn,
    SiteOut,
    SpaceIn,
    SpaceOut,
    SpaceSavedOut,
    SpacesQuery,
    ThingsQuery,
)


async def _preview(
    request: HttpRequest, change: str, arguments: object, kind: type[Struct] = DryRunOut
) -> Response[bytes]:
    """What the change would answer, and the counts that would be others."""
    fields, counts = await preview(preview_database(request), database(request, is_slow=True), change, arguments)
    return answer(request, convert({**fields, "dry_run": True, "counts": counts}, kind))


async def _retire(
    request: HttpRequest,
    name: str,
    delete_it: Callable[[calls.Session, str], Awaitable[bool]],
    get_it: Callable[[calls.Session, str], Awaitable[Struct]],
) -> Response[bytes]:
    """200 with the retired thing, or 204 where it was removed. `name`: of its id in the address."""
    no_query(request)
    thing = path_id(request, name)
    if not await delete_it(plan_database(request), thing):
        return nothing()
    return answer(request, await get_it(database(request), thing))


def _after(text: str | None) -> str | None:
    return paging.read(text, Id) if text else None


@put(
    "/v1/spaces/{space:str}",
    opt=described(SpaceSavedOut, 404, 409, scope="admin", created=True, body=SpaceIn, query=DryRunQuery),
)
async def put_space(request: HttpRequest) -> Response[bytes]:
    """Create or change a space. Absent fields stay as they are; null clears a field."""
    is_dry = query(request, DryRunQuery).dry_run
    space, body = path_id(request, "space"), await decode(request, SpaceIn)
    if is_dry:
        return await _preview(request, "put_space", {"space": space, "patch": body}, SpaceSavedOut)
    created, result = await calls.put_space(plan_database(request), space, body)
    return answer(request, result, 201 if created else 200)


@get("/v1/spaces/{space:str}", opt=described(SpaceOut, 404, scope="read"))
async def get_space(request: HttpRequest) -> Response[bytes]:
    """Get one space."""
    no_query(request)
    return answer(request, await calls.get_space(database(request), path_id(request, "space")))


@get("/v1/spaces", opt=described(Page[SpaceOut], 404, scope="read", query=SpacesQuery))
async def list_spaces(request: HttpRequest) -> Response[bytes]:
    """List the spaces by id: all, or those directly below a parent."""
    asked = query(request, SpacesQuery)
    rows = await calls.list_spaces(database(request), asked.parent, _after(asked.after), asked.limit + 1, asked.retired)
    return answer(request, paging.page(rows, asked.limit, lambda space: space.id))


@delete("/v1/spaces/{space:str}", status_code=200, opt=described(SpaceOut, 404, 409, scope="admin", undone=True))
async def delete_space(request: HttpRequest) -> Response[bytes]:
    """Retire a space that has facts (200), or remove one that has none (204)."""
    return await _retire(request, "space", calls.delete_space, calls.get_space)


@put("/v1/doorways/{doorway:str}", opt=described(DoorwayOut, 404, 409, scope="admin", created=True, body=DoorwayIn))
async def put_doorway(request: HttpRequest) -> Response[bytes]:
    """Create or change a doorway. Its sides are fixed once a DPU was placed there."""
    no_query(request)
    created, result = await calls.put_doorway(
        plan_database(request), path_id(request, "doorway"), await decode(request, DoorwayIn)
    )
    return answer(request, result, 201 if created else 200)


@get("/v1/doorways/{doorway:str}", opt=described(DoorwayOut, 404, scope="read"))
async def get_doorway(request: HttpRequest) -> Response[bytes]:
    """Get one doorway."""
    no_query(request)
    return answer(request, await calls.get_doorway(database(request), path_id(request, "doorway")))


@delete("/v1/doorways/{doorway:str}", status_code=200, opt=described(DoorwayOut, 404, scope="admin", undone=True))
async def delete_doorway(request: HttpRequest) -> Response[bytes]:
    """Retire a doorway at which a DPU was placed (200), or remove one that has no such facts (204)."""
    return await _retire(request, "doorway", calls.delete_doorway, calls.get_doorway)


@get("/v1/doorways", opt=described(Page[DoorwayOut], scope="read", query=ThingsQuery))
async def list_doorways(request: HttpRequest) -> Response[bytes]:
    """List the doorways by id."""
    asked = query(request, ThingsQuery)
    rows = await calls.list_doorways(database(request), _after(asked.after), asked.limit + 1, asked.retired)
    return answer(request, paging.page(rows, asked.limit, lambda doorway: doorway.id))


@put("/v1/dpus/{dpu:str}", opt=described(DpuOut, 404, 409, scope="admin", created=True, body=DpuIn))
async def put_dpu(request: HttpRequest) -> Response[bytes]:
    """Register or change a DPU."""
    no_query(request)
    created, result = await calls.put_dpu(plan_database(request), path_id(request, "dpu"), await decode(request, DpuIn))
    return answer(request, result, 201 if created else 200)


@delete("/v1/dpus/{dpu:str}", status_code=200, opt=described(DpuOut, 404, scope="admin", undone=True))
async def delete_dpu(request: HttpRequest) -> Response[bytes]:
    """Retire a DPU that was placed or heard from (200), or remove one that has no such facts (204)."""
    return await _retire(request, "dpu", calls.delete_dpu, calls.get_dpu)


@get("/v1/dpus/{dpu:str}", opt=described(DpuOut, 404, scope="read"))
async def get_dpu(request: HttpRequest) -> Response[bytes]:
    """Get one DPU: its state, its placement, and the sum of its events."""
    no_query(request)
    return answer(request, await calls.get_dpu(database(request), path_id(request, "dpu")))


@get("/v1/dpus", opt=described(Page[DpuOut], 404, scope="read", query=DpusQuery))
async def list_dpus(request: HttpRequest) -> Response[bytes]:
    """List the DPUs by id."""
    asked = query(request, DpusQuery)
    rows = await calls.list_dpus(
        database(request),
        asked.space,
        asked.state,
        asked.placed,
        _after(asked.after),
        asked.limit + 1,
        asked.retired,
    )
    return answer(request, paging.page(rows, asked.limit, lambda dpu: dpu.id))


@get("/v1/dpus/{dpu:str}/placements", opt=described(Page[PlacementOut], 404, scope="read"))
async def list_placements(request: HttpRequest) -> Response[bytes]:
    """List the placements of a DPU as they are known now, the oldest first."""
    no_query(request)
    return answer(request, Page(await calls.list_placements(database(request), path_id(request, "dpu"))))


@post(
    "/v1/dpus/{dpu:str}/placements",
    opt=described(PlacementSavedOut, 404, 409, scope="admin", created=True, body=PlacementIn, query=DryRunQuery),
)
async def record_placement(request: HttpRequest) -> Response[bytes]:
    """Place a DPU, now or back-dated. What was known of that period is shortened or replaced."""
    is_dry = query(request, DryRunQuery).dry_run
    body = await decode(request, PlacementIn)
    asked = (path_id(request, "dpu"), body.doorway, body.mounted_in, body.from_, body.until)
    if is_dry:
        arguments = dict(zip(("dpu", "doorway", "mounted_in", "from_at", "until_at"), asked, strict=True))
        return await _preview(request, "record_placement", arguments, PlacementSavedOut)
    return answer(request, await calls.record_placement(plan_database(request), *asked), 201)


@delete(
    "/v1/dpus/{dpu:str}/placements",
    status_code=200,
    opt=described(DryRunOut, 404, 409, scope="admin", undone=True, query=PlacementUndoQuery),
)
async def undo_placement(request: HttpRequest) -> Response[bytes]:
    """Undo the placement of a DPU that begins at `from`. What it shortened or replaced holds again."""
    asked = query(request, PlacementUndoQuery)
    dpu = path_id(request, "dpu")
    if asked.dry_run:
        return await _preview(request, "undo_placement", {"dpu": dpu, "from_at": asked.from_})
    await calls.undo_placement(plan_database(request), dpu, asked.from_)
    return nothing()


@put("/v1/site", opt=described(SiteOut, 404, 409, scope="admin", body=SiteIn, query=DryRunQuery))
async def apply_site(request: HttpRequest) -> Response[bytes]:
    """Apply a whole floor plan, all or nothing: up to 1,000 items. Send more in parts."""
    is_dry = query(request, DryRunQuery).dry_run
    site = await decode_site(request)
    if is_dry:
        return await _preview(request, "apply_site", site, SiteOut)
    return answer(request, SiteOut(changes=await calls.apply_site(plan_database(request), site)))


@post(
    "/v1/spaces/{space:str}/resets",
    opt=described(ResetSavedOut, 404, 409, scope="admin", created=True, body=ResetIn, query=DryRunQuery),
)
async def record_reset(request: HttpRequest) -> Response[bytes]:
    """Record how many people exactly a space held at an instant."""
    is_dry = query(request, DryRunQuery).dry_run
    space, body = path_id(request, "space"), await decode(request, ResetIn)
    if is_dry:
        return await _preview(
            request, "record_reset", {"space": space, "count": body.count, "at": body.at}, ResetSavedOut
        )
    return answer(request, await calls.record_reset(plan_database(request), space, body.count, body.at), 201)


@delete(
    "/v1/spaces/{space:str}/resets",
    status_code=200,
    opt=described(DryRunOut, 404, scope="admin", undone=True, query=ResetUndoQuery),
)
async def undo_reset(request: HttpRequest) -> Response[bytes]:
    """Undo a recorded reset. The reset that it replaced, if any, holds again."""
    asked = query(request, ResetUndoQuery)
    space = path_id(request, "space")
    if asked.dry_run:
        return await _preview(request, "undo_reset", {"space": space, "at": asked.at})
    await calls.undo_reset(plan_database(request), space, asked.at)
    return nothing()


@get("/v1/spaces/{space:str}/resets", opt=described(Page[ResetRow], 404, scope="read", query=ResetsQuery))
async def list_resets(request: HttpRequest) -> Response[bytes]:
    """List the resets of a space in [from, to), the oldest first; with `scheduled` the daily ones too."""
    asked = query(request, ResetsQuery)
    after = paging.read(asked.after, datetime) if asked.after else None
    rows = await calls.list_resets(
        database(request),
        path_id(request, "space"),
        asked.from_,
        asked.to,
        asked.scheduled,
        after,
        asked.limit + 1,
    )
    return answer(request, paging.page(rows, asked.limit, lambda reset: reset.at))


HANDLERS = [
    put_space,
    get_space,
    list_spaces,
    delete_space,
    put_doorway,
    delete_doorway,
    get_doorway,
    list_doorways,
    put_dpu,
    delete_dpu,
    get_dpu,
    list_dpus,
    list_placements,
    record_placement,
    undo_placement,
    apply_site,
    record_reset,
    undo_reset,
    list_resets,
]
