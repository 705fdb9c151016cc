"""Pulls: a consumer of JetStream is asked for messages, and what comes is told apart from the server's own words."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

# A pull waits so long for messages; a stop waits for the pull.
PULL_SECONDS = 1.0
# The server says so when a pull is over. nats-server 2.9 does not always, and nobody would ask for what comes then.
GRACE_SECONDS = 0.05
FLUSH_SECONDS = 5
# Beside the largest body: headers, and what the server counts too.
ROOM_FOR_ONE = 64 * 1024
# What only the server can write: where it wants to hear what became of a message.
ACKNOWLEDGED_BY = "$JS.ACK."
# Nothing there, over, and the next message does not fit.
ENDS = ("404", "408")
TOO_LARGE = ("409", "Message Size Exceeds MaxBytes")


class PullRefused(Error):
    """The server will not do as it was asked."""


class Pulls:
    """Pulls, one after the other. `take` gets each message as it comes.

    nats-py's `fetch` goes by the header `Status`, which whoever publishes can write: such a message would pass for a
    word of the server, and never be acknowledged. Here goes what cannot be forged: a message has a subject on which
    to acknowledge it, and a word of the server comes to the inbox of the pull that it is about.
    """

    def __init__(self, client: Client, stream: str, consumer: str, take: Callable[[Msg], None]) -> None:
        self.client = client
        self.next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.take = take
        self.inbox = client.new_inbox()
        self.subscription: Subscription | None = None
        self.number = 0
        self.left = 0
        self.ends_at = 0.0
        self.refused: PullRefused | None = None
        self.something_came = asyncio.Event()

    async def open(self) -> None:
        self.subscription = await self.client.subscribe(f"{self.inbox}.*", cb=self._receive)

    async def close(self) -> None:
        self.left = 0
        if self.subscription:
            with suppress(Error):  # nobody listens there now
                await self.subscription.unsubscribe()

    async def end(self) -> None:
        """Until nothing more comes: all that the server has sent is taken."""
        with suppress(Error):
            while self.is_under_way():
                await self.wait()
            await asyncio.sleep(GRACE_SECONDS)
            await self.client.flush(FLUSH_SECONDS)
            await asyncio.sleep(0)  # all that was read by then is taken in one go

    def is_under_way(self) -> bool:
        return self.left > 0 and time.monotonic() < self.ends_at

    async def ask(self, number: int, size: int) -> None:
        """Begins a pull of at most so many messages, and bytes of them; but a single one may be as large as any.

        nats-server 2.9 delivers what did not fit after the wait for its acknowledgement only, if it came before.
        """
        self.number += 1
        self.left = number
        self.ends_at = time.monotonic() + PULL_SECONDS + GRACE_SECONDS
        asked = {
            "batch": number,
            "max_bytes": max(size, self.client.max_payload + ROOM_FOR_ONE),
            "expires": int(PULL_SECONDS * 1e9),
        }
        await self.client.publish(self.next_subject, msgspec.json.encode(asked), reply=f"{self.inbox}.{self.number}")

    async def wait(self) -> None:
        """Until something has come, or the pull is over. Raises PullRefused."""
        while self.is_under_way() and not self.something_came.is_set():
            try:
                async with asyncio.timeout(max(self.ends_at - time.monotonic(), 0.0)):
                    await self.something_came.wait()
            except TimeoutError:
                self.left = 0
        self.something_came.clear()
        if refused := self.refused:
            self.refused = None
            raise refused

    async def _receive(self, message: Msg) -> None:
        if message.reply.startswith(ACKNOWLEDGED_BY):
            self.left -= 1
            self.take(message)
        elif message.subject == f"{self.inbox}.{self.number}":
            headers = message.headers or {}
            status, words = headers.get("Status", ""), headers.get("Description", "")
            self.left = 0
            if status not in ENDS and (status, words) != TOO_LARGE:
                self.refused = PullRefused(f"{status} {words}".strip())
        else:
            return  # about an earlier pull
        self.something_came.set()
