"""`headcount verify`."""

from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headcount.commands.session import connected, offline_settings, run_async
from headcount.database import calls
from headcount.ingest.formats import printable
from headcount.wire.messages.service import Difference


@click.command
def verify() -> None:
    """Recompute what is derived from the events, and show where what is stored differs.

    Exit code 1 if anything does. Reads every event; where something differs, a second time: a chunk that is compressed
    meanwhile can show events without what was derived from them.
    """
    url = offline_settings().database_url
    differences = run_async(_list_differences(url), url)
    if not differences:
        click.echo("Everything that is stored equals what the events add up to.")
        return
    print_table(
        ("check", "item", "stored", "recomputed"),
        ((each.check, each.item, each.stored, each.recomputed) for each in differences),
    )
    raise click.ClickException(f"{len(differences)} difference{'s' if len(differences) > 1 else ''}.")


async def _list_differences(url: str) -> list[Difference]:
    async with connected(url) as connection:
        found = await calls.list_differences(connection)
        again = {(each.check, each.item) for each in await calls.list_differences(connection)} if found else set()
        return [each for each in found if (each.check, each.item) in again]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """As wide as the terminal, but never cut where nobody looks at a terminal.

    What somebody named is shown as it is: no markup, and nothing that a terminal would obey.
    """
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(value or "")) for value in row))
    console = Console()
    if not console.is_terminal:
        console.width = 1000
    console.print(table)
