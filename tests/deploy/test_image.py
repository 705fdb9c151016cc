"""The Dockerfile: that the image gets all it needs, and little else. Nothing here needs a Docker engine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.commands.support import PATIENCE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BUILD, RESULT = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
# What the package is made of.
SOURCES = {"service", "sql"}
# What a checkout has and an image does not need.
ELSEWHERE = {".ci", ".github", "benchmarks", "deploy", "docs", "tests"}


def copied() -> set[str]:
    """What the build gets from the checkout."""
    return {source for line in re.findall(r"(?m)^COPY (.+) \S+$", BUILD) for source in line.split()}


def kept() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "everything is left out that is not named"
    return {line[1:] for line in lines if line.startswith("!")}


def tracked(*paths: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no checkout of git")
    return listed.stdout.splitlines()


def test_it_gets_every_folder_that_is_not_known_to_be_for_elsewhere() -> None:
    folders = {path.split("/")[0] for path in tracked() if "/" in path}
    assert folders - ELSEWHERE == SOURCES
    assert copied() >= SOURCES


def test_it_gets_what_is_copied_and_nothing_else_is_sent_to_the_engine() -> None:
    assert copied() == kept()


def test_it_installs_by_the_lock_file_with_its_hashes() -> None:
    assert "--require-hashes" in BUILD
    assert "requirements.lock" in copied()
    for install in re.findall(r"pip install[^&]+", BUILD):
        assert "--no-index" in install


def test_the_page_s_assets_are_fetched_while_it_is_built() -> None:
    assert "python -m headcount.web" in BUILD
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"service/headcount/web/swagger-ui", "service/headcount/web/uplot"} <= set(ignored)


def test_the_result_holds_what_was_built_and_runs_as_nobody_in_particular() -> None:
    assert re.findall(r"(?m)^COPY (.+)$", RESULT) == ["--from=build /headcount /headcount"]
    assert not re.search(r"(?m)^RUN ", RESULT), "nothing is installed in the result"
    [user] = re.findall(r"(?m)^USER (\d+):\d+$", RESULT)
    assert int(user) >= 1000


def test_both_stages_are_of_one_python_pinned_by_its_whole_version() -> None:
    [version] = set(re.findall(r"(?m)^FROM python:(\S+)", DOCKERFILE))
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", version)


def test_hadolint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed")
    said = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_no_release_of_a_dependency_is_allowed_that_is_older_than_what_is_tested() -> None:
    """requirements.lock is what the tests run with; the lower bounds are its versions without their last part."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([0-9][0-9.]*)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        found = re.match(r"([a-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)", dependency)
        assert found, dependency
        assert found[2] == ".".join(locked[found[1]].split(".")[:2]), dependency
