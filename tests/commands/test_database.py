"""Which database the commands use: the one that is named, and none that they guess."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headcount.cli import COMMANDS as ALL_COMMANDS
from headcount.cli import main

COMMANDS = [
    ("migrate",),
    ("serve",),
    ("consume", "--nats", "nats://127.0.0.1:4222"),
    ("import", "events.csv"),
    ("apply", "site.toml"),
    ("retain", "--days", "400"),
    ("verify",),
    ("token", "create", "--scope", "read"),
    ("token", "list"),
    ("token", "revoke", "tok_1"),
]


@pytest.mark.parametrize("url", [None, ""])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_without_a_database_refuses_and_says_what_to_set(
    arguments: tuple[str, ...], url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("events.csv").write_text("timestamp,direction,dpu_id\n")
    Path("site.toml").write_text("")
    done = CliRunner().invoke(main, arguments, env={"DATABASE_URL": url})
    assert done.exit_code == 1
    assert "DATABASE_URL is not set" in done.output
    assert "DATABASE_URL=postgresql://USER:PASSWORD@HOST/headcount" in done.output
    assert "headcount run" in done.output


def test_every_command_that_uses_a_database_is_in_the_list() -> None:
    assert {arguments[0] for arguments in COMMANDS} == set(ALL_COMMANDS) - {"run", "simulate"}
