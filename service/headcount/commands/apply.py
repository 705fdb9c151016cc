"""`headcount apply`."""

import asyncio
import json
import tomllib
from collections import Counter, deque
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import click
import msgspec

from headcount.commands.client import GIVE_UP_SECONDS, Client
from headcount.commands.session import connected, offline_settings, run_async
from headcount.commands.verify import print_table
from headcount.database import calls
from headcount.database.plan_turns import Plans
from headcount.database.pool import (
    PLAN_LOCK_SECONDS,
    PLAN_PAUSE_SECONDS,
    PLAN_SECONDS,
    PREVIEW_IS_BUSY,
    PREVIEW_SECONDS,
)
from headcount.ingest.sites import halves_of, parts_of
from headcount.wire.bodies import JSON, decode_bytes
from headcount.wire.instants import encoded, shortest
from headcount.wire.messages.plan import CountChange, SiteChange, SiteIn, SiteOut
from headcount.wire.problems import Problem

OUTSIDE = "outside"
# What has no smaller parts may keep events waiting for longer: whoever has the database at hand has decided so.
ALONE_SECONDS = 15.0
TAKES_TOO_LONG = (
    "A change of a single thing takes longer than {seconds} seconds, and events wait meanwhile. It was not made. "
    "Try again when less is going on."
)
IS_HELD = (
    "Somebody else used the floor plan each time that it was tried, for {minutes} minutes. "
    "Look for transactions that take long, and try again."
)


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and which counts, and change nothing.")
@click.option("--url", help="Send it to the service at this URL, with the token in HEADCOUNT_TOKEN.")
def apply(file: Path, dry_run: bool, url: str | None) -> None:
    """Apply a floor plan: spaces, doorways, DPUs and placements.

    FILE is TOML or JSON, shaped as PUT /v1/site. What it does not mention stays as it is, and applying it again
    changes nothing. TOML has no null: in sides and mounted_in, "" is the outside, and so is "outside" unless the
    file has a space of that name.

    A file with more than 1,000 things, or of which the change takes longer than a moment, goes in parts: spaces first,
    then doorways, DPUs and placements. Each part is all or nothing. Where one fails those before it stay: mend the file
    and apply it again.

    Without --url it goes into the database at DATABASE_URL.
    """
    site = read_site(file)
    if url is not None:
        with Client(url) as client:
            _print(client.preview_site(site) if dry_run else SiteOut(changes=list(client.apply_site(site))), dry_run)
    else:
        database_url = offline_settings().database_url
        _print(run_async((_preview if dry_run else _apply)(database_url, site), database_url), dry_run)


async def _apply(url: str, site: SiteIn) -> SiteOut:
    changes: list[SiteChange] = []
    parts, plans = deque(parts_of(site)), Plans()
    async with connected(url) as connection:
        while parts:
            part = parts.popleft()
            halves = halves_of(part)
            try:
                changes += await _apply_part(connection, plans, part, PLAN_SECONDS if halves else ALONE_SECONDS)
            except asyncpg.QueryCanceledError:
                if not halves:
                    raise click.ClickException(TAKES_TOO_LONG.format(seconds=f"{ALONE_SECONDS:g}")) from None
                parts.extendleft(reversed(halves))
    return SiteOut(changes=changes)


async def _apply_part(connection: asyncpg.Connection, plans: Plans, part: SiteIn, seconds: float) -> list[SiteChange]:
    """As the service does: after a rest, and letting pass those who store events while it waits for the floor plan."""
    deadline = monotonic() + GIVE_UP_SECONDS
    while True:
        async with plans.turn(None):
            try:
                async with connection.transaction():
                    await connection.execute(
                        "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)",
                        f"{seconds:g}s",
                        f"{PLAN_LOCK_SECONDS:g}s",
                    )
                    with plans.work(is_limited=False):
                        return await calls.apply_site(connection, part)
            except asyncpg.LockNotAvailableError:
                if monotonic() > deadline:
                    raise click.ClickException(IS_HELD.format(minutes=f"{GIVE_UP_SECONDS / 60:g}")) from None
        await asyncio.sleep(PLAN_PAUSE_SECONDS)


async def _preview(url: str, site: SiteIn) -> SiteOut:
    async with connected(url) as connection, connection.transaction():
        await connection.execute(f"set local statement_timeout = '{PREVIEW_SECONDS:g}s'")
        try:
            found = await calls.preview_change(
                connection, "apply_site", msgspec.json.encode(site, enc_hook=encoded).decode()
            )
        except asyncpg.QueryCanceledError:
            raise click.ClickException(PREVIEW_IS_BUSY.format(seconds=f"{PREVIEW_SECONDS:g}")) from None
        await connection.execute("set local statement_timeout = 0")
        counts = await calls.compare_counts(connection, found.facts)
    return SiteOut(changes=msgspec.json.decode(found.result or "[]", type=list[SiteChange]), counts=counts)


def _print(result: SiteOut, dry_run: bool) -> None:
    for change in result.changes:
        if change.change != "unchanged":
            click.echo(f"{change.kind} {change.id} {'would be ' if dry_run else ''}{change.change}")
    if dry_run:
        _print_counts(result.counts or [])
    number = Counter(change.change for change in result.changes)
    click.echo(", ".join(f"{word} {number[word]}" for word in ("created", "updated", "unchanged")))
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")


def _print_counts(counts: Sequence[CountChange]) -> None:
    """A line for each space that changes."""
    if not counts:
        click.echo("No count would change, at any instant up to now.")
        return
    print_table(
        ("space", "from", "to", "largest at", "now", "after"),
        (
            (
                change.space,
                *(shortest(at) for at in (change.from_, change.to, change.at)),
                str(change.before),
                str(change.after),
            )
            for change in counts
        ),
    )
    click.echo(
        "from, to: the first and the last instant up to now at which the count would be another one. "
        "largest at: the first instant at which it differs most. "
        "now, after: the count then, as it is and as it would be, below 0 where people were missed."
    )


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
