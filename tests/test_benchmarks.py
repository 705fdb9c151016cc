"""What the benchmarks put in place of the service's own, and what they say of what they measure."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import click
import httpx
import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.apps import store_nothing
from benchmarks.comparison import NEVER, OURS, Asked, Question, compare, find_wrong, latest_reset, need
from benchmarks.lanes import ATTEMPTS, Bench, Lane, Length, Round, State, exit_code, judge, measure, rates_of, settle
from tests.http import body, event

FASTER = Lane("rate", 1.8, "of today", "higher")
SHORTER = Lane("time", 100, "ms", "lower")
SLOWEST = Lane("p99", 50, "ms", "lower", is_limit=True)
KEEPING_UP = Lane("load", 30, "times", "higher", is_limit=True)
# What there is to reach: a goal goes or changes only on purpose.
GOALS = [
    ("single-event POST, 64 connections", 1.8, "of today"),
    ("current count, 64 connections", 1.8, "of today"),
    ("count?at= of different instants, 16 connections", 5, "of today"),
    ("count?at=, ten doors, daily reset, in the database", 1, "ms"),
    ("count?at=, ten doors, never reset, in the database", 1, "ms"),
    ("count?at=, ten doors, daily reset: 12 months to 1", 1.1, "times"),
    ("count?at=, ten doors, never reset: 12 months to 1", 1.1, "times"),
    ("count now, daily reset: 12 months to 1", 1.1, "times"),
    ("count now, never reset: 12 months to 1", 1.1, "times"),
    ("1,000 events of 1,000 DPUs over HTTP", 0.6, "of COPY by 50,000"),
    ("1,000 events of 50 DPUs over HTTP", 0.8, "of COPY by 50,000"),
    ("events an hour late", 0.7, "of those on time"),
    ("a batch sent again", 1, "of the rate of the first time"),
    ("a body of 10,000 events: one bad, in the middle", 1.5, "times a good one"),
    ("a body of 10,000 events: seven digits of fraction", 1.5, "times a good one"),
    ("a body of 10,000 events: one with a backslash", 1.5, "times a good one"),
    ("GET /sensors?limit=1000 of 100,000 sensors", 100, "ms"),
    ("GET /sensors?limit=1000 that the client has (304)", 100, "ms"),
    ("full uptime report, 14,092 sites", 2.5, "s"),
    ("an event at rest, with its index", 6.6, "bytes"),
    ("idle live tick, 1,000 selections of 1,000 spaces", 1, "ms"),
    ("PUT /v1/site of 20,000 rooms", 6, "s"),
    ("single events during PUT /v1/site of 20,000 rooms, p99", 1, "s"),
    ("100,000 DPUs over HTTP by controllers, all counts right", 30, "times an event a minute"),
    ("reads p99, 100,000 DPUs over HTTP by controllers at 30 times", 50, "ms"),
    ("100,000 DPUs through NATS by gateways, all counts right", 20, "times an event a minute"),
    ("reads p99, 100,000 DPUs through NATS by gateways at 20 times", 50, "ms"),
]


async def test_what_only_validates_answers_as_if_it_stored(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    with store_nothing():
        sent = await client.post("/v1/events", json={"events": [event("a"), event("b")]})
        heard = await client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": "a"}]})
    assert body(sent)["accepted"] == 2
    assert body(heard)["accepted"] == 1
    assert await connection.fetchval("select count(*) from core.event") == 0
    assert await connection.fetchval("select count(*) from core.dpu") == 0


def test_every_goal_has_a_lane() -> None:
    lanes = [lane for bench in command.BENCHES for lane in bench.lanes]
    assert sorted((lane.name, lane.goal, lane.unit) for lane in lanes) == sorted(GOALS)


@pytest.mark.parametrize(
    ("lane", "rounds", "state"),
    [
        (FASTER, [1.8, 1.9, 2.0], State.MET),
        (FASTER, [1.75, 1.79, 1.9], State.MISSED),
        (FASTER, [2.0, 2.2, 2.3], State.MET),
        (FASTER, [2.0, 2.2, 2.31], State.NOT_MEASURED),
        (SHORTER, [95, 100, 105], State.MET),
        (SHORTER, [95, 101, 105], State.MISSED),
        (SHORTER, [10, 20, 30], State.NOT_MEASURED),
        (SHORTER, [0, 0, 0], State.MET),
        (SHORTER, [0, 1, 1], State.NOT_MEASURED),
        (SLOWEST, [5, 20, 50], State.MET),
        (SLOWEST, [5, 20, 51], State.MISSED),
        (KEEPING_UP, [30, 30, 30], State.MET),
        (KEEPING_UP, [30, 30, 0], State.MISSED),
    ],
)
def test_a_lane_is_met_missed_or_not_measured(lane: Lane, rounds: list[float], state: State) -> None:
    assert judge(lane, rounds).state is state


def test_the_figure_is_the_median_and_of_limits_the_worst() -> None:
    assert judge(SHORTER, [100, 110, 105]).figure == 105
    assert judge(SLOWEST, [1, 9, 5]).figure == 9
    assert judge(KEEPING_UP, [30, 12, 30]).figure == 12


class Rounds:
    """Gives figures that were thought up, and remembers what it was asked for."""

    def __init__(self, **figures: list[float]) -> None:
        self.figures = {name: iter(values) for name, values in figures.items()}
        self.asked: list[list[str]] = []

    def __call__(self, names: Collection[str]) -> dict[str, float]:
        self.asked.append(list(names))
        return {name: next(self.figures[name]) for name in names}


def test_only_what_spreads_is_run_again_with_all_its_rounds() -> None:
    rounds = Rounds(rate=[2, 2], time=[10, 90, 20, 21])
    rate, time = settle([FASTER, SHORTER], rounds, 2)
    assert (rate.state, time.state, time.figure) == (State.MET, State.MET, 20.5)
    assert rounds.asked == [["rate", "time"]] * 2 + [["time"]] * 2


def test_what_goes_on_to_spread_is_run_so_many_times_and_not_more() -> None:
    rounds = Rounds(rate=[1, 9] * 10)
    (verdict,) = settle([FASTER], rounds, 2)
    assert verdict.state is State.NOT_MEASURED
    assert len(rounds.asked) == 2 * ATTEMPTS


def bench_of(round_: Round, *lanes: Lane) -> Bench:
    @contextmanager
    def opened(_: Length) -> Iterator[Round]:
        yield round_

    return Bench(lanes, opened)


def broken(_: Collection[str]) -> dict[str, float]:
    raise RuntimeError("commit eee45ad\n  cannot be unpacked")


def test_what_does_not_run_is_not_measured_and_says_why() -> None:
    (verdict,) = measure(bench_of(broken, FASTER), [FASTER], Length(2, 1))
    assert verdict.state is State.NOT_MEASURED
    assert verdict.reason == "RuntimeError: commit eee45ad cannot be unpacked"
    assert verdict.figure is None


@pytest.mark.parametrize(
    ("rates", "times", "code"),
    [
        ([2, 2], [10, 10], 0),
        ([1, 1], [10, 10], 1),
        ([2, 2], [1, 9] * ATTEMPTS, 2),
        # what is missed for certain comes first
        ([1, 1], [1, 9] * ATTEMPTS, 1),
    ],
)
def test_the_exit_code_says_what_came_of_it(rates: list[float], times: list[float], code: int) -> None:
    assert exit_code(settle([FASTER, SHORTER], Rounds(rate=rates, time=times), 2)) == code


@pytest.mark.parametrize(("rates", "code", "says"), [([2, 2], 0, "met"), ([1, 1], 1, "MISSED")])
def test_the_command_prints_goal_beside_figure(
    monkeypatch: pytest.MonkeyPatch, rates: list[float], code: int, says: str
) -> None:
    benches = (bench_of(Rounds(rate=rates), FASTER), bench_of(broken, SHORTER))
    monkeypatch.setattr(command, "BENCHES", benches)
    monkeypatch.setattr(command, "server_url", lambda: "")
    monkeypatch.setattr(command, "describe_machine", lambda _: [("machine", "none")])
    result = CliRunner().invoke(command.main, ["--only", "rate", "--rounds", "2"])
    assert result.exit_code == code
    assert re.search(rf"rate .*at least 1\.8 of today.* {rates[0]} .* 0% .*{says}", result.output)
    unmeasured = CliRunner().invoke(command.main, ["--only", "time"])
    assert (unmeasured.exit_code, "not measured: RuntimeError" in unmeasured.output) == (2, True)
    assert CliRunner().invoke(command.main, ["--only", "no such lane"]).exit_code == 2


QUESTION = Question("hall", (1, 2), datetime(2026, 3, 30, 1, 30, tzinfo=UTC), NEVER)


@pytest.mark.parametrize(
    ("at", "reset"),
    [
        # winter, summer, and the night in between
        (datetime(2026, 3, 2, 3, tzinfo=UTC), datetime(2026, 3, 2, 3, tzinfo=UTC)),
        (datetime(2026, 3, 2, 2, 59, tzinfo=UTC), datetime(2026, 3, 1, 3, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, 59, tzinfo=UTC), datetime(2026, 3, 28, 3, tzinfo=UTC)),
        (datetime(2026, 3, 29, 2, tzinfo=UTC), datetime(2026, 3, 29, 2, tzinfo=UTC)),
    ],
)
def test_peers_are_told_when_a_room_was_reset(at: datetime, reset: datetime) -> None:
    assert latest_reset(at) == reset


def test_questions_are_written_in_the_words_of_a_peer() -> None:
    text, values = QUESTION.write("sum of {events} in ({dpus}) to {at}", "", "$NAME", events="event")
    assert (text, values) == ("sum of event in (1, 2) to $at", {"at": QUESTION.at})


def test_a_peer_that_answers_otherwise_is_named() -> None:
    peers: dict[str, Asked] = {OURS: lambda _: [7], "good": lambda _: [7], "bad": lambda _: [8]}
    (wrong,) = find_wrong([QUESTION], peers)
    assert wrong.startswith("bad: hall at 2026-03-30 01:30:00+00:00: [8], and not [7]")


def test_times_are_compared_with_ours_within_a_round() -> None:
    peers: dict[str, Asked] = {OURS: lambda _: [7], "DuckDB": lambda _: [7]}
    verdicts, taken = compare({"count": [QUESTION]}, peers, 2)
    assert [verdict.lane.name for verdict in verdicts] == [f"count: {OURS}", "count: DuckDB"]
    assert (verdicts[0].figure, verdicts[0].spread) == (1, 0)
    assert taken.keys() == {f"count: {OURS}", "count: DuckDB"}


def test_a_package_that_is_missing_is_named_with_its_remedy() -> None:
    with pytest.raises(click.ClickException, match="pip install no_such_package"):
        need("no_such_package")


def test_every_module_that_can_be_run_is_named_where_one_looks() -> None:
    folder = Path(command.__file__).parent
    pages = (folder / "README.md", folder.parent / "docs/explanation/decisions.md")
    named = {name for page in pages for name in re.findall(r"benchmarks[./](\w+)", page.read_text())}
    runnable = {
        path.stem for path in folder.glob("*.py") if "@click.command" in path.read_text() and path.stem != "__main__"
    }
    assert runnable <= named


def test_what_is_compared_takes_turns_in_both_orders() -> None:
    taken: list[tuple[str, float]] = []

    def one(name: str, number: int, seconds: float) -> tuple[int, float]:
        taken.append((name, seconds))
        return number, seconds

    rates = rates_of({"ours": partial(one, "ours", 10), "theirs": partial(one, "theirs", 5)}, 2)
    assert rates == {"ours": 20, "theirs": 10}
    assert [name for name, _ in taken] == ["theirs", "ours", "ours", "theirs"] * 2
    assert {seconds for _, seconds in taken} == {0.5}
