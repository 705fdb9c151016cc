"""Calls that are made together: what each gets of its own, and what it never gets of its neighbours'."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

import asyncpg
import pytest

from headcount.database import batching
from headcount.database.batching import Batcher, Costly
from headcount.wire.problems import Problem


class Clock:
    """What a Batcher takes for the time, which passes only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.moved = asyncio.Event()
        loop = asyncio.get_running_loop()
        seen = SimpleNamespace(time=lambda: self.now, create_task=loop.create_task, create_future=loop.create_future)
        known = {**vars(asyncio), "get_running_loop": lambda: seen, "sleep": self.sleep}
        monkeypatch.setattr(batching, "asyncio", SimpleNamespace(**known))

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await turns(1)
        while self.now < until:
            await self.moved.wait()

    def move_on(self, seconds: float) -> None:
        self.now += seconds
        self.moved.set()
        self.moved = asyncio.Event()


class Server:
    """Answers a number with its double; calls wait until they are let go. Some numbers fail."""

    def __init__(self, **failures: Exception) -> None:
        self.clock: Clock | None = None
        self.seconds = 0.0  # that a call takes by the clock
        self.failures = {int(name[1:]): error for name, error in failures.items()}
        self.calls: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, asked: Sequence[int]) -> list[int]:
        self.calls.append(list(asked))
        await self.may_answer.wait()
        await turns(1)
        if self.clock:
            self.clock.move_on(self.seconds)
        for number in asked:
            if number in self.failures:
                raise self.failures[number]
        return [2 * number for number in asked]


def slow_server(clock: Clock, seconds: float) -> Server:
    server = Server()
    server.clock, server.seconds = clock, seconds
    return server


def groups(
    server: Callable[[Sequence[int]], Awaitable[Sequence[int]]],
    callers: int = 1,
    max_weight: int = 100,
    apart: float = 0.0,
) -> Batcher[int, int]:
    return Batcher(server, callers=callers, max_weight=max_weight, weigh=lambda _: 1, apart=apart)


async def ask(asker: Batcher[int, int], *numbers: int) -> list[int | BaseException]:
    return await asyncio.gather(*(asker.ask(number) for number in numbers), return_exceptions=True)


