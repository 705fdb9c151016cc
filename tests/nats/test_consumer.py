"""What the consumer does with messages, on a real server with JetStream; what stores them is the test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js import api
from prometheus_client import CollectorRegistry

from headcount.ingest.nats import Body, Consumer, Misconfigured, Source
from headcount.metrics import StreamMetrics
from headcount.wire.problems import Problem
from tests.commands.support import PATIENCE
from tests.nats.server import NatsServer, nats_server

SUBJECT = "headcount.events.dpu-1"
SOURCE = Source(ack_seconds=2.0, retry_seconds=0.2, deliveries=3)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(server.url)
    yield client
    await client.close()


class Store:
    """Stands in for the database: what was committed, and what becomes of the next ones."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.committed: list[str] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.fault: Callable[[str], Exception | None] = lambda _: None

    async def record(self, text: str) -> None:
        self.asked.append(text)
        await self.may_commit.wait()
        if error := self.fault(text):
            raise error
        self.committed.append(text)


def decode(body: Body) -> str:
    if body.data.startswith(b"?"):
        raise Problem("malformed", "It begins with\na question mark.")
    return body.data.decode()


@asynccontextmanager
async def consuming(
    client: Client, store: Store, source: Source = SOURCE, registry: CollectorRegistry | None = None
) -> AsyncIterator[Consumer[str]]:
    consumer = Consumer(
        client, source, StreamMetrics(registry or CollectorRegistry()), decode=decode, record=store.record
    )
    running = asyncio.create_task(consumer.run())
    try:
        await until(lambda: _exists(client, source), running)
        yield consumer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _exists(client: Client, source: Source) -> bool:
    try:
        await client.jetstream().consumer_info(source.stream, source.durable)
    except nats.errors.Error:
        return False
    return True


