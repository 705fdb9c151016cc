"""Requests that are stored in parts, each in a transaction of its own, and what is said where one of them fails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from headcount.ingest.formats import EventBatch, Refusal, day_of, has_more_days
from headcount.ingest.polls import PollBatch
from headcount.wire.problems import Problem, problem_of

AnyPart = TypeVar("AnyPart", EventBatch, PollBatch)

STORED_IN_PART = "Only a part of the request is stored. Send all of it again: nothing counts twice."
SUSPECT_IN_PART = (
    f"Most DPUs heard in the last minute are ahead of the clock of the service. {STORED_IN_PART} "
    "The operator of the service has to check the clock of the database server."
)


@contextmanager
def told_in_part(*, is_begun: bool) -> Iterator[None]:
    """Raises Problem (503) for what is to be tried again where a part was stored already, and all else as it is. A
    clock that is suspect stays that: it takes longer, and somebody has to look at it."""
    try:
        yield
    except Exception as error:
        kind = problem_of(error).kind
        if not is_begun or kind.status not in (429, 503):
            raise
        if kind.code == "clock_suspect":
            raise Problem("clock_suspect", SUSPECT_IN_PART) from error
        raise Problem("unavailable", STORED_IN_PART) from error


def cut_by_days(batch: AnyPart, days: int, most: int, *, newest_first: bool = False) -> list[AnyPart]:
    """In parts with at most so many events or polls, of so many days of UTC each: the newest days first. Each has at
    most so many of the refusals, too.

    Of days with more the first part has those that come first, or by `newest_first` the newest. Those of one part are
    in their order, and so are those of one instant, whichever parts they are in: the first of two events that
    contradict each other is stored first.
    """
    if batch.received <= most and not has_more_days(batch.times, days):
        return [batch]
    numbers = [day_of(time) for time in batch.times]
    found = sorted(set(numbers), reverse=True)
    part_of = {number: place // days for place, number in enumerate(found)}
    places: list[list[int]] = [[] for _ in range(0, len(found), days)]
    for place, number in enumerate(numbers):
        places[part_of[number]].append(place)
    if newest_first:
        for part in places:
            part.sort(key=batch.times.__getitem__, reverse=True)  # stable: those of one instant stay as they are
    cuts = [part[at : at + most] for part in places for at in range(0, len(part), most)]
    cuts += [[] for _ in range(len(cuts) * most, len(batch.refusals), most)]
    indexes = range(batch.size) if batch.indexes is None else batch.indexes
    return [
        _taken(batch, part, [indexes[place] for place in part], batch.refusals[at * most : (at + 1) * most])
        for at, part in enumerate(map(sorted, cuts))
    ]


def _taken(batch: AnyPart, places: Sequence[int], indexes: Sequence[int], refusals: Sequence[Refusal]) -> AnyPart:
    columns: tuple[Any, ...] = tuple([column[place] for place in places] for column in batch.columns)
    fields: Any = (*columns, indexes, refusals, batch.sender)
    return type(batch)(*fields)