async def turns(number: int = 5) -> None:
    """Lets everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_it_answers_what_arrives_together_by_one_call_and_each_for_itself() -> None:
    server = Server()
    assert await ask(groups(server), 3, 1, 2) == [6, 2, 4]
    assert server.calls == [[3, 1, 2]]


async def test_it_calls_at_once_when_it_is_idle_and_gathers_while_it_is_busy() -> None:
    server = Server()
    server.may_answer.clear()
    asker = groups(server)
    first = asyncio.create_task(ask(asker, 1))
    await turns()
    assert server.calls == [[1]]
    others = [asyncio.create_task(ask(asker, number)) for number in (2, 3, 4)]
    await turns()
    assert server.calls == [[1]]
    server.may_answer.set()
    assert await first == [2]
    assert [await other for other in others] == [[4], [6], [8]]
    assert server.calls == [[1], [2, 3, 4]]


@pytest.mark.parametrize("callers", [1, 2])
async def test_it_gathers_after_a_call_for_a_few_for_as_long_as_it_took(
    monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    clock = Clock(monkeypatch)
    server = slow_server(clock, 0.5)
    asker = groups(server, callers=callers, apart=60)
    assert await ask(asker, 1, 2) == [2, 4]
    others = []
    for number in (3, 4, 5):
        others.append(asyncio.create_task(ask(asker, number)))
        await turns()
    clock.move_on(0.4)
    await turns()
    assert server.calls == [[1, 2]]
    clock.move_on(0.2)
    async with asyncio.timeout(30):
        assert [await other for other in others] == [[6], [8], [10]]
    assert server.calls == [[1, 2], [3, 4, 5]]


@pytest.mark.parametrize(("number", "apart"), [(1, 60), (2, 0.1), (20, 60)], ids=["one", "longer than apart", "many"])
async def test_else_it_does_not_gather(monkeypatch: pytest.MonkeyPatch, number: int, apart: float) -> None:
    server = slow_server(Clock(monkeypatch), 0.2)
    asker = groups(server, apart=apart)
    await ask(asker, *range(number))
    other = asyncio.create_task(asker.ask(50))
    await turns()
    assert server.calls == [[*range(number)], [50]]
    assert await other == 100


async def test_many_who_ask_again_and_again_are_divided_so_that_some_are_taken_in_while_others_are_answered() -> None:
    server = Server()
    asker = groups(server)

    async def keep_asking(number: int) -> None:
        for _ in range(10):
            assert await asker.ask(number) == 2 * number

    server.may_answer.clear()
    first = asyncio.create_task(keep_asking(0))
    await turns()
    others = [asyncio.create_task(keep_asking(number)) for number in range(1, 64)]
    await turns()
    server.may_answer.set()
    await asyncio.gather(first, *others)
    assert [len(call) for call in server.calls[:12]] == [1, *[32] * 11]


async def test_nobody_waits_for_ever_where_it_is_cancelled_while_it_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = slow_server(Clock(monkeypatch), 0.5)
    asker = groups(server, apart=60)
    await ask(asker, 1, 2)
    gathering = asyncio.create_task(ask(asker, 3, 4))
    await turns()
    for task in list(asker.running):
        assert task
        task.cancel()
    failures = await gathering
    assert [type(failure) for failure in failures] == [Problem, Problem]
    assert server.calls == [[1, 2]]


async def test_it_makes_no_more_calls_at_a_time_than_it_has_callers() -> None:
    server = Server()
    server.may_answer.clear()
    asker = groups(server, callers=2)
    tasks = []
    for number in (1, 2, 3, 4):
        tasks.append(asyncio.create_task(ask(asker, number)))
        await turns()
    assert server.calls == [[1], [2]]
    server.may_answer.set()
    await asyncio.gather(*tasks)
    assert server.calls == [[1], [2], [3, 4]]


async def test_it_keeps_a_group_within_its_weight_and_lets_what_is_heavier_go_alone() -> None:
    server = Server()
    asker = Batcher(server, callers=1, max_weight=10, weigh=lambda number: number)
    assert await ask(asker, 6, 4, 1, 50, 2, 3) == [12, 8, 2, 100, 4, 6]
    assert server.calls == [[6, 4], [1], [50], [2, 3]]


async def test_who_has_most_of_a_group_that_takes_long_counts_as_costly_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What each item costs is known to nobody before."""
    server = Server()
    asker = groups(server)

    async def ask_as(*clients: str | None) -> None:
        await asyncio.gather(*(asker.ask(1, client) for client in clients))

    await ask_as("a", "a", "a", "b")
    assert not asker.costly.until
    monkeypatch.setattr(batching, "LONG_SECONDS", 0.0)
    for clients in (("a", "b"), ("a", "a"), (None, None, None, "b")):
        await ask_as(*clients)
        assert not asker.costly.until, clients
    await ask_as("a", "a", "b")
    assert [asker.is_costly(client) for client in ("a", "b", None)] == [True, False, False]
    asker.costly.seconds = -1.0
    await ask_as("a", "a", "b")
    assert not asker.is_costly("a")


def test_what_took_long_is_remembered_and_not_without_end() -> None:
    costly = Costly(60.0, most=3)
    for name in "abcd":
        costly.note([name])
    assert [name for name in "abcde" if costly.has_one_of([name])] == ["b", "c", "d"]
    costly.note(["b"])
    costly.note(["f"])
    assert [name for name in "abcdef" if costly.has_one_of([name])] == ["b", "d", "f"]


async def test_it_serves_who_asks_in_the_very_moment_in_which_a_caller_ends() -> None:
    async def at_once(asked: Sequence[int]) -> list[int]:
        return [2 * number for number in asked]

    async def keep_asking(asker: Batcher[int, int], number: int) -> None:
        for _ in range(200):
            assert await asker.ask(number) == 2 * number

    asker = groups(at_once)
    async with asyncio.timeout(30):
        await asyncio.gather(*(keep_asking(asker, number) for number in range(8)))


async def test_what_fails_its_group_fails_nobody_else() -> None:
    poison = ValueError("poison")
    server = Server(n5=poison)
    answers = await ask(groups(server), *range(16))
    assert answers.pop(5) is poison
    assert answers == [2 * number for number in range(16) if number != 5]
    assert len(server.calls) < 16


async def test_each_of_several_that_fail_is_told_its_own_failure() -> None:
    first, second = ValueError("first"), ValueError("second")
    answers = await ask(groups(Server(n2=first, n3=second)), 1, 2, 3, 4)
    assert answers == [2, first, second, 8]


