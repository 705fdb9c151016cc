"""The command `headcount`. What each subcommand does stands in service/headcount/commands/."""

import sys
from importlib import import_module

import click

COMMANDS = ("apply", "consume", "import", "migrate", "retain", "run", "serve", "simulate", "token", "verify")


class Commands(click.Group):
    """Imports the subcommand that is asked for, and no other: most need only a part of the service."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        attribute = "import_files" if name == "import" else name  # `import` is a word of Python
        command = getattr(import_module(f"headcount.commands.{attribute}"), attribute)
        assert isinstance(command, click.Command)
        return command


NAMES = [click.Command(name) for name in COMMANDS]  # for lists and guesses; Commands.get_command has the real ones


@click.group(cls=Commands, commands=NAMES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headcount", message="%(prog)s %(version)s")
def main() -> None:
    """People counting that is always right, on TimescaleDB.

    The database is the one at DATABASE_URL. Without it only `headcount run` works.
    """


if __name__ == "__main__":
    sys.exit(main(prog_name="headcount"))
