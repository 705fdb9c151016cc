"""`headcount consume`."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError

from headcount.addresses import show_server
from headcount.app import create_app
from headcount.commands.serve import address
from headcount.commands.serving import run_server
from headcount.database.pool import Client as Session
from headcount.http.asgi import App
from headcount.ingest import formats, heartbeats
from headcount.ingest.heartbeats import Heartbeats
from headcount.ingest.nats import (
    RECONNECT_SECONDS,
    Body,
    Consumer,
    Misconfigured,
    Source,
    connected_to,
    servers,
    tls_context,
)
from headcount.ingest.writer import Writer
from headcount.logs import configure_logs
from headcount.metrics import StreamMetrics
from headcount.routes import probes
from headcount.settings import Settings, SettingsRefused

DEFAULTS = Source()
# Where nats-server keeps each message of QoS 1 before it acknowledges it, for as long as a consumer asks for it.
MQTT_STREAM = "$MQTT_msgs"
MQTT_PREFIX = "$MQTT.msgs."
SCHEMES = "nats|tls|ws|wss"


@click.command
@click.option("--nats", "url", help="nats://HOST:PORT, several separated by commas.  [HEADCOUNT_NATS_URL]")
@click.option("--what", type=click.Choice(["events", "heartbeats"]), default="events", show_default=True)
@click.option("--stream", help="Created if it is missing.  [default: headcount-WHAT]")
@click.option("--subject", help="What the stream takes, and we of it.  [default: headcount.WHAT.>]")
@click.option("--mqtt", is_flag=True, help="Take what devices sent over MQTT from where the server keeps it.")
@click.option("--durable", help="Consumers of one name share the work.  [default: headcount-WHAT]")
@click.option("--dead-stream", default=DEFAULTS.dead_stream, show_default=True)
@click.option("--dead-subject", default=DEFAULTS.dead_subject, show_default=True, help="For what cannot be stored.")
@click.option("--replicas", default=DEFAULTS.replicas, show_default=True, type=click.IntRange(1, 5))
@click.option("--max-bytes", type=click.IntRange(1), help="A fuller stream refuses messages; by default none.")
@click.option("--max-age", type=click.IntRange(1), help="Seconds; older messages are dropped. By default none.")
@click.option("--max-per-subject", type=click.IntRange(1), help="Messages; a fuller subject refuses more.")
@click.option("--ack-wait", default=DEFAULTS.ack_seconds, show_default=True, help="Seconds until another one has it.")
@click.option("--batch", default=DEFAULTS.batch, show_default=True, type=click.IntRange(2), help="Messages held.")
@click.option("--deliveries", default=DEFAULTS.deliveries, show_default=True, type=click.IntRange(1))
def consume(
    url: str | None,
    what: str,
    stream: str | None,
    subject: str | None,
    mqtt: bool,
    durable: str | None,
    dead_stream: str,
    dead_subject: str,
    replicas: int,
    max_bytes: int | None,
    max_age: int | None,
    max_per_subject: int | None,
    ack_wait: float,
    batch: int,
    deliveries: int,
) -> None:
    """Take events, or heartbeats, from NATS JetStream into the database (docs/how-to/nats.md).

    A message is what POST /v1/events takes, or one event alone, and is acknowledged after the commit. Any number of
    processes share the work. Each answers /metrics, /healthz and /readyz on HEADCOUNT_HOST (127.0.0.1) and
    HEADCOUNT_METRICS_PORT (8001). Files for TLS: HEADCOUNT_NATS_CA, HEADCOUNT_NATS_CERTIFICATE, HEADCOUNT_NATS_KEY.
    """
    configure_logs()
    source = Source(
        stream=MQTT_STREAM if mqtt else stream or f"headcount-{what}",
        subject=f"{MQTT_PREFIX if mqtt else ''}{subject or f'headcount.{what}.>'}",
        durable=durable or f"headcount-{what}",
        dead_stream=dead_stream,
        dead_subject=dead_subject,
        replicas=replicas,
        max_bytes=max_bytes,
        max_age_seconds=max_age,
        max_per_subject=max_per_subject,
        ack_seconds=ack_wait,
        batch=batch,
        deliveries=deliveries,
    )
    settings = _settings(url)
    app = create_app(settings, probes.HANDLERS)
    shown = ", ".join(f"{show_server(server, SCHEMES)}" for server in servers(settings))
    run_server(
        settings,
        lambda: click.echo(f"Consuming from {shown}; /metrics on {address(settings)}"),
        (partial(_consume, app, settings, source, what),),
        app,
    )


def _settings(url: str | None) -> Settings:
    try:
        found = Settings.from_environment()
        settings = msgspec.structs.replace(found, port=found.metrics_port, nats_url=url or found.nats_url)
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None
    if not servers(settings):
        raise click.UsageError("Name a server with --nats or HEADCOUNT_NATS_URL, such as nats://127.0.0.1:4222.")
    if not all(_is_url(server) for server in servers(settings)):
        raise click.UsageError(
            "--nats takes URLs such as nats://HOST:4222, or tls://USER:PASSWORD@HOST:4222; "
            "a password cannot have , / ? or #."
        )
    try:
        tls_context(settings)
    except OSError as error:
        raise click.ClickException(f"The files for TLS (HEADCOUNT_NATS_...) cannot be used: {error}.") from None
    return settings


def _is_url(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return show_server(server, SCHEMES) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def _consume(app: App, settings: Settings, source: Source, what: str) -> None:
    """Raises ClickException for what will never work."""
    measures = StreamMetrics(app.services.metrics.registry)
    try:
        while True:
            async with connected_to(settings) as client:
                with suppress(ConnectionClosedError):
                    await _consumer(app, client, source, measures, what).run()
            await asyncio.sleep(RECONNECT_SECONDS)
    except Misconfigured as error:
        raise click.ClickException(f"NATS refuses stream {source.stream} as it is asked for: {error}.") from None


def _consumer(app: App, client: Client, source: Source, measures: StreamMetrics, what: str) -> Consumer[Any]:
    store: Writer | Heartbeats
    store, decode = (app.services.writer, _events) if what == "events" else (app.services.heartbeats, _heartbeats)
    return Consumer(
        client,
        source,
        measures,
        decode=decode,
        # A subject has the share of a client.
        record=lambda batch, subject: store.record(Session(store.database, subject), batch),
        weigh=lambda batch: batch.received,
        # A quarter: messages that take time may hold ten thousand each, and a client has half at most.
        room=store.settings.max_waiting_events // 4,
        threads=app.services.worker_threads,
        stop_seconds=store.settings.statement_seconds,
    )


def _events(body: Body) -> formats.EventBatch:
    return formats.decode_event_message(body.data, body.content_type, body.content_encoding)


def _heartbeats(body: Body) -> heartbeats.HeartbeatBatch:
    return heartbeats.decode_heartbeat_message(body.data, body.content_type, body.content_encoding, body.at)
