"""`headcount apply`."""

import json
import tomllib
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import click
from rich.table import Table

from service import calls
from service.commands.session import connected, offline_settings, run_async
from service.commands.verify import print_table
from service.errors import Problem
from service.instants import shortest
from service.messages import SiteChange, SiteIn
from service.negotiation import JSON, decode_bytes

OUTSIDE = "outside"
SAMPLES = 24  # instants looked at in the period of a placement that would change
MOST_INSTANTS = 100


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and which counts, and change nothing.")
def apply(file: Path, dry_run: bool) -> None:
    """Apply a floor plan: spaces, doorways, DPUs and placements, all or nothing.

    FILE is TOML or JSON, shaped as PUT /v1/site. What it does not mention stays as it is, and applying it again
    changes nothing. TOML has no null: in sides and mounted_in, "" is the outside, and so is "outside" unless the
    file has a space of that name.
    """
    site = read_site(file)
    url = offline_settings().database_url
    changes, before, after = run_async(_apply(url, site, dry_run), url)
    for change in changes:
        if change.change != "unchanged":
            click.echo(f"{change.kind} {change.id} {'would be ' if dry_run else ''}{change.change}")
    if dry_run:
        _print_counts(before, after)
    number = Counter(change.change for change in changes)
    click.echo(", ".join(f"{word} {number[word]}" for word in ("created", "updated", "unchanged")))
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")


Counts = dict[tuple[datetime, str], int]


async def _apply(url: str, site: SiteIn, dry_run: bool) -> tuple[list[SiteChange], Counts, Counts]:
    async with connected(url) as connection:
        if not dry_run:
            return await calls.apply_site(connection, site), {}, {}
        transaction = connection.transaction()
        await transaction.start()
        try:
            # It changes nothing but holds the floor plan, so that no event comes in between and shows up as a change.
            await calls.apply_site(connection, SiteIn())
            attempt = connection.transaction()
            await attempt.start()
            changes = await calls.apply_site(connection, site)
            await attempt.rollback()
            instants = _instants(site, changes)
            before = await _counts(connection, instants)
            await calls.apply_site(connection, site)
            return changes, before, await _counts(connection, instants)
        finally:
            await transaction.rollback()


def _instants(site: SiteIn, changes: list[SiteChange]) -> list[datetime]:
    """Where to compare counts: now, and all through the periods of the placements that change."""
    now = datetime.now(UTC)
    instants = {now}
    placements = [change for change in changes if change.kind == "placement"]
    for placement, change in zip(site.placements, placements, strict=True):
        if change.change == "unchanged" or placement.from_ >= now:
            continue
        end = min(placement.until or now, now)
        step = (end - placement.from_) / SAMPLES
        instants.update(placement.from_ + number * step for number in range(1, SAMPLES))
        instants.add(end - timedelta(microseconds=1))
    return sorted(instants)[-MOST_INSTANTS:]


async def _counts(connection: asyncpg.Connection, instants: list[datetime]) -> Counts:
    return {(at, row.space): row.raw_count for at in instants for row in await calls.list_counts(connection, at=at)}


def _print_counts(before: Counts, after: Counts) -> None:
    """A line for each space that changes: where it changes most, the latest of such instants."""
    changed: dict[str, tuple[int, datetime]] = {}
    for (at, space), would_be in after.items():
        difference = abs(would_be - before.get((at, space), 0))
        if difference:
            changed[space] = max(changed.get(space, (0, at)), (difference, at))
    if not changed:
        click.echo("No count would change.")
        return
    table = Table("space", "at", "is", "would be")
    for space, (_, at) in changed.items():
        table.add_row(space, shortest(at), str(before.get((at, space), "-")), str(after[at, space]))
    print_table(table)


def read_site(file: Path) -> SiteIn:
    """The floor plan in a TOML or JSON file. Raises ClickException naming the place that is wrong."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if file.suffix == ".json" or text.lstrip().startswith("{"):
            return decode_bytes(text.encode(), SiteIn, JSON)
        document = tomllib.loads(text)
        encoded = json.dumps(_with_outside(document), default=_instant)
        return decode_bytes(encoded.encode(), SiteIn, JSON)
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: the file is not UTF-8.") from None
    except Problem as problem:
        raise click.ClickException(f"{file}: {problem.detail}") from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{file}: {error}") from None


def _instant(value: object) -> str:
    """A date of TOML as text; one without offset stays without, and is then refused with its place."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    raise ValueError(f"{value!r} is nothing a floor plan can hold")


def _with_outside(document: dict[str, Any]) -> dict[str, Any]:
    """The document with null wherever TOML had to write the outside, no parent or no doorway as text."""
    spaces = {space.get("id") for space in _tables(document, "spaces")}
    nothing = {""} if OUTSIDE in spaces else {"", OUTSIDE}

    def side(value: Any) -> Any:
        return None if isinstance(value, str) and value in nothing else value

    for space in _tables(document, "spaces"):
        if space.get("parent") == "":
            space["parent"] = None
    for doorway in _tables(document, "doorways"):
        if isinstance(doorway.get("sides"), list):
            doorway["sides"] = [side(value) for value in doorway["sides"]]
    for placement in _tables(document, "placements"):
        if "mounted_in" in placement:
            placement["mounted_in"] = side(placement["mounted_in"])
        if placement.get("doorway") == "":
            placement["doorway"] = None
    return document


def _tables(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = document.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
