"""The ASGI server, in this process: nothing is left behind when the process is killed."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import click
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from service.app import create_app
from service.commands.session import connected, in_one_line
from service.settings import Settings

GRACE_SECONDS = 3.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Task = Callable[[], Coroutine[Any, Any, None]]


def check_port(host: str, port: int) -> None:
    """Raises ClickException if nothing can listen there, before anything is started."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} of {host} is in use. Stop what uses it, or choose another one"
        else:
            reason = f"Port {port} of {host} cannot be listened on ({error.strerror or error}). Choose another one"
        raise click.ClickException(f"{reason} with HEADCOUNT_PORT (make run: PORT=8001).") from None


def run_server(settings: Settings, on_ready: Callable[[], None], background: tuple[Task, ...] = ()) -> None:
    """Serves until SIGINT or SIGTERM, running `background` beside it; open requests are answered first.

    A background task that raises ClickException ends the service with it. Checks the schema before it listens.
    """
    check_port(settings.host, settings.port)
    try:
        uvloop.run(_serve(settings, on_ready, background))
    except click.ClickException:
        raise
    except Exception as error:
        raise in_one_line(error, settings.database_url) from error


async def _serve(settings: Settings, on_ready: Callable[[], None], background: tuple[Task, ...]) -> None:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(settings.database_url):
        pass
    app = create_app(settings)
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        # by default 128 open connections, idle and stalled ones included, would keep everybody else out
        backlog=2048,
        backpressure=8192,
        websockets=False,
        log_enabled=False,
    )
    stop_server: Callable[[], None] = server.stop  # granian leaves it without types
    # The lifespan is ours, so that what it raises is what we see.
    async with app.lifespan():
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        tasks = [asyncio.create_task(task()) for task in background]
        try:
            await _listening(settings.host, settings.port, serving)
            on_ready()
            waiting: set[asyncio.Task[Any]] = {serving, stopping, *tasks}
            while not (stopping.done() or serving.done()):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            app.state.live.stop()
            await app.state.writer.stop()
            stop_server()
            stopping.cancel()
            # A client that stalls in the middle of its request must not keep the service from stopping.
            await asyncio.wait({serving}, timeout=GRACE_SECONDS)
            if not serving.done():
                # granian tells its end to a future that is cancelled by then
                asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
                serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _listening(host: str, port: int, serving: asyncio.Task[None]) -> None:
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
