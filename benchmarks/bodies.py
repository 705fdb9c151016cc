"""What a body costs to decode of which one item is bad, or that is written in an unusual way; beside a good one.

    python -m benchmarks.bodies [--rounds 9] [--items 10000] [--only JSON]

It needs no database. The bodies of one format take turns in rounds. Ratios to the good one are taken round by round.
`PYTHONPATH=PATH/service python -m benchmarks.bodies` measures another checkout.
"""

import gc
import platform
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.lanes import Bench, Lane, Length, Round
from headcount.ingest.formats import EVENTS, decode_readings_json
from headcount.ingest.heartbeats import decode_heartbeat_batch
from headcount.ingest.polls import POLLS
from headcount.wire.bodies import JSON, MSGPACK

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
GOAL = 1.5
# What has no goal: how dear it is where much is bad.
BESIDE = ("all good", "one in a hundred bad", "all bad")
Item = dict[str, Any]


def make_items(number: int, digits: int = 3) -> list[Item]:
    """Events, a second apart, with so many digits of fraction."""
    chance = random.Random(1)
    most = 10**digits
    return [
        {
            "dpu": f"dpu-{place % 1_000}",
            "timestamp": f"{FIRST + timedelta(seconds=place):%Y-%m-%dT%H:%M:%S}.{chance.randrange(most):0{digits}}Z",
            "direction": chance.choice((1, -1)),
        }
        for place in range(number)
    ]


def with_one(items: list[Item], place: int, **fields: Any) -> list[Item]:
    return [*items[:place], items[place] | fields, *items[place + 1 :]]


