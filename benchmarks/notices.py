"""What notices cost: storing them, a look that finds nothing, and sending them to a receiver on this machine.

BENCH_DATABASE_URL=... python -m benchmarks.notices
"""

import asyncio
import json
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import click
import httpx
import uvloop
from rich.console import Console

from benchmarks.client import HOST
from benchmarks.database import fresh_database, server_url
from benchmarks.machine import describe_machine
from benchmarks.processes import serving
from headcount.database import calls

SPACES = 1_000
ADD = """
select core.add_notices(
  array_fill($1::text, array[$2::integer]), array(select generate_series(1::bigint, $2)),
  array_fill(null::integer, array[$2]), array_fill(now(), array[$2]), array_fill($3::jsonb, array[$2]))
"""
DETAILS = json.dumps({"kind": "dpu_offline", "dpus": ["dpu-1"], "dpu_count": 1})
ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
LENGTH = re.compile(rb"(?i)content-length: (\d+)")
PATIENCE = 120.0


async def milliseconds(call: Callable[[], Awaitable[object]], times: int = 200) -> float:
    """The median of so many calls."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


class Receiver:
    """Answers 204 to every request, and counts them."""

    def __init__(self) -> None:
        self.seen = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(LENGTH.findall(head)[0]))
        self.seen += 1
        writer.write(ANSWER)
        writer.close()


async def put_channel(client: httpx.AsyncClient, name: str, port: int, *events: str) -> None:
    body = {"kind": "webhook", "url": f"http://{HOST}:{port}/", "events": events}
    (await client.put(f"/v1/channels/{name}", json=body)).raise_for_status()


async def measure(url: str, port: int, notices: int, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False)

    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, HOST, 0)
    hook = server.sockets[0].getsockname()[1]
    connection = await asyncpg.connect(url)
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=PATIENCE) as client:
        spaces = [{"id": f"space-{number}", "capacity": 10} for number in range(SPACES)]
        (await client.put("/v1/site", json={"spaces": spaces})).raise_for_status()
        say(f"a look for deliveries: {await milliseconds(lambda: calls.claim_deliveries(connection, 100)):.2f} ms")
        say(
            "a look for spaces over capacity, which nobody wants: "
            f"{await milliseconds(lambda: calls.detect_over_capacity(connection)):.2f} ms"
        )
        await put_channel(client, "capacity", hook, "over_capacity")
        await calls.detect_over_capacity(connection)
        say(
            f"the same of {SPACES} spaces, none of which has changed: "
            f"{await milliseconds(lambda: calls.detect_over_capacity(connection)):.2f} ms"
        )
        for number in range(10):
            await put_channel(client, f"channel-{number}", hook, "offline", "online")
        began = time.perf_counter()
        await connection.execute(ADD, "offline", notices, DETAILS)
        stored = time.perf_counter() - began
        say(f"storing {notices} notices for 10 channels: {stored * 1000 / notices:.2f} ms each")
        before, began = receiver.seen, time.perf_counter()
        deadline = datetime.now(UTC).timestamp() + PATIENCE
        while (await calls.get_delivery_state(connection)).pending:
            if datetime.now(UTC).timestamp() > deadline:
                raise TimeoutError("They are not all delivered.")
            await asyncio.sleep(0.1)
        seconds, sent = time.perf_counter() - began, receiver.seen - before
        say(f"sending them by one process: {sent / seconds:.0f} deliveries/s")
    await connection.close()
    server.close()


@click.command(help=__doc__)
@click.option("--notices", default=200, show_default=True, help="Each goes out by ten channels.")
def main(notices: int) -> None:
    console = Console(width=130)
    with fresh_database(server_url()) as url:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        with serving(url, HEADCOUNT_PRIVATE_TARGETS="127.0.0.0/8") as server:
            uvloop.run(measure(url, server.port, notices, console))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.notices")
