"""What was skipped, and what it takes to run it; where everything must run, a skip that tests/skips.txt does not know
is a failure."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

LIST = Path(__file__).parent / "skips.txt"


class Skipped(NamedTuple):
    place: str
    reason: str
    remedy: str | None
    """None: the list does not know it."""


def known_skips() -> dict[str, str]:
    """What each skip on the list takes to run, by a part of its message."""
    lines = [line for line in LIST.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {text: remedy for text, _, remedy in (line.partition(" => ") for line in lines)}


def everything_must_run() -> bool:
    """As in .ci/run and on a forge."""
    return bool(os.environ.get("TEST_REQUIRED") or os.environ.get("CI"))


def skipped_tests(config: pytest.Config) -> list[Skipped]:
    known = known_skips()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    found = []
    for report in reporter.stats.get("skipped", ()) if reporter else ():
        path, line, message = report.longrepr
        reason = message.removeprefix("Skipped: ")
        remedy = next((remedy for text, remedy in known.items() if text in reason), None)
        found.append(Skipped(f"{os.path.relpath(path, config.rootpath)}:{line}", reason, remedy))
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not everything_must_run():
        return
    if session.exitstatus == pytest.ExitCode.OK and any(test.remedy is None for test in skipped_tests(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = skipped_tests(config)
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} skipped")
    for remedy, count in Counter(test.remedy for test in skipped if test.remedy).most_common():
        terminalreporter.line(f"{count:5} {remedy}")
    must_run = everything_must_run()
    unlisted = Counter(test for test in skipped if test.remedy is None)
    for test, count in unlisted.most_common():
        terminalreporter.line(f"{count:5} {test.place}: {test.reason}", red=must_run)
    if unlisted and must_run:
        total = sum(unlisted.values())
        terminalreporter.line(
            f"{total} of them must not be skipped here: tests/skips.txt does not list them.", red=True
        )