def variants(number: int) -> dict[str, list[Item]]:
    """Events by what is unusual about them; the first are good."""
    good = make_items(number)
    chance = random.Random(2)
    return {
        "all good": good,
        "one bad, the first": with_one(good, 0, direction=1.5),
        "one bad, in the middle": with_one(good, number // 2, direction=1.5),
        "one bad, the last": with_one(good, number - 1, direction=1.5),
        "one whose id is bad": with_one(good, number // 2, dpu="a b"),
        "one with a backslash": with_one(good, number // 2, dpu="a\\b"),
        "one number that JSON has not": with_one(good, number // 2, direction="NaN"),
        "seven digits of fraction": make_items(number, 7),
        "one in a hundred bad": [
            item | {"direction": 1.5} if chance.random() < 0.01 else item for item in make_items(number)
        ],
        "all bad": [item | {"direction": 1.5} for item in good],
    }


def polls(items: list[Item]) -> list[Item]:
    """With what is wrong with the direction wrong with the status."""
    words = {1: "active", -1: "inactive"}
    return [
        {
            "space": item["dpu"],
            "timestamp": item["timestamp"],
            "status": words.get(item["direction"], item["direction"]),
        }
        for item in items
    ]


def readings(items: list[Item]) -> list[Item]:
    return [{"timestamp": item["timestamp"], "count": item["direction"]} for item in items]


def heartbeats(items: list[Item]) -> list[Item]:
    """With what is wrong with the direction wrong with the DPU."""
    return [
        {"dpu": item["dpu"] if item["direction"] in (1, -1) else None, "timestamp": item["timestamp"]} for item in items
    ]


def as_json(value: object) -> bytes:
    return msgspec.json.encode(value).replace(b'"NaN"', b"NaN")


def as_lines(items: list[Item]) -> bytes:
    return b"\n".join(map(as_json, items))


def as_csv(items: list[Item]) -> bytes:
    rows = (f"{item['timestamp']},{item['direction']},{item['dpu']}" for item in items)
    return "\n".join(("timestamp,direction,dpu_id", *rows)).encode()


def with_extension(items: list[Item]) -> bytes:
    """MessagePack whose timestamps are extensions with nanoseconds, in steps of 100."""
    chance = random.Random(3)
    seconds = int(FIRST.timestamp())
    packed = [msgspec.msgpack.encode(item | {"timestamp": None}) for item in items]
    stamps = [(chance.randrange(10**7) * 100 << 34 | seconds + place).to_bytes(8) for place in range(len(items))]
    key = msgspec.msgpack.encode("timestamp")
    parts = [part.replace(key + b"\xc0", key + b"\xd7\xff" + stamp) for part, stamp in zip(packed, stamps, strict=True)]
    return b"\x81" + msgspec.msgpack.encode("events") + b"\xdc" + len(items).to_bytes(2) + b"".join(parts)


# By name: what makes a body of events, and what decodes it.
FORMATS: dict[str, tuple[Callable[[list[Item]], bytes], Callable[[bytes], object]]] = {
    "events, JSON": (lambda items: as_json({"events": items}), EVENTS.json),
    "events, MessagePack": (lambda items: msgspec.msgpack.encode({"events": items}), EVENTS.msgpack),
    "events, MessagePack extension": (with_extension, EVENTS.msgpack),
    "events, NDJSON": (as_lines, EVENTS.ndjson),
    "events, CSV": (as_csv, EVENTS.csv),
    "polls, JSON": (lambda items: as_json({"polls": polls(items)}), POLLS.json),
    "readings, JSON": (lambda items: as_json({"id": "d", "readings": readings(items)}), decode_readings_json),
    "heartbeats, JSON": (
        lambda items: as_json({"heartbeats": heartbeats(items)}),
        lambda body: decode_heartbeat_batch(body, JSON),
    ),
    "heartbeats, MessagePack": (
        lambda items: msgspec.msgpack.encode({"heartbeats": heartbeats(items)}),
        lambda body: decode_heartbeat_batch(body, MSGPACK),
    ),
}


def measure(bodies: dict[str, bytes], decode: Callable[[bytes], object], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each body in each round."""
    taken: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(rounds):
        for name, body in bodies.items():
            gc.collect()
            before = time.process_time()
            decode(body)
            taken[name].append(time.process_time() - before)
    return taken


# By goal, the variant.
GOALS = {
    Lane(f"a body of 10,000 events: {variant}", GOAL, "times a good one", "lower"): variant
    for variant in ("one bad, in the middle", "seven digits of fraction", "one with a backslash")
}


@contextmanager
def open_bodies(_: Length) -> Iterator[Round]:
    make, decode = FORMATS["events, JSON"]
    made = variants(10_000)
    bodies = {name: make(made[name]) for name in ("all good", *GOALS.values())}

    def round_(_: Collection[str]) -> dict[str, float]:
        taken = {name: statistics.median(times) for name, times in measure(bodies, decode, 5).items()}
        return {lane.name: taken[variant] / taken["all good"] for lane, variant in GOALS.items()}

    measure(bodies, decode, 1)
    yield round_


BENCH = Bench(tuple(GOALS), open_bodies)


@click.command(help=__doc__)
@click.option("--rounds", default=9, show_default=True)
@click.option("--items", default=10_000, show_default=True, help="In each body.")
@click.option("--only", default="", help="Formats with this in their name.")
def main(rounds: int, items: int, only: str) -> None:
    console = Console(width=130)
    console.print(f"Python {platform.python_version()}, msgspec {version('msgspec')}", highlight=False)
    table = Table(title=f"CPU to decode {items:,} items: medians of {rounds} rounds by turns")
    for column in ("", "milliseconds", "lowest to highest", "ratio to all good", f"goal {GOAL}"):
        table.add_column(column, justify="left" if not column else "right")
    for format, (make, decode) in FORMATS.items():
        if only not in format:
            continue
        bodies: dict[str, bytes] = {}
        for name, made in variants(items).items():
            # what a format cannot say is a body that is there already
            if (body := make(made)) not in bodies.values() and not is_spoilt(format, name):
                bodies[name] = body
        taken = measure(bodies, decode, rounds)
        good = taken["all good"]
        table.add_section()
        for name, seconds in taken.items():
            ratio = statistics.median(one / other for one, other in zip(seconds, good, strict=True))
            table.add_row(
                f"{format}: {name}",
                f"{1e3 * statistics.median(seconds):.1f}",
                f"{1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f}",
                f"{ratio:.2f}",
                ("yes" if ratio <= GOAL else "no") if name not in BESIDE else "",
            )
    console.print(table)


def is_spoilt(format: str, name: str) -> bool:
    """Of readings and heartbeats the whole body is refused for a number that JSON has not."""
    return name == "one number that JSON has not" and format.startswith(("readings", "heartbeats"))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.bodies")
