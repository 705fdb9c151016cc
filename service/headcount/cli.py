"""The command `headcount`. What each subcommand does stands in service/headcount/commands/."""

import sys

import click

from headcount.commands.apply import apply
from headcount.commands.consume import consume
from headcount.commands.import_files import import_files
from headcount.commands.migrate import migrate
from headcount.commands.retain import retain
from headcount.commands.run import run
from headcount.commands.serve import serve
from headcount.commands.simulate import simulate
from headcount.commands.token import token
from headcount.commands.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headcount", message="%(prog)s %(version)s")
def main() -> None:
    """People counting that is always right, on TimescaleDB.

    The database is the one at DATABASE_URL. Without it only `headcount run` works.
    """


for command in (migrate, serve, consume, run, import_files, apply, token, simulate, verify, retain):
    main.add_command(command)

if __name__ == "__main__":
    sys.exit(main(prog_name="headcount"))