async def test_overload_is_told_to_all_and_not_tried_again() -> None:
    server = Server(n3=asyncpg.QueryCanceledError("statement timeout"))
    answers = await ask(groups(server), 1, 2, 3, 4)
    assert len(server.calls) == 1
    for answer in answers:
        assert isinstance(answer, Problem)
        assert answer.kind.status == 503
        assert answer.headers["Retry-After"]
    assert len({id(answer) for answer in answers}) == 4


async def test_one_that_is_blocked_by_another_transaction_holds_up_but_does_not_fail_the_rest() -> None:
    blocked = asyncpg.LockNotAvailableError("lock timeout")
    answers = await ask(groups(Server(n2=blocked)), 1, 2, 3, 4)
    assert answers == [2, blocked, 6, 8]


async def test_it_gives_up_where_several_are_blocked_since_each_takes_long_to_fail() -> None:
    blocked = asyncpg.LockNotAvailableError("lock timeout")
    server = Server(**{f"n{number}": blocked for number in range(50)})
    answers = await ask(groups(server), *range(50))
    assert server.calls == [[*range(25)], [0], [1], [*range(25, 50)], [25], [26]]
    for first in (0, 25):
        assert answers[first : first + 2] == [blocked, blocked]
        others = answers[first + 2 : first + 25]
        assert all(isinstance(answer, Problem) and answer.kind.status == 503 for answer in others)


async def test_a_client_that_has_gone_away_leaves_its_neighbours_unharmed() -> None:
    server = Server()
    server.may_answer.clear()
    asker = groups(server)
    tasks = [asyncio.create_task(asker.ask(number)) for number in (1, 2)]
    await turns()
    tasks += [asyncio.create_task(asker.ask(number)) for number in (3, 4)]
    await turns()
    tasks[0].cancel()  # during its call
    tasks[2].cancel()  # while it waits for one
    await turns()
    server.may_answer.set()
    assert [await tasks[1], await tasks[3]] == [4, 8]
    assert server.calls == [[1, 2], [4]]


async def test_nobody_waits_for_ever_where_a_call_is_cancelled() -> None:
    server = Server()
    server.may_answer.clear()
    asker = groups(server)
    first = asyncio.create_task(asker.ask(1))
    await turns()
    second = asyncio.create_task(asker.ask(2))
    await turns()
    for call in list(asker.running):
        assert call is not None
        call.cancel()
    for asked in (first, second):
        with pytest.raises(Problem, match="stopping"):
            await asked
    server.may_answer.set()
    assert await ask(asker, 7) == [14]


async def test_clients_take_turns_and_each_has_its_own_in_the_order_in_which_they_came() -> None:
    server = Server()
    server.may_answer.clear()
    asker = groups(server, max_weight=4)
    tasks = [asyncio.create_task(asker.ask(0, "one"))]
    await turns()
    for client, numbers in (("one", range(1, 8)), ("two", range(11, 13)), (None, range(21, 24))):
        tasks += [asyncio.create_task(asker.ask(number, client)) for number in numbers]
        await turns()
    server.may_answer.set()
    await asyncio.gather(*tasks)
    assert server.calls == [[0], [1, 11, 21, 2], [12, 22, 3, 23], [4, 5, 6, 7]]
    assert (asker.waiting, asker.queues) == (0, {})


async def test_what_does_not_fit_any_more_has_a_turn_in_the_next_group_and_holds_up_no_other_client() -> None:
    server = Server()
    server.may_answer.clear()
    asker = Batcher(server, callers=1, max_weight=10, weigh=lambda number: number)
    tasks = [asyncio.create_task(asker.ask(10, "zero"))]
    await turns()
    tasks += [asyncio.create_task(asker.ask(number, f"client {number}")) for number in (6, 8, 3, 1)]
    await turns()
    server.may_answer.set()
    await asyncio.gather(*tasks)
    assert server.calls == [[10], [6, 3, 1], [8]]


async def test_a_problem_among_the_answers_is_raised_for_its_own_only_and_nothing_is_asked_again() -> None:
    unknown, asked = Problem("not_found", "There is no 2."), []

    async def call(numbers: Sequence[int]) -> list[int | Problem]:
        asked.append([*numbers])
        return [unknown if number == 2 else number for number in numbers]

    asker: Batcher[int, int] = Batcher(call, callers=1, max_weight=100, weigh=lambda _: 1)
    assert await ask(asker, 1, 2, 3) == [1, unknown, 3]
    assert asked == [[1, 2, 3]]
