"""NATS servers of one's own, with JetStream and MQTT, that may be killed: one alone, or a cluster on loopback ports."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from tests.commands.support import PATIENCE, free_port

CONFIG = """
server_name: {name}
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: 1MB
jetstream {{ store_dir: "{folder}", max_mem: 64MB, max_file: 10GB }}
mqtt {{ listen: "127.0.0.1:{mqtt}" }}
{more}
"""


class PatientClient(Client):
    """Its calls of JetStream wait for an answer longer than 5 seconds, unless they say otherwise."""

    def jetstream(self, **options: Any) -> JetStreamContext:
        return super().jetstream(**{"timeout": PATIENCE, **options})


async def connect(url: str) -> Client:
    client = PatientClient()
    await client.connect(url, connect_timeout=int(PATIENCE))
    return client


class NatsServer:
    def __init__(self, program: str, folder: Path, name: str, more: str = "") -> None:
        self.program = program
        self.folder = folder / name
        self.folder.mkdir()
        self.port, self.mqtt, self.monitor = free_port(), free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.config = self.folder / "server.conf"
        store = self.folder / "store"
        self.config.write_text(
            CONFIG.format(name=name, port=self.port, monitor=self.monitor, mqtt=self.mqtt, folder=store, more=more)
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, "-c", self.config], stdout=log, stderr=log)

    def wait(self, path: str = "/healthz") -> None:
        """Until it is healthy: by default when its streams have caught up with the cluster's."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{self.monitor}{path}", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process is not None
                assert self.process.poll() is None, self.said
            time.sleep(0.05)
        raise TimeoutError(self.said)

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    def kill(self) -> None:
        """kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """What is underway is not cut off, so that nothing is written to a folder that goes away."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def nats_program() -> str:
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/bin")
    if found is None:
        pytest.skip("there is no nats-server (apt-get install nats-server)")
    return found


@contextmanager
def nats_server(folder: Path, more: str = "") -> Iterator[NatsServer]:
    server = NatsServer(nats_program(), folder, "alone", more)
    try:
        server.start()
        server.wait()
        yield server
    finally:
        server.stop()


@contextmanager
def nats_cluster(folder: Path, size: int = 3) -> Iterator[Sequence[NatsServer]]:
    program = nats_program()
    routes = [free_port() for _ in range(size)]
    listed = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    servers = [
        NatsServer(
            program,
            folder,
            f"node-{number}",
            f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{listed}] }}',
        )
        for number, port in enumerate(routes)
    ]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.stop()
