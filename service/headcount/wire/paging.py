"""Cursors of lists: where a page ended, as text that only this module reads."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from headcount.wire.messages.base import Item, Page
from headcount.wire.problems import invalid

Place = TypeVar("Place")


def page(rows: Sequence[Item], limit: int, place: Callable[[Item], object], *, is_cut: bool = False) -> Page[Item]:
    """The first `limit` of the rows. There is a next page if more rows came, or if the rows were cut (`is_cut`)."""
    items = list(rows[:limit])
    return Page(items, write(place(items[-1])) if is_cut or len(rows) > limit else None)


def page_of_parts(
    rows: Sequence[Item], limit: int, place: Callable[[Item], object], parts: Callable[[Item], int], most: int
) -> Page[Item]:
    """As `page`, of rows that end once they have `most` parts together. The next page, with what follows, may be
    empty."""
    return page(rows, limit, place, is_cut=sum(map(parts, rows)) >= most)


def write(place: object) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def read(text: str, kind: type[Place]) -> Place:
    """422 for what `write` cannot have written."""
    try:
        place = msgspec.msgpack.decode(urlsafe_b64decode(text.encode("ascii") + b"=="), type=kind)
    except ValueError:
        place = None
    if place is None or write(place) != text:
        raise invalid("This is no cursor of this list; take it from `next`, or leave it out.", "after")
    return place
