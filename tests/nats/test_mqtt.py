"""DPUs that speak MQTT to the NATS server, with a stock client."""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.commands.support import PATIENCE
from tests.nats.load import Consumers, consuming, events, until_stored
from tests.nats.server import NatsServer, connect, nats_cluster, nats_server

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))


class Device:
    """Sends what is not acknowledged again by itself when its connection is back."""

    def __init__(self, server: NatsServer, name: str) -> None:
        self.acknowledged: set[int] = set()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_publish = lambda _client, _data, number, _code, _properties: self.acknowledged.add(number)
        self.client.connect_timeout = PATIENCE
        self.client.connect_timeout = PATIENCE
        self.client.connect("127.0.0.1", server.mqtt)
        self.client.loop_start()

    def send(self, topic: str, numbers: Sequence[int]) -> None:
        """Returns when the server has acknowledged them."""
        sent = {self.client.publish(topic, json.dumps(event), qos=1).mid for event in events(numbers)}
        deadline = time.monotonic() + PATIENCE
        while not sent <= self.acknowledged:
            assert time.monotonic() < deadline, f"{len(sent - self.acknowledged)} were not acknowledged"
            time.sleep(0.02)


@contextmanager
def device(server: NatsServer, name: str) -> Iterator[Device]:
    device = Device(server, name)
    try:
        yield device
    finally:
        device.client.disconnect()
        device.client.loop_stop()


async def test_events_over_mqtt_with_qos_1_arrive_and_count_once(own_database_url: str, tmp_path: Path) -> None:
    with nats_server(tmp_path) as server, consuming(tmp_path, [server.url], own_database_url):
        with device(server, "dpu-1") as sender:
            await asyncio.to_thread(sender.send, "headcount/events/dpu-1", range(100))
            await asyncio.to_thread(sender.send, "headcount/events/dpu-1", range(50))  # the device was not sure
        await until_stored(own_database_url, range(100))


async def test_what_mqtt_acknowledged_is_stored_once_however_often_the_server_is_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    """By way of the stream in which the server keeps what it acknowledges, as docs/how-to/nats.md tells."""
    with nats_cluster(tmp_path) as servers, ExitStack() as stack:
        urls = [server.url for server in servers]
        with device(servers[0], "first"):
            pass  # the server makes the stream when it is asked for the first time
        Consumers(tmp_path, urls, own_database_url, stack, 2, "--mqtt")
        devices = [stack.enter_context(device(server, f"dpu-{port}")) for port, server in enumerate(servers)]
        begin = 0
        for _ in range(CRASHES):
            sending = []
            for sender in devices:
                numbers = range(begin, begin + 300)
                sending.append(asyncio.create_task(asyncio.to_thread(sender.send, "headcount/events/dpu", numbers)))
                begin = numbers.stop
            await asyncio.sleep(random.random() / 5)
            victim = random.choice(servers)
            victim.kill()
            await asyncio.sleep(1)
            victim.start()
            # nats-server 2.9 may think for ever that a consumer of MQTT's own has not caught up
            await asyncio.to_thread(victim.wait, "/healthz?js-server-only=true")
            await asyncio.gather(*sending)
        try:
            await until_stored(own_database_url, range(begin))
        except AssertionError as error:
            raise AssertionError(f"{error}; {await account_of(urls[0])}") from None


async def account_of(url: str) -> str:
    """What the server says of its stream and of who reads it: whether what is missing is there, and was delivered."""
    client = await connect(url)
    try:
        jetstream = client.jetstream()
        stream = await jetstream.stream_info("$MQTT_msgs")
        consumers = await jetstream.consumers_info("$MQTT_msgs")
        return "\n".join(map(str, (stream, *consumers)))
    finally:
        await client.close()


async def test_a_consumer_that_may_only_listen_to_mqtt_waits_for_the_first_device(
    own_database_url: str, tmp_path: Path
) -> None:
    with nats_server(tmp_path) as server, ExitStack() as stack:
        starting = asyncio.to_thread(
            lambda: stack.enter_context(consuming(tmp_path, [server.url], own_database_url, "--mqtt"))
        )
        started = asyncio.create_task(starting)
        await asyncio.sleep(3)
        assert not started.done()
        with device(server, "dpu-1") as sender:
            await started
            await asyncio.to_thread(sender.send, "headcount/events/dpu-1", range(10))
        await until_stored(own_database_url, range(10))
        client = await connect(server.url)
        streams = [stream.config.name for stream in await client.jetstream().streams_info()]
        await client.close()
    assert "headcount-events" not in streams
