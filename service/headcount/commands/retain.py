"""`headcount retain`."""

import click

from headcount.commands.session import connected, offline_settings, run_async
from headcount.database import calls
from headcount.wire.messages.service import RetentionRow


@click.command
@click.option("--days", type=int, help="Keep events for so many days, at least 8; drop older ones, for good.")
@click.option("--forever", is_flag=True, help="Drop no more.")
def retain(days: int | None, forever: bool) -> None:
    """Say how long events are kept; without an option, show it.

    What is dropped does not come back, and events from before are refused as too old. Counts, entries and exits of
    the time before stay known at quarter-hours; instants within one, known_at and single events do not.
    docs/explanation/counts.md tells what that means.
    """
    if forever and days is not None:
        raise click.UsageError("--days and --forever exclude each other.")
    url = offline_settings().database_url
    click.echo(described(run_async(_retain(url, days, forever), url)))


async def _retain(url: str, days: int | None, forever: bool) -> RetentionRow:
    async with connected(url) as connection:
        if forever or days is not None:
            return await calls.set_retention(connection, days)
        return await calls.get_retention(connection)


def described(retention: RetentionRow) -> str:
    kept = f"for {retention.keep_days} days" if retention.keep_days is not None else "for ever"
    if retention.events_from is None:
        return f"Events are kept {kept}. None were dropped yet."
    return f"Events are kept {kept}. Those before {retention.events_from:%Y-%m-%dT%H:%M:%SZ} were dropped."
