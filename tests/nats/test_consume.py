"""headcount consume, as a process of its own on a real database."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from headcount.ingest.nats import connected_to
from headcount.settings import Settings
from tests.commands.support import PATIENCE, free_port, headcount, running
from tests.nats.load import consuming, events
from tests.nats.server import NatsServer, connect, nats_server
from tests.nats.test_consumer import until

SUBJECT = "headcount.events.dpu-1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


async def is_empty(client: Client) -> bool:
    return not (await client.jetstream().stream_info("headcount-events")).state.messages


async def test_a_bad_event_is_kept_with_the_reason_and_costs_no_other(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, server: NatsServer
) -> None:
    with consuming(tmp_path, [server.url], database_url):
        client = await connect(server.url)
        good, bad = events(range(2)), {"dpu": "dpu-1", "timestamp": "yesterday", "direction": 1}
        await client.jetstream().publish(SUBJECT, json.dumps({"events": [*good, bad]}).encode())
        await client.jetstream().publish(SUBJECT, json.dumps(bad | {"direction": 2}).encode())
        await client.jetstream().publish(SUBJECT, b"hello")
        await until(lambda: is_empty(client))
        letters = await client.jetstream().stream_info("headcount-dead")
        await client.close()
    assert await connection.fetchval("select count(*) from core.event") == 2
    details = await connection.fetch("select detail from core.rejected_event")
    assert len(details) == 2
    assert all("`timestamp`" in row["detail"] for row in details)
    assert letters.state.messages == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_leaves_nothing_half_done_and_the_rest_to_others(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, server: NatsServer, number: int
) -> None:
    client = await connect(server.url)
    with consuming(tmp_path, [server.url], database_url, "--ack-wait", 600) as process:
        for event in events(range(2_000)):
            await client.publish(SUBJECT, json.dumps(event).encode())
        await client.flush(int(PATIENCE))
        assert await asyncio.to_thread(process.end, number) == 0
        assert "Traceback" not in process.said
    left = (await client.jetstream().stream_info("headcount-events")).state.messages
    assert left + await connection.fetchval("select count(*) from core.event") == 2_000
    with consuming(tmp_path, [server.url], database_url):
        await until(lambda: is_empty(client))
    await client.close()
    assert await connection.fetchval("select count(*) from core.event") == 2_000


async def test_it_answers_metrics_and_whether_it_is_well_and_nothing_else(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, server: NatsServer
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    client = await connect(server.url)
    with consuming(tmp_path, [server.url], database_url, HEADCOUNT_METRICS_PORT=str(port)):
        await client.jetstream().publish(SUBJECT, json.dumps({"events": events(range(7))}).encode())
        await until(lambda: is_empty(client))
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as http:

            async def samples() -> dict[str, float]:
                text = (await http.get("/metrics")).text
                return {
                    sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                }

            async def is_counted() -> bool:
                found = await samples()
                return found.get("headcount_stream_messages_total stored headcount-events") == 1 and not any(
                    found.get(f"headcount_stream_{name}_messages headcount-events", 1)
                    for name in ("pending", "unacknowledged", "redelivered", "held")  # told again every few seconds
                )

            await until(is_counted)
            found = await samples()
            assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz", "/v1/spaces", "/")] == [
                200,
                200,
                404,
                404,
            ]
    await client.close()
    assert found["headcount_events_accepted_total"] == 7
    assert found["headcount_transaction_events_sum"] == 7
    assert found["headcount_stream_pull_messages_sum headcount-events"] == 1


async def test_metrics_need_a_token_where_the_service_does(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, server: NatsServer
) -> None:
    port = free_port()
    made = await headcount("token", "create", "--scope", "read", url=database_url)
    variables = {"HEADCOUNT_METRICS_PORT": str(port), "HEADCOUNT_AUTH": "required"}
    with consuming(tmp_path, [server.url], database_url, **variables):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
            bearer = {"Authorization": f"Bearer {made.stdout.strip()}"}
            assert (await http.get("/metrics")).status_code == 401
            assert (await http.get("/metrics", headers=bearer)).status_code == 200


async def test_it_waits_for_a_server_that_is_not_there_yet(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    with nats_server(tmp_path) as server:
        server.stop()
        variables = {
            "DATABASE_URL": database_url,
            "HEADCOUNT_AUTH": "off",
            "HEADCOUNT_METRICS_PORT": str(free_port()),
        }
        with running(tmp_path, "consume", "--nats", server.url, **variables) as process:
            process.wait_for("NATS:")
            server.start()
            process.wait_for(" of stream ")
            assert process.end() == 0


async def test_user_and_password_come_with_the_url_and_are_shown_nowhere(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    users = "authorization { users: [{user: consumer, password: secret}] }"
    with nats_server(tmp_path, users) as server:
        url = server.url.replace("nats://", "nats://consumer:secret@")
        with consuming(tmp_path, [url], database_url) as process:
            client = await connect(url)
            await client.jetstream().publish(SUBJECT, json.dumps(events([1])[0]).encode())
            await until(lambda: is_empty(client))
            await client.close()
        assert "secret" not in process.said
    assert await connection.fetchval("select count(*) from core.event") == 1


def certificates(folder: Path) -> None:
    """An authority, and what it signed for the server and for the consumer, in PEM."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    (folder / "server.ext").write_text("subjectAltName = IP:127.0.0.1")
    (folder / "consumer.ext").write_text("extendedKeyUsage = clientAuth")
    key = "req -newkey rsa:2048 -nodes -keyout {0}.key -subj /CN={0} -addext basicConstraints=critical,CA:{1}"
    sign = "x509 -req -in {0}.csr -CA authority.pem -CAkey authority.key -days 2 -out {0}.pem -extfile {0}.ext"
    commands = [f"{key.format('authority', 'TRUE')} -x509 -days 2 -out authority.pem"]
    for name in ("server", "consumer"):
        commands += [f"{key.format(name, 'FALSE')} -out {name}.csr", sign.format(name)]
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


