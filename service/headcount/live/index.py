"""From what changed to who listens: so that a tick costs what its news cost, and not what all listeners asked for."""

from collections.abc import Iterator

from headcount.live.selections import EVERYTHING, Selection


class Index:
    """By space, the selections that have it. The one that has all is not in it, but is asked for what it has."""

    def __init__(self) -> None:
        self.by_space: dict[str, set[Selection]] = {}
        self.everything: Selection | None = None

    def add(self, selection: Selection, space: str) -> None:
        if selection.subscription != EVERYTHING:
            self.by_space.setdefault(space, set()).add(selection)

    def discard(self, selection: Selection, space: str) -> None:
        if (having := self.by_space.get(space)) is not None:
            having.discard(selection)
            if not having:
                del self.by_space[space]

    def having(self, space: str) -> Iterator[Selection]:
        """Also those that name it while it is not there."""
        yield from self.by_space.get(space, ())
        if self.everything is not None and space in self.everything.changed:
            yield self.everything

    def __contains__(self, space: str) -> bool:
        """Whether any selection has it."""
        return space in self.by_space or (self.everything is not None and space in self.everything.changed)
