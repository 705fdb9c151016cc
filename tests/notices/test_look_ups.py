"""service/headcount/notices/look_ups.py: names that nobody answers for hold up nobody else."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator

import asyncpg
import pytest
import uvloop

from headcount.notices import look_ups
from headcount.notices.look_ups import A_CLIENT, TOGETHER, Crowded, LookUps, Threads
from tests.commands.support import PATIENCE, until
from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import guarded, new_token
from tests.notices.support import LOCAL, put_channel, receiver, service
from tests.notices.test_mail import smtp


class Resolver:
    """Names ending in .silent.example are not answered for until `end`; all others stand for 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.end = threading.Event()

    def ask(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        self.threads.add(threading.current_thread())
        if host.endswith(".silent.example"):
            self.end.wait(PATIENCE)
            raise OSError("Temporary failure in name resolution")
        return ["127.0.0.1"]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(look_ups, "addresses_of", found.ask)
    try:
        yield found
    finally:
        found.end.set()
        for thread in found.threads:
            thread.join(PATIENCE)


async def abandon(resolver: Resolver, names: LookUps, count: int, client: str, places: int = A_CLIENT) -> None:
    """So many names that nobody answers for, of which `places` are looked up; and whoever asked has gone away."""
    wanted = len(resolver.asked) + places
    asking = [asyncio.create_task(names.find(f"n{n}.{client}.silent.example", 80, client)) for n in range(count)]
    await until(lambda: len(resolver.asked) >= wanted)  # by their threads
    await asyncio.sleep(0.05)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_client_has_its_places_and_no_more_also_for_what_it_gave_up(resolver: Resolver) -> None:
    names = LookUps()
    await abandon(resolver, names, 50, "bad")
    assert len(resolver.asked) == A_CLIENT
    begun = time.monotonic()
    with pytest.raises(Crowded):
        await names.find("receiver.example", 80, "bad")
    assert time.monotonic() - begun < PATIENCE / 2, "it does not wait for those"
    assert await names.find("receiver.example", 80, "good") == ["127.0.0.1"], "it waits for nobody, or it is crowded"
    resolver.end.set()
    assert await names.find("receiver.example", 80, "bad") == ["127.0.0.1"]
    await until(lambda: not names.under_way)  # those that were given up end in threads of their own
    assert names.threads.shares == {}, "nothing is kept of clients that ask for nothing"


async def test_there_are_so_many_places_in_all(resolver: Resolver) -> None:
    names = LookUps()
    for number in range(TOGETHER // A_CLIENT):
        await abandon(resolver, names, A_CLIENT, f"c{number}")
    await abandon(resolver, names, A_CLIENT, "late", places=0)
    assert len(resolver.asked) == TOGETHER
    with pytest.raises(Crowded):
        await names.find("receiver.example", 80, "good")


async def test_more_names_than_places_wait_for_a_moment_only_where_all_are_answered_for(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_ups, "PLACE_SECONDS", PATIENCE)  # on a machine where that moment is a long one
    names = LookUps()
    found = await asyncio.gather(*(names.find(f"r{number}.example", 80, "busy") for number in range(100)))
    assert found == [["127.0.0.1"]] * 100


async def test_who_asks_for_the_same_name_waits_for_the_same_answer(resolver: Resolver) -> None:
    names = LookUps()
    asking = [asyncio.create_task(names.find("a.silent.example", 80, f"c{number}")) for number in range(10)]
    await asyncio.sleep(0.05)
    asking[0].cancel()
    resolver.end.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(error) for error in found] == [asyncio.CancelledError] + [OSError] * 9
    assert resolver.asked == ["a.silent.example"]


async def test_addresses_need_no_place(resolver: Resolver) -> None:
    names = LookUps()
    await abandon(resolver, names, A_CLIENT, "bad")
    assert await names.find("192.0.2.1", 80, "bad") == ["192.0.2.1"]
    assert await names.find("2001:DB8::1", 80, "bad") == ["2001:db8::1"]


async def test_what_a_thread_raises_is_raised_and_what_ends_too_late_is_nobodys() -> None:
    threads = Threads("test", 2, 1)

    def fail() -> None:
        raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        await threads.run("a", fail)
    may_end = threading.Event()

    def fail_late() -> None:
        may_end.wait(PATIENCE)
        fail()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await threads.run("a", fail_late)
    may_end.set()
    await threads.run("a", lambda: None)
    gc.collect()
    assert threads.shares == {}


def test_a_service_that_stops_waits_for_no_look_up(resolver: Resolver) -> None:
    async def run() -> None:
        await abandon(resolver, LookUps(), A_CLIENT, "bad")

    begun = time.monotonic()
    uvloop.run(run())
    assert time.monotonic() - begun < PATIENCE / 2
    resolver.end.set()  # threads that end later have nobody to tell it to


async def test_a_limited_token_with_names_that_nobody_answers_for_is_in_nobodys_way(
    connection: asyncpg.Connection, database_url: str, resolver: Resolver
) -> None:
    await build_house(connection)
    bad, good = await new_token(connection, space="house"), await new_token(connection, space="house")
    async with receiver() as hook, guarded(database_url, send_notices=False, private_targets=LOCAL) as client:
        fine = {"kind": "webhook", "url": f"http://receiver.example:{hook.port}/"}
        for name, headers in (("good", good), ("fine", bad)):
            body(await client.put(f"/v1/channels/{name}", json=fine, headers=headers), 201)
        silent = [{"kind": "webhook", "url": f"https://n{number}.silent.example/"} for number in range(8)]
        answers = await asyncio.gather(
            *(client.put(f"/v1/channels/bad-{n}", json=sent, headers=bad) for n, sent in enumerate(silent))
        )
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len(answers) - len(refused) == A_CLIENT, "they may get an address later"
        for answer in refused:
            assert "looked up" in problem(answer, 429, "rate_limited")["detail"]
            assert answer.headers["retry-after"] == "10"
        # what it has sent takes the places of its requests
        (tried,) = body(await client.post("/v1/channels/fine/test", headers=bad))["tries"]
        assert "looked up" in tried["error"]
        assert body(await client.post("/v1/channels/good/test", headers=good))["state"] == "delivered"
        assert len(hook.seen) == 1


async def test_the_event_loop_looks_up_nothing_that_notices_name(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look-ups have few threads, and the database's host waits for one of them."""
    asked: list[object] = []

    async def getaddrinfo(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror("not here")

    with smtp() as (mailbox, port):
        url = f"smtp://localhost:{port}"
        async with receiver() as hook, service(database_url, smtp_url=url, send_notices=False) as client:
            await client.get("/v1/spaces")  # there is a connection to the database
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            await put_channel(client, "mail", kind="email", to="ops@example.com")
            await put_channel(client, "hook", kind="webhook", url=f"http://localhost:{hook.port}/")
            for channel in ("mail", "hook"):
                tried = body(await client.post(f"/v1/channels/{channel}/test"))
                assert tried["state"] == "delivered", tried
            assert len(mailbox.mails) == len(hook.seen) == 1
    assert asked == []
