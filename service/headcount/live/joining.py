"""Who waits to join the feed. Clients take turns, so that none is behind all of another one's."""

from collections import deque
from collections.abc import Callable, Iterator

from headcount.live.listener import Listener

# Spaces that one step of the feed reads for those who join: of one client, and of all. The news of all wait for it.
SPACES_OF_A_CLIENT = 1_000
SPACES_A_STEP = 2_000
# A listener costs something by itself, so that a step takes 50 of a client at most.
LEAST = 20


class Joining:
    """Listeners by client: of each in the order of arrival, and the client whose turn is next first."""

    def __init__(self) -> None:
        self.queues: dict[str | None, deque[Listener]] = {}

    def __iter__(self) -> Iterator[Listener]:
        return (listener for queue in self.queues.values() for listener in queue)

    def __bool__(self) -> bool:
        return bool(self.queues)

    def add(self, listener: Listener) -> None:
        self.queues.setdefault(listener.access.client, deque()).append(listener)

    def put_back(self, listener: Listener) -> None:
        """Before the others of its client: it is not done."""
        self.queues.setdefault(listener.access.client, deque()).appendleft(listener)

    def remove(self, listener: Listener) -> None:
        queue = self.queues.get(listener.access.client)
        if queue and listener in queue:
            queue.remove(listener)
            if not queue:
                del self.queues[listener.access.client]

    def clear(self) -> None:
        self.queues.clear()

    def take(self, weigh: Callable[[Listener], int]) -> list[Listener]:
        """Those of the next step. `weigh`: about how many spaces are to be read for one."""
        taken: list[Listener] = []
        room = SPACES_A_STEP
        for client in list(self.queues):
            if room <= 0:
                break
            queue = self.queues.pop(client)
            own = SPACES_OF_A_CLIENT
            while queue and own > 0:
                listener = queue.popleft()
                weight = min(max(weigh(listener), LEAST), SPACES_OF_A_CLIENT)
                own -= weight
                room -= weight
                taken.append(listener)
            if queue:
                self.queues[client] = queue  # behind the others
        return taken
