"""Floor plans by size: how much goes into one request, and how a larger one is sent in parts."""

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec
from msgspec import UNSET

from headcount.wire.bodies import MAX_PLAN_BODY, decode_bytes, first_items
from headcount.wire.messages.plan import SiteDoorwayIn, SiteDpuIn, SiteIn, SitePlacementIn, SiteSpaceIn
from headcount.wire.problems import Problem
from headcount.wire.shares import Place
from headcount.wire.threads import breathe

MAX_ITEMS = 1_000
# Bodies that are decoded at once. A larger one can take 30 MB as long as it waits for the floor plan and is applied:
# so many of them are in the process at a time, of one client and of all.
SMALL_BYTES = 64 * 1024
LARGE_OF_A_CLIENT = 1
LARGE = 4


class SiteShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site has of each kind, none of it looked into."""

    spaces: msgspec.Raw = msgspec.Raw(b"")
    doorways: msgspec.Raw = msgspec.Raw(b"")
    dpus: msgspec.Raw = msgspec.Raw(b"")
    placements: msgspec.Raw = msgspec.Raw(b"")


KINDS: dict[str, type[msgspec.Struct]] = {
    "spaces": SiteSpaceIn,
    "doorways": SiteDoorwayIn,
    "dpus": SiteDpuIn,
    "placements": SitePlacementIn,
}


def decode_site_bytes(body: bytes, format: str, place: Place) -> SiteIn:
    """The body of PUT /v1/site. Raises Problem (413) before objects are made of far more things than it can have.

    A large one takes the place, and is decoded thing by thing: others have their turn between them.
    """
    if len(body) <= SMALL_BYTES:
        site = decode_bytes(body, SiteIn, format)
        check_size(site)
        return site
    place.take()
    shape = decode_bytes(body, SiteShape, format)
    packed = {kind: getattr(shape, kind) for kind in KINDS}
    parts = {kind: first_items(some, MAX_ITEMS + 1, format, kind) for kind, some in packed.items() if some}
    if (number := sum(map(len, parts.values()))) > MAX_ITEMS:
        raise _too_many(number)
    return SiteIn(**{kind: list(_decode_each(some, kind, format)) for kind, some in parts.items()})


def _decode_each(parts: Sequence[msgspec.Raw], kind: str, format: str) -> Iterator[Any]:
    for place, part in enumerate(parts):
        breathe(place)
        where = f"{kind}[{place}]"
        if len(bytes(part)) > MAX_PLAN_BODY:
            raise Problem("too_large", f"`{where}` has more than {MAX_PLAN_BODY} bytes.")
        yield decode_bytes(part, KINDS[kind], format, where)


def size_of(site: SiteIn) -> int:
    """How many things it has: spaces, doorways, DPUs and placements."""
    return len(site.spaces) + len(site.doorways) + len(site.dpus) + len(site.placements)


def check_size(site: SiteIn) -> None:
    """Raises Problem (413): nobody stores events while a floor plan is applied, so it must not take long."""
    if size_of(site) > MAX_ITEMS:
        raise _too_many(size_of(site))


def _too_many(number: int) -> Problem:
    return Problem(
        "too_large",
        f"The floor plan has at least {number:,} spaces, doorways, DPUs and placements; "
        f"one request may have {MAX_ITEMS:,}. Send it in parts: spaces first, parents before what lies in them, "
        "then doorways, DPUs and placements. `headcount apply --url` does that.",
    )


def parts_of(site: SiteIn, max_items: int = MAX_ITEMS) -> Iterator[SiteIn]:
    """The floor plan in parts that can be applied one after the other: what something refers to comes before it.

    Once more from the start does no harm. Placements of a DPU stay together: where two overlap, the later one holds.
    """
    if size_of(site) <= max_items:
        yield site
        return
    ordered: dict[str, Sequence[Any]] = {
        "spaces": _parents_first(site.spaces),
        "doorways": site.doorways,
        "dpus": site.dpus,
        "placements": _by_dpu(site.placements),
    }
    items = [(kind, item) for kind, some in ordered.items() for item in some]
    start = 0
    while start < len(items):
        end = min(start + max_items, len(items))
        while start < end < len(items) and _belong_together(items[end - 1], items[end]):
            end -= 1
        if end == start:  # one DPU with more placements than that
            end = min(start + max_items, len(items))
        part = items[start:end]
        yield SiteIn(**{kind: [item for its_kind, item in part if its_kind == kind] for kind in ordered})
        start = end


def halves_of(site: SiteIn) -> list[SiteIn]:
    """Smaller parts of one that took too long; none where it is a single thing."""
    number = size_of(site)
    return list(parts_of(site, (number + 1) // 2)) if number > 1 else []


def _belong_together(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one[0] == other[0] == "placements" and one[1].dpu == other[1].dpu


def _by_dpu(placements: Sequence[SitePlacementIn]) -> list[SitePlacementIn]:
    of: dict[str, list[SitePlacementIn]] = {}
    for placement in placements:
        of.setdefault(placement.dpu, []).append(placement)
    return [placement for some in of.values() for placement in some]


def _parents_first(spaces: Sequence[SiteSpaceIn]) -> list[SiteSpaceIn]:
    """In the order of the file but for that; one that refers to itself by others is left to be refused."""
    places: dict[str, list[int]] = {}
    for place, space in enumerate(spaces):
        places.setdefault(space.id, []).append(place)
    above: dict[str, list[str]] = {id: [] for id in places}
    for space in spaces:
        if space.parent is not UNSET and space.parent in places:
            above[space.id].append(str(space.parent))
    try:
        order = list(TopologicalSorter(above).static_order())
    except CycleError:
        return list(spaces)
    return [spaces[place] for id in order for place in places[id]]
