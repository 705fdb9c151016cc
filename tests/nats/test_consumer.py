"""What the consumer does with messages, on a real server with JetStream; what stores them is the test's own."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import msgspec
import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js import api
from prometheus_client import CollectorRegistry

from headcount.ingest.nats import MAX_BYTES, Body, Consumer, Lane, Misconfigured, Source, connected_to
from headcount.metrics import StreamMetrics
from headcount.settings import Settings
from headcount.wire.problems import Problem
from headcount.wire.threads import take_time
from tests.commands.support import PATIENCE
from tests.nats.server import NatsServer, connect, nats_server

SUBJECT = "headcount.events.dpu-1"
# What is held is told every third of `ack_seconds`: where this machine stands still for 5, nothing comes again.
SOURCE = Source(ack_seconds=8.0, retry_seconds=0.2, deliveries=3)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(server.url)
    yield client
    await client.close()


async def publish_raw(server: NatsServer, headers: bytes, body: bytes, subject: bytes = SUBJECT.encode()) -> None:
    """As no client library would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    size = f"{len(headers)} {len(headers) + len(body)}".encode()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"HPUB %s %s\r\n%s%s\r\nPING\r\n" % (subject, size, headers, body))
    async with asyncio.timeout(PATIENCE):
        while b"PONG" not in await reader.readline():
            pass
    writer.close()
    await writer.wait_closed()


