"""What a connection writes to: with few system calls, and without kernel memory for clients that read nothing."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# A client that takes less than an eighth of what is left in so long, after the end of its answer, is cut off.
LINGER_SECONDS = 5.0
AT_ONCE = struct.pack("ii", 1, 0)


class Gathering:
    """A transport that sends the head and the body of an answer by one system call. uvicorn writes them one after the
    other.

    After `close` the connection stays open until the client has taken everything, or takes nothing more. Otherwise the
    kernel would keep the unread bytes of any number of clients, for minutes. `linger` is called when that begins: to
    hear of the client's end somebody has to go on reading.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: Callable[[], None]
    ) -> None:
        self.transport = transport
        self.loop = loop
        # Leads back to the connection: whoever lost it takes it away.
        self.linger: Callable[[], None] | None = linger
        self.waiting: bytes | None = None
        self.is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        if self.is_closed:
            return
        if self.waiting is None:
            self.waiting = data
            self.loop.call_soon(self.flush)
        else:
            self.transport.writelines((self.waiting, data))
            self.waiting = None

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not self.transport.is_closing():
            self.transport.write(waiting)

    def is_closing(self) -> bool:
        return self.is_closed or self.transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self.flush()
        self.is_closed = True
        left = self._count_left()
        if not left:
            self.transport.close()
            return
        with suppress(RuntimeError):  # its end was told before
            self.transport.write_eof()
        if self.linger is not None:
            self.linger()
        self.loop.call_later(LINGER_SECONDS, self._look, left)

    def abort(self) -> None:
        """Resets the connection: the kernel forgets unread bytes at once."""
        self.is_closed = True
        found: socket.socket | None = self.transport.get_extra_info("socket")
        if found is not None and not self.transport.is_closing():
            with suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.transport.abort()

    def _look(self, before: int) -> None:
        if self.transport.is_closing():
            return
        left = self._count_left()
        if not left:
            self.transport.close()
        elif 8 * left > 7 * before:
            self.abort()
        else:
            self.loop.call_later(LINGER_SECONDS, self._look, left)

    def _count_left(self) -> int:
        """Bytes that the client has not taken yet: here, and in the kernel."""
        found: socket.socket | None = self.transport.get_extra_info("socket")
        here = self.transport.get_write_buffer_size()
        if found is None or found.fileno() < 0:
            return here
        with suppress(OSError):
            (there,) = struct.unpack("i", fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
            return here + int(there)
        return here
