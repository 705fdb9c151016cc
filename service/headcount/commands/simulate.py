"""`headcount simulate`."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from time import sleep
from typing import IO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import msgspec
from msgspec import UNSET

from headcount.commands.client import BATCH_EVENTS, Client
from headcount.demo.simulation import (
    Crowd,
    Report,
    deliver,
    make_site,
    smallest_number_of_dpus,
    to_datetime,
)
from headcount.wire import instants
from headcount.wire.messages.plan import SiteIn

FIRST_HOUR = 4  # local; nobody is there then
PEOPLE_PER_SPACE = 40
SHARE = click.FloatRange(0, 1)


@click.command
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write site.toml and events.csv there.")
@click.option("--url", help="Send both to the service at this URL, with the token in HEADCOUNT_TOKEN.")
@click.option("--spaces", type=click.IntRange(1), default=12, show_default=True)
@click.option("--dpus", type=click.IntRange(1), help="At least one a doorway, which is the default: spaces + 1.")
@click.option("--people", type=click.IntRange(0), help="Who come on a weekday.  [default: 40 a space]")
@click.option(
    "--from",
    "first",
    metavar="DATE",
    help="The first day, from 4 in the morning on.  [default: so that the last one was yesterday]",
)
@click.option("--days", type=click.IntRange(0), default=2, show_default=True)
@click.option("--zone", default="Europe/Berlin", show_default=True, help="The site's time zone.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same people.")
@click.option("--miss", type=SHARE, default=0.0, help="Share of people whom a sensor misses.")
@click.option("--late", type=SHARE, default=0.0, help="Share of events that arrive 5 minutes to 6 hours late.")
@click.option("--repeat", type=SHARE, default=0.0, help="Share of events that arrive twice.")
@click.option("--shuffle", type=SHARE, default=0.0, help="Share of events that others overtake.")
@click.option("--gzip", "packed", is_flag=True, help="Write events.csv.gz.")
@click.option("--live", is_flag=True, help="Go on up to now, and then in real time until Ctrl-C, with heartbeats.")
def simulate(
    out: Path | None,
    url: str | None,
    spaces: int,
    dpus: int | None,
    people: int | None,
    first: str | None,
    days: int,
    zone: str,
    seed: int,
    miss: float,
    late: float,
    repeat: float,
    shuffle: float,
    packed: bool,
    live: bool,
) -> None:
    """Make up a site and the traffic of its DPUs, as files or sent to the service.

    Where no sensor misses anybody (--miss), every count is right and everybody is gone at night.
    """
    if (out is None) == (url is None):
        raise click.UsageError("Give one of --out DIR and --url URL.")
    if live and url is None:
        raise click.UsageError("--live needs --url.")
    dpus = smallest_number_of_dpus(spaces) if dpus is None else dpus
    start = _start(first, days, zone)
    end = start.astimezone(ZoneInfo(zone)) + timedelta(days=days)  # local days, of 23 and 25 hours too
    if url is not None:
        end = min(end.astimezone(UTC), datetime.now(UTC))
    try:
        site = make_site(spaces, dpus, zone, start, seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    crowd = Crowd(site, zone, start, PEOPLE_PER_SPACE * spaces if people is None else people, seed, miss=miss)
    if out is not None:
        _write(out, site, deliver(crowd.reports_until(end), seed, late, repeat, shuffle), packed)
        return
    assert url is not None
    with Client(url) as client:
        list(client.apply_site(site))
        try:
            names = [dpu.id for dpu in site.dpus]
            reports = _live(crowd, end, lambda: client.beat(names)) if live else crowd.reports_until(end)
            client.send(deliver(reports, seed, late, repeat, shuffle), live)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
        client.print_summary()


def _start(first: str | None, days: int, zone: str) -> datetime:
    """The local instant at which the first day begins: while nobody is there."""
    try:
        time_zone = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.UsageError(f"There is no time zone {zone!r}.") from None
    if first is None:
        today = datetime.now(time_zone).replace(hour=FIRST_HOUR, minute=0, second=0, microsecond=0)
        return (today - timedelta(days=days)).astimezone(UTC)
    try:
        day = datetime.combine(date.fromisoformat(first), time(FIRST_HOUR), time_zone)
        return day.astimezone(UTC)
    except ValueError:
        raise click.UsageError(f"--from is {first!r}; it must be a date such as 2026-03-01.") from None


# To files


def _write(folder: Path, site: SiteIn, deliveries: Iterable[tuple[int, Report]], packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.toml").write_text(site_toml(site))
    path = folder / ("events.csv.gz" if packed else "events.csv")
    number = 0
    with path.open("wb") as raw:
        # Without name and time, the same events are the same bytes.
        file: IO[bytes] | gzip.GzipFile = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
        file.write(b"timestamp,direction,dpu_id\n")
        rows = (f"{instants.shortest(to_datetime(r.at))},{r.direction},{r.dpu}\n" for _, r in deliveries)
        while lines := list(islice(rows, BATCH_EVENTS)):
            number += len(lines)
            file.write("".join(lines).encode())
        if packed:
            file.close()
    click.echo(f"{folder / 'site.toml'}: {len(site.spaces)} spaces, {len(site.dpus)} DPUs")
    click.echo(f"{path}: {number} events")


def site_toml(site: SiteIn) -> str:
    """The site as `headcount apply` reads it."""
    lines: list[str] = []
    for kind, items in (
        ("spaces", site.spaces),
        ("doorways", site.doorways),
        ("dpus", site.dpus),
        ("placements", site.placements),
    ):
        for item in items:
            lines.append(f"[[{kind}]]")
            fields: dict[str, object] = msgspec.json.decode(_encode(item))
            lines += [
                f"{name} = {_toml(value)}"
                for name, value in fields.items()
                if value is not UNSET and (value is not None or name == "mounted_in")
            ]
            lines.append("")
    return "\n".join(lines)


def _encode(item: msgspec.Struct) -> bytes:
    return msgspec.json.encode(item, enc_hook=_text)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return instants.shortest(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode("" if value is None else value).decode()


def _live(crowd: Crowd, end: datetime, beat: Callable[[], None]) -> Iterator[Report]:
    """What happened until `end`, and on from there without end, as it happens."""
    yield from crowd.reports_until(end)
    while True:
        beat()
        yield from crowd.reports_until(datetime.now(UTC))
        sleep(0.5)
