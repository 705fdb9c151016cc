"""kill -9 under load: of a consumer, of a NATS node, of the database. TEST_CRASHES: how often (make soak: 10)."""

import asyncio
import os
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from headcount.database.migrate import migrate
from tests.load.cluster import private_cluster
from tests.nats.load import Consumers, crash_under_load
from tests.nats.server import nats_cluster, nats_server

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))


async def test_every_event_counts_once_however_often_consumers_are_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    with nats_server(tmp_path) as server, ExitStack() as stack:
        consumers = Consumers(tmp_path, [server.url], own_database_url, stack, 2)
        await crash_under_load([server.url], own_database_url, consumers.crash, CRASHES)


async def test_every_event_counts_once_however_often_the_only_server_is_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    with nats_server(tmp_path) as server, ExitStack() as stack:
        Consumers(tmp_path, [server.url], own_database_url, stack, 1)

        async def crash() -> None:
            server.kill()
            server.start()
            await asyncio.to_thread(server.wait)

        await crash_under_load([server.url], own_database_url, crash, CRASHES)


async def test_every_event_counts_once_however_often_nodes_of_a_cluster_are_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    with nats_cluster(tmp_path) as servers, ExitStack() as stack:
        urls = [server.url for server in servers]
        Consumers(tmp_path, urls, own_database_url, stack, 2, "--replicas", 3)

        async def crash() -> None:
            server = random.choice(servers)
            server.kill()
            await asyncio.sleep(1)  # the others go on meanwhile
            server.start()
            await asyncio.to_thread(server.wait)

        await crash_under_load(urls, own_database_url, crash, CRASHES)


@pytest.mark.concurrency
async def test_every_event_counts_once_however_often_the_database_is_killed(tmp_path: Path) -> None:
    with private_cluster() as cluster, nats_server(tmp_path) as server, ExitStack() as stack:
        migrate(cluster.url)
        Consumers(tmp_path, [server.url], cluster.url, stack, 2)

        async def crash() -> None:
            cluster.kill()
            await asyncio.to_thread(cluster.start)

        await crash_under_load([server.url], cluster.url, crash, CRASHES)
