"""deploy/systemd: units that systemd takes, with a command, settings and files that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from headcount.cli import COMMANDS
from headcount.settings import SECRETS
from tests.commands.support import PATIENCE

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
PROGRAM = "/opt/headcount/bin/headcount"
# Of systemd's own rating, 0 (nothing that could be exposed) to 10.
MOST_EXPOSED = 15  # 1.5


def settings_of(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.M)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_runs_a_command_that_exists(unit: Path) -> None:
    [command] = settings_of(unit, "ExecStart")
    program, name, *_ = command.split()
    assert program == PROGRAM
    assert name in COMMANDS


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_its_secrets_are_credentials_and_no_settings(unit: Path) -> None:
    credentials = dict(line.split(":") for line in settings_of(unit, "LoadCredential"))
    given = dict(pair.split("=") for line in settings_of(unit, "Environment") for pair in line.split())
    assert {variable.removesuffix("_FILE") for variable in given} <= SECRETS
    assert set(given.values()) == {f"%d/{name}" for name in credentials}
    guide = (ROOT / "docs/how-to/systemd.md").read_text()
    for path in credentials.values():
        assert path in guide


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_it_and_finds_it_well_confined(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # the program is not there, and verify looks
    copy = tmp_path / unit.name.replace("@", "@events")
    copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        [analyze, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", copy],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert rated.returncode == 0, rated.stdout[-300:]
