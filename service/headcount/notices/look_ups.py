"""Names of hosts, looked up in threads of our own.

A name whose servers do not answer keeps a thread for 10 seconds and more, and nothing can end that. The look-ups of
the event loop share two threads (libuv's) with all others of the process, that of the database's host among them. So
whatever a channel names is looked up here, and each client has few places, which abandoned look-ups keep as well.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

# Names that are looked up at once: in all, and of one client.
TOGETHER = 64
A_CLIENT = 4
# For a place. Names that are answered for take some milliseconds.
PLACE_SECONDS = 1.0
# Whose the look-ups of the service itself are: of the mail server, and of its own name.
OURS = ""

T = TypeVar("T")


class Crowded(Exception):
    """All places are taken, be it for all or for this client."""

    def __init__(self) -> None:
        super().__init__("Too many names are being looked up at once: some of them are not answered for.")


class Threads:
    """Daemon threads for what may hang: nobody waits for them when the service stops.

    Each call has a place until it ends, also one that nobody waits for any more. There are `together` places, of which
    one client has `a_client` at most.
    """

    def __init__(self, name: str, together: int, a_client: int) -> None:
        self.name = name
        self.a_client = a_client
        self.free = asyncio.Semaphore(together)
        self.shares: dict[str, ClientPlaces] = {}

    async def run(self, client: str, call: Callable[[], T]) -> T:
        """What `call` returns or raises, once there is a place for it: as long as whoever asks waits."""
        return await self.start(await self.take_place(client), call)

    async def take_place(self, client: str) -> "Place":
        """Waits for a place; `start` uses it, or `leave` gives it back."""
        share = self.shares.setdefault(client, ClientPlaces(self.a_client))
        share.users += 1
        try:
            await share.free.acquire()
            try:
                await self.free.acquire()
            except BaseException:
                share.free.release()
                raise
        except BaseException:
            self._forget(client, share)
            raise
        return Place(client, share)

    def leave(self, place: "Place") -> None:
        self.free.release()
        place.share.free.release()
        self._forget(place.client, place.share)

    def start(self, place: "Place", call: Callable[[], T]) -> "asyncio.Future[T]":
        """Runs `call` in a thread of its own, which gives the place back at its end."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        # nobody may be left to hear of it
        result.add_done_callback(lambda done: done.cancelled() or done.exception())

        def end(settle: Callable[[Any], None], value: object) -> None:
            self.leave(place)
            if not result.done():
                settle(value)

        def run() -> None:
            settle: Callable[[Any], None]
            try:
                value: object = call()
                settle = result.set_result
            except Exception as error:
                value, settle = error, result.set_exception
            with suppress(RuntimeError):  # the service has stopped
                loop.call_soon_threadsafe(end, settle, value)

        try:
            threading.Thread(target=run, daemon=True, name=self.name).start()
        except BaseException:
            self.leave(place)
            raise
        return result

    def _forget(self, client: str, share: "ClientPlaces") -> None:
        share.users -= 1
        if not share.users:
            del self.shares[client]


class ClientPlaces:
    """A client's places; `users`: calls that have one or wait for one."""

    def __init__(self, places: int) -> None:
        self.free = asyncio.Semaphore(places)
        self.users = 0


class Place:
    def __init__(self, client: str, share: ClientPlaces) -> None:
        self.client = client
        self.share = share


class LookUps:
    """Looks names up. Whoever asks for one that is being looked up waits for the same answer."""

    def __init__(self) -> None:
        self.threads = Threads("look-up", TOGETHER, A_CLIENT)
        self.under_way: dict[object, asyncio.Future[Any]] = {}

    async def find(self, host: str, port: int, client: str) -> list[str]:
        """The addresses of a host, in the order in which to try them. `client`: whose place it takes.

        Raises Crowded; OSError or UnicodeError where there is none.
        """
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        return await self._share((host, port), lambda: addresses_of(host, port), client)

    async def find_own_name(self) -> str:
        """The name of this machine, as mail servers want to be told it. Raises Crowded."""
        return await self._share(OURS, socket.getfqdn, OURS)

    async def _share(self, key: object, call: Callable[[], T], client: str) -> T:
        if key not in self.under_way:
            try:
                async with asyncio.timeout(PLACE_SECONDS):
                    place = await self.threads.take_place(client)
            except TimeoutError:
                raise Crowded from None
            if key in self.under_way:  # another one has begun meanwhile
                self.threads.leave(place)
            else:
                self.under_way[key] = self.threads.start(place, call)
                self.under_way[key].add_done_callback(lambda _: self.under_way.pop(key))
        found: T = await asyncio.shield(self.under_way[key])
        return found


def addresses_of(host: str, port: int) -> list[str]:
    """What the system knows of a host; it may take as long as it likes. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
