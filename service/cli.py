"""The command `headcount`. What each subcommand does stands in service/commands/."""

import sys

import click

from service.commands.apply import apply
from service.commands.consume import consume
from service.commands.import_files import import_files
from service.commands.migrate import migrate
from service.commands.retain import retain
from service.commands.run import run
from service.commands.serve import serve
from service.commands.simulate import simulate
from service.commands.token import token
from service.commands.verify import verify


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
