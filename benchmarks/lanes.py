"""Lanes: what is measured, where it is to get to, and whether it got there."""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Literal

# From the slowest to the fastest round: what spreads by more is not measured.
MOST_SPREAD = 0.15
# Of each thing that is compared with others.
TURN_SECONDS = 0.5
# So many times a lane is measured until its rounds agree.
ATTEMPTS = 3


@dataclass(frozen=True)
class Lane:
    """One figure. Each round gives one; the median counts.

    is_limit: each round has to hold it, so the worst one counts and how far they spread says nothing (the slowest
    hundredth of the answers, or whether a load is kept up with).
    """

    name: str
    goal: float
    unit: str
    better: Literal["higher", "lower"]
    is_limit: bool = False

    def is_met_by(self, figure: float) -> bool:
        return figure >= self.goal if self.better == "higher" else figure <= self.goal


@dataclass(frozen=True)
class Length:
    """How long it may take. `keeps`: whether databases with a history are left for the next run."""

    rounds: int
    seconds: float
    is_long: bool = False
    keeps: bool = False


# The figures of the lanes asked for, by name, in one round.
Round = Callable[[Collection[str]], Mapping[str, float]]


def rates_of(runs: Mapping[str, Callable[[float], tuple[int, float]]], seconds: float) -> dict[str, float]:
    """How much each of them does in a second. They take turns of half a second: other work on the machine lasts longer,
    as a rule, and slows all of them."""
    done: dict[str, float] = dict.fromkeys(runs, 0.0)
    taken = done.copy()
    turns = max(1, round(seconds / TURN_SECONDS))
    for turn in range(turns):
        for name in runs if turn % 2 else [*runs][::-1]:
            number, lasted = runs[name](seconds / turns)
            done[name] += number
            taken[name] += lasted
    return {name: done[name] / taken[name] for name in runs}


@dataclass(frozen=True)
class Bench:
    """Lanes that share what is built for them. `open` builds it, warms up, and gives what measures a round."""

    lanes: tuple[Lane, ...]
    open: Callable[[Length], AbstractContextManager[Round]]


class State(Enum):
    MET = "met"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Verdict:
    lane: Lane
    state: State
    figure: float | None = None
    spread: float | None = None
    reason: str = ""


def judge(lane: Lane, rounds: Sequence[float]) -> Verdict:
    low, high = min(rounds), max(rounds)
    spread = 0.0 if low == high else high / low - 1 if low > 0 else float("inf")
    if lane.is_limit:
        figure = low if lane.better == "higher" else high
    else:
        figure = statistics.median(rounds)
        if spread > MOST_SPREAD:
            return Verdict(lane, State.NOT_MEASURED, figure, spread, f"rounds spread by more than {MOST_SPREAD:.0%}")
    return Verdict(lane, State.MET if lane.is_met_by(figure) else State.MISSED, figure, spread)


def settle(lanes: Sequence[Lane], round_: Round, rounds: int, attempts: int = ATTEMPTS) -> list[Verdict]:
    """Measures lanes by turns, and those whose rounds spread again: all their rounds, so that none is picked."""
    verdicts: dict[str, Verdict] = {}
    waiting = list(lanes)
    for _ in range(attempts):
        names = [lane.name for lane in waiting]
        found = [round_(names) for _ in range(rounds)]
        for lane in waiting:
            verdicts[lane.name] = judge(lane, [figures[lane.name] for figures in found])
        waiting = [lane for lane in waiting if verdicts[lane.name].state is State.NOT_MEASURED]
        if not waiting:
            break
    return [verdicts[lane.name] for lane in lanes]


def measure(bench: Bench, lanes: Sequence[Lane], length: Length) -> list[Verdict]:
    """Of some lanes of a bench. What does not run is not measured; the others go on."""
    try:
        with bench.open(length) as round_:
            return settle(lanes, round_, length.rounds)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return [Verdict(lane, State.NOT_MEASURED, reason=reason) for lane in lanes]


def exit_code(verdicts: Collection[Verdict]) -> int:
    """1 where a goal is missed, else 2 where a lane is not measured."""
    states = {verdict.state for verdict in verdicts}
    return 1 if State.MISSED in states else 2 if State.NOT_MEASURED in states else 0
