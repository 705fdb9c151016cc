"""`headcount verify`."""

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service import calls
from service.commands.session import connected, offline_settings, run_async
from service.messages import Difference


@click.command
def verify() -> None:
    """Recompute what is derived from the events, and show where what is stored differs.

    Exit code 1 if anything does. Reads every event.
    """
    url = offline_settings().database_url
    differences = run_async(_list_differences(url), url)
    if not differences:
        click.echo("Everything that is stored equals what the events add up to.")
        return
    table = Table("check", "item", "stored", "recomputed")
    for difference in differences:
        values = (difference.check, difference.item, difference.stored, difference.recomputed)
        table.add_row(*(Text(value or "") for value in values))
    print_table(table)
    raise click.ClickException(f"{len(differences)} difference{'s' if len(differences) > 1 else ''}.")


async def _list_differences(url: str) -> list[Difference]:
    async with connected(url) as connection:
        return await calls.list_differences(connection)


def print_table(table: Table) -> None:
    """As wide as the terminal, but never cut where nobody looks at a terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = 1000
    console.print(table)
