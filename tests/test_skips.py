"""tests/skips.py: what is skipped is told, and fails where everything must run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.support import environment
from tests.skips import known_skips

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

from tests import skips


@pytest.mark.parametrize("number", range(3))
def test_listed(number):
    pytest.skip("needs sessions that run at the same time: set TEST_DATABASE_URL to a real TimescaleDB")


def test_unlisted():
    pytest.skip("there is no Chromium here")


def test_passes():
    pass
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS)
    (folder / "conftest.py").write_text("from tests.skips import pytest_sessionfinish, pytest_terminal_summary\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist.plugin", "-q", *arguments]
    clean = {
        name: value for name, value in environment().items() if name not in ("CI", "TEST_REQUIRED", "PYTEST_ADDOPTS")
    }
    return subprocess.run(
        [*command, "test_some.py"],
        cwd=folder,
        # loading what is not needed would take most of the time
        env={**clean, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("workers", "variables"), [((), {"CI": "true"}), (("-n", "2"), {"TEST_REQUIRED": "npm"})], ids=str
)
def test_a_skip_that_is_not_listed_fails_where_everything_must_run(
    tmp_path: Path, workers: tuple[str, ...], variables: dict[str, str]
) -> None:
    done = run(tmp_path, *workers, **variables)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 test_some.py:13: there is no Chromium here" in done.stdout
    assert "1 of them must not be skipped here" in done.stdout


def test_a_skip_that_is_listed_fails_nowhere(tmp_path: Path) -> None:
    done = run(tmp_path, "-k", "listed and not unlisted", CI="true")
    assert done.returncode == 0, done.stdout


def test_elsewhere_it_is_told_and_does_no_harm(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^=+ 4 skipped =+$", done.stdout, re.M)
    assert "    3 need a real TimescaleDB (TEST_DATABASE_URL)" in done.stdout
    assert "    1 test_some.py:13: there is no Chromium here" in done.stdout


def test_the_list_has_a_remedy_for_each_and_nothing_that_no_test_says() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("tests/**/*.py") if path.name != "test_skips.py")
    for text, remedy in known_skips().items():
        assert remedy, text
        assert text in sources, f"no test says {text!r}"