async def test_it_speaks_tls_and_shows_a_certificate_of_its_own(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    certificates(tmp_path)
    names = {name: f'"{tmp_path / name}.pem"' for name in ("authority", "server")}
    tls = (
        f'tls {{ cert_file: {names["server"]}, key_file: "{tmp_path / "server.key"}", '
        f"ca_file: {names['authority']}, verify: true }}"
    )
    files = {
        "HEADCOUNT_NATS_CA": str(tmp_path / "authority.pem"),
        "HEADCOUNT_NATS_CERTIFICATE": str(tmp_path / "consumer.pem"),
        "HEADCOUNT_NATS_KEY": str(tmp_path / "consumer.key"),
    }
    with nats_server(tmp_path, tls) as server:
        url = server.url.replace("nats://", "tls://")
        settings = Settings(nats_url=url, nats_ca=files["HEADCOUNT_NATS_CA"])
        with consuming(tmp_path, [url], database_url, **files):
            own = msgspec.structs.replace(
                settings,
                nats_certificate=files["HEADCOUNT_NATS_CERTIFICATE"],
                nats_key=files["HEADCOUNT_NATS_KEY"],
            )
            async with connected_to(own) as client:
                await client.jetstream().publish(SUBJECT, json.dumps(events([1])[0]).encode())
                await until(lambda: is_empty(client))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3), connected_to(settings):
                """Without a certificate the server lets nobody in."""
    assert await connection.fetchval("select count(*) from core.event") == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "--nats"),
        ({"HEADCOUNT_NATS_URL": "http://127.0.0.1"}, "nats://"),
        ({"HEADCOUNT_NATS_URL": "nats://127.0.0.1:port"}, "nats://"),
        ({"HEADCOUNT_NATS_CA": "/nowhere.pem"}, "HEADCOUNT_NATS_"),
        ({"HEADCOUNT_NATS_CERTIFICATE": "/nowhere.pem"}, "HEADCOUNT_NATS_KEY"),
        ({"HEADCOUNT_METRICS_PORT": "0"}, "HEADCOUNT_METRICS_PORT"),
    ],
)
async def test_it_says_what_keeps_it_from_starting(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    given = {} if not variables else {"HEADCOUNT_NATS_URL": "nats://127.0.0.1:4222"}
    chosen = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "HEADCOUNT_AUTH": "off"} | given | variables
    with running(tmp_path, "consume", **chosen) as process:
        assert process.process.wait(PATIENCE) in (1, 2)
    assert words in process.said
    assert "Traceback" not in process.said


async def test_it_ends_with_the_reason_where_the_stream_cannot_be_made(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, server: NatsServer
) -> None:
    client = await connect(server.url)
    await client.jetstream().add_stream(name="other", subjects=["headcount.>"])
    await client.close()
    variables = {"DATABASE_URL": database_url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_METRICS_PORT": str(free_port())}
    with running(tmp_path, "consume", "--nats", server.url, **variables) as process:
        assert process.process.wait(PATIENCE) == 1
    assert "overlap" in process.said
    assert "Traceback" not in process.said