async def until(condition: object, running: "asyncio.Task[None] | None" = None) -> None:
    """A function of nothing, that may be one to be awaited."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert callable(condition)
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert running is None or not running.done(), running
        assert time.monotonic() < deadline, "it took too long"
        await asyncio.sleep(0.02)


async def unacknowledged(client: Client, source: Source = SOURCE) -> int:
    """Messages that are in the stream still."""
    found = await client.jetstream().stream_info(source.stream)
    return found.state.messages


async def is_empty(client: Client) -> bool:
    return not await unacknowledged(client)


async def publish(client: Client, *texts: str) -> None:
    for text in texts:
        await client.jetstream().publish(SUBJECT, text.encode())


async def dead(client: Client) -> list[api.RawStreamMsg]:
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(SOURCE.dead_stream)).state
    numbers = range(state.first_seq, state.first_seq + state.messages)
    return [await jetstream.get_msg(SOURCE.dead_stream, seq=number) for number in numbers]


async def test_a_message_is_acknowledged_after_its_commit_and_not_before(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store):
        await publish(client, "a")
        await until(lambda: store.asked)
        await client.flush()
        for _ in range(10):
            await asyncio.sleep(0.02)
            assert await unacknowledged(client) == 1
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert store.committed == ["a"]


async def test_what_takes_longer_than_the_wait_for_its_acknowledgement_is_not_delivered_again(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store):
        await publish(client, "a")
        await asyncio.sleep(2 * SOURCE.ack_seconds)
        assert store.asked == ["a"]
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert store.asked == ["a"]


async def test_what_is_held_when_it_ends_is_stored_first(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store):
        await publish(client, "a")
        await until(lambda: store.asked)
        asyncio.get_running_loop().call_later(0.2, store.may_commit.set)
    assert store.committed == ["a"]
    assert await is_empty(client)


async def test_what_is_not_stored_in_time_when_it_ends_is_given_to_another_at_once(client: Client) -> None:
    slow, quick = Store(), Store()
    slow.may_commit.clear()
    source = Source(ack_seconds=600)
    async with consuming(client, slow, source) as consumer:
        consumer.stop_seconds = 0.1
        await publish(client, "a")
        await until(lambda: slow.asked)
    async with consuming(client, quick, source):
        await until(lambda: is_empty(client))
    assert quick.committed == ["a"]


async def test_two_share_the_messages_and_each_is_stored_by_one(server: NatsServer, client: Client) -> None:
    stores = Store(), Store()
    source = Source(batch=10)
    other = await nats.connect(server.url)
    texts = [str(number) for number in range(300)]
    async with consuming(client, stores[0], source), consuming(other, stores[1], source):
        await publish(client, *texts)
        await until(lambda: is_empty(client))
    await other.close()
    assert sorted(stores[0].committed + stores[1].committed, key=int) == texts
    assert all(store.committed for store in stores)


async def test_what_cannot_be_decoded_is_a_dead_letter_with_the_reason_and_costs_no_other(client: Client) -> None:
    store = Store()
    async with consuming(client, store):
        await client.jetstream().publish(SUBJECT, b"?!", headers={"Content-Type": "text/plain"})
        await publish(client, "a")
        await until(lambda: is_empty(client))
    assert store.asked == ["a"]
    [letter] = await dead(client)
    assert letter.data == b"?!"
    assert letter.headers is not None
    named = {name: value for name, value in letter.headers.items() if name != "Nats-Msg-Id"}
    assert named == {
        "Content-Type": "text/plain",
        "Headcount-Code": "malformed",
        "Headcount-Reason": "It begins with\\na question mark.",
        "Headcount-Subject": SUBJECT,
        "Headcount-Stream": SOURCE.stream,
        "Headcount-Sequence": "1",
        "Headcount-Deliveries": "1",
    }


async def test_a_dead_letter_as_long_as_a_message_can_be_is_cut_and_not_kept_for_ever(client: Client) -> None:
    longest = b"?" * client.max_payload
    async with consuming(client, Store()):
        await client.jetstream().publish(SUBJECT, longest)
        await until(lambda: is_empty(client))
    [letter] = await dead(client)
    assert letter.data
    assert longest.startswith(letter.data)
    assert letter.headers is not None
    assert letter.headers["Headcount-Cut-From"] == str(len(longest))


async def test_dead_letters_can_be_taken_in_again(client: Client) -> None:
    async with consuming(client, Store()):
        await publish(client, "?a")
        await until(lambda: is_empty(client))
    store = Store()
    again = Source(
        stream=SOURCE.dead_stream, subject=SOURCE.dead_subject, dead_stream="elsewhere", dead_subject="elsewhere"
    )
    consumer = Consumer(
        client,
        again,
        StreamMetrics(CollectorRegistry()),
        decode=lambda body: body.data.decode(),
        record=store.record,
    )
    running = asyncio.create_task(consumer.run())
    await until(lambda: store.committed, running)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.committed == ["?a"]


async def test_what_is_refused_again_and_again_while_others_are_stored_is_a_dead_letter(client: Client) -> None:
    store = Store()
    store.fault = lambda text: ValueError("no such thing") if text == "bad" else None
    async with consuming(client, store):
        await publish(client, "a", "bad", "b")
        await until(lambda: is_empty(client))
    assert store.committed == ["a", "b"]
    assert store.asked.count("bad") == SOURCE.deliveries
    [letter] = await dead(client)
    assert letter.headers is not None
    assert (letter.data, letter.headers["Headcount-Deliveries"]) == (b"bad", str(SOURCE.deliveries))
    assert "ValueError: no such thing" in letter.headers["Headcount-Reason"]


async def test_nothing_is_a_dead_letter_when_everything_is_refused(client: Client) -> None:
    store = Store()
    store.fault = lambda _: asyncpg.InsufficientPrivilegeError("permission denied")
    async with consuming(client, store):
        await publish(client, "a")
        await until(lambda: len(store.asked) > SOURCE.deliveries)
        store.fault = lambda _: None
        await until(lambda: is_empty(client))
    assert store.committed == ["a"]
    assert not await dead(client)


async def test_what_is_ahead_of_a_clock_that_is_wrong_comes_again_and_holds_up_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.ingest.nats.LONGEST_PAUSE", 0.2)
    store = Store()
    store.fault = lambda text: Problem("clock_suspect", "Most DPUs are ahead.") if text == "ahead" else None
    async with consuming(client, store) as consumer:
        await publish(client, "ahead", "a", "b")
        await until(lambda: store.asked.count("ahead") > SOURCE.deliveries)
        assert (store.committed, consumer.pause) == (["a", "b"], 0.0)
        store.fault = lambda _: None
        await until(lambda: is_empty(client))
    assert store.committed == ["a", "b", "ahead"]
    assert not await dead(client)


async def test_while_the_database_is_away_little_is_tried_and_nothing_is_lost(client: Client) -> None:
    store = Store()
    store.fault = lambda _: ConnectionRefusedError()
    texts = [str(number) for number in range(200)]
    async with consuming(client, store) as consumer:
        await publish(client, *texts)
        await until(lambda: len(store.asked) > len(texts))
        tried, begun = len(store.asked), time.monotonic()
        await asyncio.sleep(3)
        rounds = (len(store.asked) - tried) / len(texts)
        assert rounds <= 3 + 2 * (time.monotonic() - begun)
        assert consumer.pause >= 0.5
        store.fault = lambda _: None
        await until(lambda: is_empty(client))
    assert sorted(store.committed, key=int) == texts
    assert not await dead(client)


async def test_it_holds_no_more_than_it_may(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store, Source(batch=10)):
        await publish(client, *map(str, range(50)))
        await until(lambda: len(store.asked) > 5)
        await asyncio.sleep(1.5)
        assert len(store.asked) <= 10
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert sorted(store.committed, key=int) == [*map(str, range(50))]


async def test_it_begins_anew_when_the_stream_is_taken_from_under_it(client: Client) -> None:
    store = Store()
    async with consuming(client, store):
        await publish(client, "a")
        await until(lambda: is_empty(client))
        await client.jetstream().delete_stream(SOURCE.stream)
        await until(lambda: _exists(client, SOURCE))
        await publish(client, "b")
        await until(lambda: store.committed == ["a", "b"])


async def test_a_full_stream_refuses_what_comes_instead_of_dropping_what_is_there(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store, Source(max_bytes=10_000)):
        with pytest.raises(nats.errors.Error, match="maximum bytes"):
            await publish(client, *["x" * 1_000] * 20)
        kept = await unacknowledged(client)
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert len(store.committed) == kept > 5


async def test_what_the_server_will_never_do_ends_it_with_the_reason(client: Client) -> None:
    await client.jetstream().add_stream(name="other", subjects=["headcount.>"])
    consumer = Consumer(client, SOURCE, StreamMetrics(CollectorRegistry()), decode=decode, record=Store().record)
    with pytest.raises(Misconfigured, match="overlap"):
        await consumer.run()


async def test_one_of_the_same_name_for_other_messages_ends_it(client: Client) -> None:
    async with consuming(client, Store()):
        other = msgspec.structs.replace(SOURCE, subject="headcount.events.north.>")
        consumer = Consumer(client, other, StreamMetrics(CollectorRegistry()), decode=decode, record=Store().record)
        with pytest.raises(Misconfigured, match="is there already"):
            await consumer.run()


async def test_it_says_how_far_behind_it_is_and_what_became_of_the_messages(client: Client) -> None:
    registry = CollectorRegistry()
    store = Store()
    store.fault = lambda text: ValueError("bad") if text == "bad" and store.asked.count(text) < 2 else None

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headcount_stream_{name}", {"stream": SOURCE.stream, **labels})

    async with consuming(client, store, registry=registry):
        await publish(client, "a", "bad", "?")
        await until(lambda: is_empty(client))
        await until(lambda: value("held_messages") == 0)
    assert value("messages_total", outcome="stored") == 2
    assert value("messages_total", outcome="returned") == 1
    assert value("messages_total", outcome="dead") == 1
    assert value("messages_again_total") == 1
    assert value("pull_messages_sum") == 4
    store.may_commit.clear()
    await publish(client, *map(str, range(10)))
    async with consuming(client, store, Source(batch=4)) as consumer:
        await until(lambda: len(consumer.held) == 4)
        consumer.metrics.note_lag(SOURCE.stream, await consumer.jetstream.consumer_info(SOURCE.stream, SOURCE.durable))
        found = {
            name: consumer.metrics.__dict__[name].labels(SOURCE.stream)._value.get()
            for name in ("pending", "unacknowledged", "redelivered")
        }
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert found == {"pending": 6, "unacknowledged": 4, "redelivered": 0}
