"""The floor plan: spaces, doorways, DPUs, where they are, and resets."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from litestar import delete, get, post, put
from litestar.di import NamedDependency
from msgspec import Struct, convert

from headcount.database import calls
from headcount.database.pool import Bounded, Client
from headcount.database.previews import preview
from headcount.http.answers import Answer, nothing
from headcount.http.decoding import decode_site
from headcount.http.inputs import PLAN_SESSION, DoorwayId, DpuId, SpaceId, body_of, placed_content_of, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.sessions import database, preview_database
from headcount.wire import paging
from headcount.wire.messages.base import Id, Page
from headcount.wire.messages.plan import (
    DoorwayIn,
    DoorwayOut,
    DpuIn,
    DpuOut,
    DpusQuery,
    DryRunOut,
    DryRunQuery,
    PlacementIn,
    PlacementOut,
    PlacementSavedOut,
    PlacementUndoQuery,
    ResetIn,
    ResetOut,
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

Kind = TypeVar("Kind", bound=Struct)

# In one page of spaces, which has at least one: the event loop decodes and encodes them.
MAX_PAGE_HOURS = 10_000


async def _preview(request: HttpRequest, change: str, arguments: object, kind: type[Kind]) -> Kind:
    """What the change would answer, and the counts that would be others."""
    fields, counts = await preview(preview_database(request), database(request, is_slow=True), change, arguments)
    return convert({**fields, "dry_run": True, "counts": counts}, kind)


async def _retire(
    request: HttpRequest,
    session: Bounded,
    thing: str,
    delete_it: Callable[[calls.Session, str], Awaitable[bool]],
    get_it: Callable[[calls.Session, str], Awaitable[Kind]],
) -> Kind | Answer[None]:
    """The thing where it was retired, or 204 where it was removed."""
    return await get_it(database(request), thing) if await delete_it(session, thing) else nothing()


def _after(text: str | None) -> str | None:
    return paging.read(text, Id) if text else None


@put(
    "/v1/spaces/{space:str}",
    dependencies={"params": query_of(DryRunQuery), "session": PLAN_SESSION, "content": body_of(SpaceIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def put_space(
    request: HttpRequest,
    space: SpaceId,
    params: NamedDependency[DryRunQuery],
    content: NamedDependency[SpaceIn],
    session: NamedDependency[Bounded],
) -> SpaceSavedOut | Answer[SpaceOut]:
    """Create or change a space. Absent fields stay as they are; null clears a field."""
    if params.dry_run:
        return await _preview(request, "put_space", {"space": space, "patch": content}, SpaceSavedOut)
    created, saved = await calls.put_space(session, space, content)
    return Answer(saved, status_code=201 if created else 200)


@get("/v1/spaces/{space:str}", opt=described(404, scope="read"))
async def get_space(space: SpaceId, session: NamedDependency[Client]) -> SpaceOut:
    """Get one space."""
    return await calls.get_space(session, space)


@get("/v1/spaces", dependencies={"params": query_of(SpacesQuery)}, opt=described(404, scope="read"))
async def list_spaces(params: NamedDependency[SpacesQuery], session: NamedDependency[Client]) -> Page[SpaceOut]:
    """List the spaces by id: all, or those directly below a parent.

    A page may have fewer items than `limit`; `next` says whether there are more.
    """
    rows = await calls.list_spaces(
        session,
        params.parent,
        _after(params.after),
        params.limit + 1,
        params.retired,
        MAX_PAGE_HOURS,
    )
    return paging.page_of_parts(
        rows, params.limit, lambda space: space.id, lambda space: len(space.opening_hours or ()), MAX_PAGE_HOURS
    )


@delete(
    "/v1/spaces/{space:str}",
    status_code=200,
    dependencies={"session": PLAN_SESSION},
    opt=described(404, 409, scope="admin", undone=True),
)
async def delete_space(
    request: HttpRequest, space: SpaceId, session: NamedDependency[Bounded]
) -> SpaceOut | Answer[None]:
    """Retire a space that has facts (200), or remove one that has none (204)."""
    return await _retire(request, session, space, calls.delete_space, calls.get_space)


@put(
    "/v1/doorways/{doorway:str}",
    dependencies={"session": PLAN_SESSION, "content": body_of(DoorwayIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def put_doorway(
    doorway: DoorwayId, content: NamedDependency[DoorwayIn], session: NamedDependency[Bounded]
) -> Answer[DoorwayOut]:
    """Create or change a doorway. Its sides are fixed once a DPU was placed there."""
    created, saved = await calls.put_doorway(session, doorway, content)
    return Answer(saved, status_code=201 if created else 200)


@get("/v1/doorways/{doorway:str}", opt=described(404, scope="read"))
async def get_doorway(doorway: DoorwayId, session: NamedDependency[Client]) -> DoorwayOut:
    """Get one doorway."""
    return await calls.get_doorway(session, doorway)


@delete(
    "/v1/doorways/{doorway:str}",
    status_code=200,
    dependencies={"session": PLAN_SESSION},
    opt=described(404, scope="admin", undone=True),
)
async def delete_doorway(
    request: HttpRequest, doorway: DoorwayId, session: NamedDependency[Bounded]
) -> DoorwayOut | Answer[None]:
    """Retire a doorway at which a DPU was placed (200), or remove one that has no such facts (204)."""
    return await _retire(request, session, doorway, calls.delete_doorway, calls.get_doorway)


@get("/v1/doorways", dependencies={"params": query_of(ThingsQuery)}, opt=described(scope="read"))
async def list_doorways(params: NamedDependency[ThingsQuery], session: NamedDependency[Client]) -> Page[DoorwayOut]:
    """List the doorways by id."""
    rows = await calls.list_doorways(session, _after(params.after), params.limit + 1, params.retired)
    return paging.page(rows, params.limit, lambda doorway: doorway.id)


@put(
    "/v1/dpus/{dpu:str}",
    dependencies={"session": PLAN_SESSION, "content": body_of(DpuIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def put_dpu(dpu: DpuId, content: NamedDependency[DpuIn], session: NamedDependency[Bounded]) -> Answer[DpuOut]:
    """Register or change a DPU."""
    created, saved = await calls.put_dpu(session, dpu, content)
    return Answer(saved, status_code=201 if created else 200)


@delete(
    "/v1/dpus/{dpu:str}",
    status_code=200,
    dependencies={"session": PLAN_SESSION},
    opt=described(404, scope="admin", undone=True),
)
async def delete_dpu(request: HttpRequest, dpu: DpuId, session: NamedDependency[Bounded]) -> DpuOut | Answer[None]:
    """Retire a DPU that was placed or heard from (200), or remove one that has no such facts (204)."""
    return await _retire(request, session, dpu, calls.delete_dpu, calls.get_dpu)


@get("/v1/dpus/{dpu:str}", opt=described(404, scope="read"))
async def get_dpu(dpu: DpuId, session: NamedDependency[Client]) -> DpuOut:
    """Get one DPU: its state, its placement, and the sum of its events."""
    return await calls.get_dpu(session, dpu)


@get("/v1/dpus", dependencies={"params": query_of(DpusQuery)}, opt=described(404, scope="read"))
async def list_dpus(params: NamedDependency[DpusQuery], session: NamedDependency[Client]) -> Page[DpuOut]:
    """List the DPUs by id."""
    rows = await calls.list_dpus(
        session,
        params.space,
        params.state,
        params.placed,
        _after(params.after),
        params.limit + 1,
        params.retired,
    )
    return paging.page(rows, params.limit, lambda dpu: dpu.id)


@get("/v1/dpus/{dpu:str}/placements", opt=described(404, scope="read"))
async def list_placements(dpu: DpuId, session: NamedDependency[Client]) -> Page[PlacementOut]:
    """List the placements of a DPU as they are known now, the oldest first."""
    return Page(await calls.list_placements(session, dpu))


@post(
    "/v1/dpus/{dpu:str}/placements",
    dependencies={"params": query_of(DryRunQuery), "session": PLAN_SESSION, "content": body_of(PlacementIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def record_placement(
    request: HttpRequest,
    dpu: DpuId,
    params: NamedDependency[DryRunQuery],
    content: NamedDependency[PlacementIn],
    session: NamedDependency[Bounded],
) -> Answer[PlacementSavedOut] | PlacementOut:
    """Place a DPU, now or back-dated. What was known of that period is shortened or replaced."""
    placed = (dpu, content.doorway, content.mounted_in, content.from_, content.until)
    if params.dry_run:
        arguments = dict(zip(("dpu", "doorway", "mounted_in", "from_at", "until_at"), placed, strict=True))
        return Answer(await _preview(request, "record_placement", arguments, PlacementSavedOut), status_code=200)
    return await calls.record_placement(session, *placed)


@delete(
    "/v1/dpus/{dpu:str}/placements",
    status_code=200,
    dependencies={"params": query_of(PlacementUndoQuery), "session": PLAN_SESSION},
    opt=described(404, 409, scope="admin", undone=True),
)
async def undo_placement(
    request: HttpRequest,
    dpu: DpuId,
    params: NamedDependency[PlacementUndoQuery],
    session: NamedDependency[Bounded],
) -> DryRunOut | Answer[None]:
    """Undo the placement of a DPU that begins at `from`. What it shortened or replaced holds again."""
    if params.dry_run:
        return await _preview(request, "undo_placement", {"dpu": dpu, "from_at": params.from_}, DryRunOut)
    await calls.undo_placement(session, dpu, params.from_)
    return nothing()


@put(
    "/v1/site",
    dependencies={
        "params": query_of(DryRunQuery),
        "session": PLAN_SESSION,
        "content": placed_content_of(lambda all: all.site_places, decode_site),
    },
    opt=described(404, 409, scope="admin"),
)
async def apply_site(
    request: HttpRequest,
    params: NamedDependency[DryRunQuery],
    content: NamedDependency[SiteIn],
    session: NamedDependency[Bounded],
) -> SiteOut:
    """Apply a whole floor plan, all or nothing: up to 1,000 items. Send more in parts."""
    if params.dry_run:
        return await _preview(request, "apply_site", content, SiteOut)
    return SiteOut(changes=await calls.apply_site(session, content))


@post(
    "/v1/spaces/{space:str}/resets",
    dependencies={"params": query_of(DryRunQuery), "session": PLAN_SESSION, "content": body_of(ResetIn)},
    opt=described(404, 409, scope="admin", created=True),
)
async def record_reset(
    request: HttpRequest,
    space: SpaceId,
    params: NamedDependency[DryRunQuery],
    content: NamedDependency[ResetIn],
    session: NamedDependency[Bounded],
) -> Answer[ResetSavedOut] | ResetOut:
    """Record how many people exactly a space held at an instant."""
    if params.dry_run:
        arguments = {"space": space, "count": content.count, "at": content.at}
        return Answer(await _preview(request, "record_reset", arguments, ResetSavedOut), status_code=200)
    return await calls.record_reset(session, space, content.count, content.at)


@delete(
    "/v1/spaces/{space:str}/resets",
    status_code=200,
    dependencies={"params": query_of(ResetUndoQuery), "session": PLAN_SESSION},
    opt=described(404, scope="admin", undone=True),
)
async def undo_reset(
    request: HttpRequest, space: SpaceId, params: NamedDependency[ResetUndoQuery], session: NamedDependency[Bounded]
) -> DryRunOut | Answer[None]:
    """Undo a recorded reset. The reset that it replaced, if any, holds again."""
    if params.dry_run:
        return await _preview(request, "undo_reset", {"space": space, "at": params.at}, DryRunOut)
    await calls.undo_reset(session, space, params.at)
    return nothing()


@get("/v1/spaces/{space:str}/resets", dependencies={"params": query_of(ResetsQuery)}, opt=described(404, scope="read"))
async def list_resets(
    space: SpaceId, params: NamedDependency[ResetsQuery], session: NamedDependency[Client]
) -> Page[ResetRow]:
    """List the resets of a space in [from, to), the oldest first; with `scheduled` the daily ones too."""
    after = paging.read(params.after, datetime) if params.after else None
    rows = await calls.list_resets(
        session,
        space,
        params.from_,
        params.to,
        params.scheduled,
        after,
        params.limit + 1,
    )
    return paging.page(rows, params.limit, lambda reset: reset.at)


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
