"""`headcount migrate`."""

import click
import psycopg

from headcount.commands.session import in_one_line, offline_settings, run_async, write_horizon
from headcount.database.migrate import migrate as bring_to_current
from headcount.database.schema import MigrationRefused
from headcount.settings import SettingsRefused


@click.command
def migrate() -> None:
    """Bring the database at DATABASE_URL to the current schema.

    Safe to run by many at once, and again and again. HEADCOUNT_EVENTS_FROM, where it is set, is written to the
    database: events before it are refused.
    """
    settings = offline_settings()
    url = settings.database_url
    try:
        report = bring_to_current(url, on_step=click.echo)
    except (MigrationRefused, SettingsRefused, psycopg.Error, OSError) as error:
        raise in_one_line(error, url) from None
    run_async(write_horizon(settings), url)
    for warning in report.warnings:
        click.echo(warning, err=True)
    changed = report.applied or report.repeatable or report.policies
    click.echo("The database is at the current schema now." if changed else "The database was current already.")
