"""The command itself: which subcommands there are, and what each start imports."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from headcount.cli import COMMANDS, main


def test_it_lists_all_with_what_they_do() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    lines = dict(line.split(maxsplit=1) for line in said.partition("Commands:\n")[2].splitlines())
    assert tuple(lines) == COMMANDS


def test_it_guesses_what_was_meant() -> None:
    done = CliRunner().invoke(main, ["serv"])
    assert done.exit_code == 2
    assert "Did you mean 'serve'?" in done.output


@pytest.mark.parametrize("command", ["migrate", "token", "simulate"])
def test_it_imports_no_service_for_a_command_that_needs_none(command: str) -> None:
    program = (
        "import sys; from headcount.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "assert not {'headcount.app', 'nats'} & {*sys.modules}, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, command, "--help"], check=True, capture_output=True)