class Store:
    """Stands in for the database: what was committed, and what becomes of the next ones."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.committed: list[str] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.fault: Callable[[str], Exception | None] = lambda _: None

    async def record(self, text: str, subject: str = "") -> None:
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
        await client.flush(int(PATIENCE))
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
        await asyncio.sleep(1.3 * SOURCE.ack_seconds)
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
    other = await connect(server.url)
    texts = [str(number) for number in range(300)]

    async def both_pull() -> bool:
        waiting = (await client.jetstream().consumer_info(source.stream, source.durable)).num_waiting
        return waiting is not None and waiting >= 2

    async with consuming(client, stores[0], source), consuming(other, stores[1], source):
        await until(both_pull)
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


@pytest.mark.parametrize(
    "headers",
    [
        *(f"NATS/1.0\r\nStatus: {status}\r\n\r\n".encode() for status in (100, 404, 408, 409, 500)),
        b"NATS/1.0 500\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
        b"NATS/1.0\r\nStatus: 409\r\nDescription: Consumer Deleted\r\n\r\n",
    ],
)
async def test_a_message_cannot_pass_for_a_word_of_the_server(
    server: NatsServer, client: Client, headers: bytes
) -> None:
    store = Store()
    async with consuming(client, store):
        await publish_raw(server, headers, b"a")
        await publish_raw(server, headers, b"b")
        await publish(client, "c")
        await until(lambda: is_empty(client))
    assert sorted(store.committed) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("headers", "subject"),
    [
        (b"ab", SUBJECT.encode()),
        (b"NATS/1.0 \xff\xff\xff \xff\r\n\r\n", SUBJECT.encode()),
        (b"NATS/1.0\r\n\r\n", b"headcount.events.\xff"),
    ],
    ids=["no headers", "a status that is not UTF-8", "a subject that is not UTF-8"],
)
async def test_headers_and_subjects_that_nobody_can_read_stop_nothing(
    server: NatsServer, client: Client, headers: bytes, subject: bytes
) -> None:
    store = Store()
    async with connected_to(Settings(nats_url=server.url)) as tolerant, consuming(tolerant, store):
        for body in (b"a", b"?"):
            await publish_raw(server, headers, body, subject)
        await publish(client, "b")
        await until(lambda: is_empty(client))
    assert sorted(store.committed) == ["a", "b"]
    [letter] = await dead(client)
    assert letter.data == b"?"


async def test_of_headers_it_reads_the_first_part_only(server: NatsServer, client: Client) -> None:
    many = b"".join(b"a%d:b\r\n" % number for number in range(5_000))
    async with connected_to(Settings(nats_url=server.url)) as tolerant, consuming(tolerant, Store()):
        await publish_raw(server, b"NATS/1.0\r\n" + many + b"\r\n", b"?")
        await until(lambda: is_empty(client))
    [letter] = await dead(client)
    assert letter.headers is not None
    kept = [name for name in letter.headers if name.startswith("a")]
    assert 1_000 < len(kept) < 3_000


async def test_a_dead_letter_has_the_headers_that_can_be_written_and_names_the_others(
    server: NatsServer, client: Client
) -> None:
    async with consuming(client, Store()):
        await publish_raw(server, b"NATS/1.0\r\nX(1): a\r\nStatus: 500\r\nnats-ttl: 1\r\nKind: b\r\n\r\n", b"?")
        await until(lambda: is_empty(client))
    [letter] = await dead(client)
    assert letter.headers is not None
    assert letter.headers["Kind"] == "b"
    assert not {"X(1)", "Status", "nats-ttl"} & set(letter.headers)
    assert letter.headers["Headcount-Reason"].endswith("Left out headers: X(1), Status, nats-ttl.")


async def test_what_our_decoder_fails_with_is_a_dead_letter_and_costs_no_other(client: Client) -> None:
    def fail(body: Body) -> str:
        if body.data == b"bad":
            raise KeyError("Description")
        return body.data.decode()

    store = Store()
    async with consuming(client, store) as consumer:
        consumer.decode = fail
        await publish(client, "bad")
        await until(lambda: is_empty(client))
        await publish(client, "a")
        await until(lambda: is_empty(client))
    assert store.committed == ["a"]
    [letter] = await dead(client)
    assert letter.headers is not None
    assert "KeyError" in letter.headers["Headcount-Reason"]


async def test_a_message_of_which_no_dead_letter_can_be_written_is_dropped_after_a_few_tries(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await client.jetstream().add_stream(
        name=SOURCE.dead_stream, subjects=[SOURCE.dead_subject], max_msg_size=100, max_bytes=1_000_000
    )
    registry, source = CollectorRegistry(), msgspec.structs.replace(SOURCE, retry_seconds=0.05)
    async with consuming(client, Store(), source, registry):
        await publish(client, "?" * 200)
        await until(lambda: is_empty(client))
    labels = {"stream": SOURCE.stream, "outcome": "dropped"}
    assert registry.get_sample_value("headcount_stream_messages_total", labels) == 1
    labels["outcome"] = "returned"
    assert registry.get_sample_value("headcount_stream_messages_total", labels) == SOURCE.deliveries - 1
    assert "is dropped: It begins with" in caplog.text


async def test_nothing_is_dropped_while_the_stream_of_dead_letters_is_away(client: Client) -> None:
    source = msgspec.structs.replace(SOURCE, retry_seconds=0.05)
    async with consuming(client, Store(), source):
        await client.jetstream().delete_stream(SOURCE.dead_stream)
        await publish(client, "?")
        await until(lambda: is_empty(client))
    [letter] = await dead(client)
    assert letter.data == b"?"


async def test_a_subject_whose_messages_take_time_holds_up_no_other(client: Client) -> None:
    go_on, texts = threading.Event(), [f"slow {number}" for number in range(24)]

    def decode_slowly(body: Body) -> str:
        if body.data.startswith(b"slow"):
            take_time(10_000)
            go_on.wait(PATIENCE)
            time.sleep(0.1)
        return body.data.decode()

    store = Store()
    async with consuming(client, store, Source(batch=8)) as consumer:
        consumer.decode = decode_slowly
        for text in texts:
            await client.jetstream().publish("headcount.events.door-one", text.encode())
        await publish(client, "a")
        await until(lambda: store.committed == ["a"])
        go_on.set()
        await until(lambda: is_empty(client))
    assert sorted(store.committed) == sorted(["a", *texts])
    assert not await dead(client)


def test_what_is_postponed_comes_again_about_when_it_is_its_turn_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headcount.ingest.nats.time", SimpleNamespace(monotonic=lambda: 1000.0))
    lane = Lane()
    for _ in range(50):
        lane.note_turn(0.2)  # two at once
    found = [lane.postpone(100) for _ in range(10_001)]
    first = [seconds for seconds in found[:200] if seconds is not None]
    assert first == pytest.approx([0.5 + 0.08 * number for number in range(200)], abs=0.3)
    assert all(seconds is not None and 0.5 <= seconds <= 50 for seconds in found[:-1])
    assert found[-1] is None
    large = Lane()
    assert [large.postpone(150 * 1024 * 1024) is None for _ in range(3)] == [False, False, True]


async def test_a_subject_whose_messages_cost_the_event_loop_much_is_decoded_by_threads(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.ingest.nats.DEAR_SHARE", 0.001)  # also where the machine is busy
    threads: dict[str, set[str]] = {"dear": set(), "cheap": set()}

    def decode_dearly(body: Body) -> str:
        text = body.data.decode().strip()
        threads[text].add(threading.current_thread().name.split("_")[0])
        until = time.thread_time() + 0.004
        while text == "dear" and time.thread_time() < until:
            pass
        return body.data.decode()

    async with consuming(client, Store()) as consumer:
        consumer.decode = decode_dearly
        consumer.weigh = len
        for _ in range(25):
            await client.jetstream().publish("headcount.events.door-one", b"dear".ljust(500))
            await publish(client, "cheap")
        await until(lambda: is_empty(client))
    assert threads == {"dear": {"MainThread", "worker"}, "cheap": {"MainThread"}}


async def test_a_garbage_collection_is_not_charged_to_the_message_into_whose_time_it_falls(client: Client) -> None:
    names: set[str] = set()

    def decode_late(body: Body) -> str:
        names.add(threading.current_thread().name)
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        return body.data.decode()

    store = Store()
    async with consuming(client, store) as consumer:
        consumer.decode = decode_late
        await publish(client, *map(str, range(30)))
        await until(lambda: is_empty(client))
    assert names == {"MainThread"}
    assert len(store.committed) == 30


async def test_it_holds_no_more_bytes_than_it_may_where_large_messages_follow_small_ones(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.ingest.nats.AT_ONCE_BYTES", client.max_payload)  # none is postponed
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store) as consumer:
        store.may_commit.set()
        await publish(client, *"abc")
        await until(lambda: is_empty(client))
        store.may_commit.clear()
        large = b"x" * (client.max_payload - 100)
        for _ in range(40):
            await client.jetstream().publish(SUBJECT, large)
        await until(lambda: consumer.bytes > MAX_BYTES // 2)
        await asyncio.sleep(0.5)
        assert consumer.bytes <= 1.5 * MAX_BYTES + len(large)
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert len(store.committed) == 43


async def test_a_full_subject_refuses_what_comes_and_others_take_it(client: Client) -> None:
    store = Store()
    store.may_commit.clear()
    async with consuming(client, store, Source(max_per_subject=3)):
        with pytest.raises(nats.errors.Error, match="per subject"):
            await publish(client, *"abcd")
        await client.jetstream().publish("headcount.events.other", b"e")
        store.may_commit.set()
        await until(lambda: is_empty(client))
    assert sorted(store.committed) == [*"abce"]


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
        await until(lambda: store.asked.count("ahead") > SOURCE.deliveries and len(store.committed) == 2)
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
        await until(lambda: consumer.pause >= 0.5)
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
