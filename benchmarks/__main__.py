"""Every lane that has a goal, in one command: the goal beside the figure (README.md).

Exits 1 where a goal is missed. A lane whose rounds spread by more than 15 % is run again, three times in all; the
command exits 2 if no goal is missed but a lane is still not measured.
"""

import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import (
    bench_history,
    bodies,
    fleet,
    layers,
    sensors,
    site,
    ticks,
    today,
    uptime,
)
from benchmarks.database import server_url
from benchmarks.lanes import Bench, Length, State, Verdict, exit_code, measure
from benchmarks.machine import describe_machine

# In the order of the table; what takes long and needs most of the machine last.
BENCHES: tuple[Bench, ...] = (
    today.BENCH,
    layers.BENCH,
    bodies.BENCH,
    sensors.BENCH,
    ticks.BENCH,
    site.BENCH,
    uptime.BENCH,
    bench_history.BENCH,
    fleet.HTTP,
    fleet.NATS,
)
SHORT, LONG = Length(rounds=3, seconds=2), Length(rounds=5, seconds=5, is_long=True)
COLOURS = {State.MET: "green", State.MISSED: "red", State.NOT_MEASURED: "yellow"}


def show(verdicts: list[Verdict], console: Console) -> None:
    table = Table("", title="Medians over rounds; of limits the worst round")
    for column in ("goal", "figure", "spread", ""):
        table.add_column(column, justify="right" if column else "left")
    for verdict in verdicts:
        lane = verdict.lane
        bound = "at least" if lane.better == "higher" else "at most"
        table.add_row(
            lane.name,
            f"{bound} {lane.goal:g} {lane.unit}",
            "" if verdict.figure is None else f"{verdict.figure:.3g}",
            "" if verdict.spread is None else f"{verdict.spread:.0%}",
            f"[{COLOURS[verdict.state]}]{verdict.state.value}[/]" + (verdict.reason and f": {escape(verdict.reason)}"),
        )
    console.print(table)


@click.command(help=__doc__)
@click.option("--long", "is_long", is_flag=True, help="Longer rounds, more of them, and longer histories.")
@click.option("--only", default="", help="Lanes with this in their name.")
@click.option("--keep", is_flag=True, help="Leave the databases with a history for the next run.")
@click.option("--rounds", type=click.IntRange(1), help="Of each lane.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Of each lane in a round.")
def main(is_long: bool, only: str, keep: bool, rounds: int | None, seconds: float | None) -> None:
    console, progress = Console(width=150, highlight=False), Console(width=150, highlight=False, stderr=True)
    base = LONG if is_long else SHORT
    length = Length(rounds or base.rounds, seconds or base.seconds, is_long, keep)
    chosen = [(bench, lanes) for bench in BENCHES if (lanes := [lane for lane in bench.lanes if only in lane.name])]
    if not chosen:
        raise click.UsageError(f"No lane has {only!r} in its name.")
    for name, value in describe_machine(server_url()):
        console.print(f"[bold]{name}[/]: {value}")
    verdicts: list[Verdict] = []
    for bench, lanes in chosen:
        with console.status(f"{lanes[0].name} (the first of {len(lanes)})"):
            found = measure(bench, lanes, length)
        for verdict in found:  # it takes long until the table is there
            progress.print(f"{verdict.lane.name}: {verdict.figure} {verdict.lane.unit}, {verdict.state.value}")
        verdicts += found
    show(verdicts, console)
    sys.exit(exit_code(verdicts))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
