"""The ASGI server, in this process: nothing is left behind when the process is killed."""

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import click
import uvloop

from headcount.app import create_app
from headcount.commands.session import in_one_line
from headcount.http.asgi import App
from headcount.http.server import Server, listen
from headcount.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Task = Callable[[], Coroutine[Any, Any, None]]


def listen_on(settings: Settings) -> socket.socket:
    """Raises ClickException if nothing can listen there."""
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        port = f"Port {settings.port} of {settings.host}"
        if error.errno == errno.EADDRINUSE:
            reason = f"{port} is in use. Stop what uses it, or choose another one"
        else:
            reason = f"{port} cannot be listened on ({error.strerror or error}). Choose another one"
        variables = "HEADCOUNT_PORT (make run: PORT=8001, headcount consume: HEADCOUNT_METRICS_PORT=8002)"
        raise click.ClickException(f"{reason} with {variables}.") from None


def check_port(settings: Settings) -> None:
    """As listen_on, before anything is started."""
    listen_on(settings).close()


def run_server(
    settings: Settings, on_ready: Callable[[], None], background: tuple[Task, ...] = (), app: App | None = None
) -> None:
    """Serves until SIGINT or SIGTERM, running `background` beside it; open requests are answered first.

    A background task that raises ClickException ends the service with it. Where there is a database its schema is
    checked before anything listens; where there is none yet, requests are answered 503 until there is.
    """
    check_port(settings)
    try:
        uvloop.run(_serve(settings, on_ready, background, app or create_app(settings)))
    except click.ClickException:
        raise
    except Exception as error:
        raise in_one_line(error, settings.database_url) from error


# Full collections are rare: with thousands of connections one takes half a second, and by default they would come again
# and again while connections come and go.
GC_THRESHOLDS = (10_000, 10, 100)


async def _serve(settings: Settings, on_ready: Callable[[], None], background: tuple[Task, ...], app: App) -> None:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def begin() -> None:
        # What is there now stays: a full collection would look through all of it, and all requests would wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        on_ready()

    await serve_until(stop, settings, begin, background, app)


async def serve_until(
    stop: asyncio.Event,
    settings: Settings,
    on_ready: Callable[[], None],
    background: tuple[Task, ...] = (),
    app: App | None = None,
) -> None:
    """Serves until `stop` is set, in the running loop of uvloop; open requests are answered first."""
    app = app or create_app(settings)
    server = Server(app, is_guarded=settings.auth == "required")
    # The lifespan is ours, so that what it raises is what we see.
    async with app.lifespan():
        serving = asyncio.create_task(server.serve(sockets=[listen_on(settings)]))
        stopping = asyncio.create_task(stop.wait())
        tasks = [asyncio.create_task(task()) for task in background]
        try:
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
            app.services.live.stop()
            await asyncio.gather(app.services.writer.intake.close(), app.services.heartbeats.intake.close())
            stopping.cancel()
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
