"""What a forge and a contributor's commits run is what .ci/run runs."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_compose import SERVICES

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
GATE = (ROOT / ".ci/run").read_text()
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def steps(job: str) -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def lint() -> list[str]:
    """The commands of make lint."""
    found = re.search(r"^lint: setup\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert found
    return [line.strip() for line in found[1].splitlines()]


def test_the_gate_calls_targets_that_exist_and_lets_no_unlisted_skip_pass() -> None:
    targets = re.findall(r"^make (\w+)$", GATE, re.M)
    assert {"lint", "test"} <= set(targets)
    for target in [*targets, "check"]:
        assert re.search(rf"^{target}: setup$", MAKEFILE, re.M), target
    assert "export TEST_REQUIRED=npm" in GATE


def test_a_forge_runs_the_gate_and_each_python_with_each_postgresql() -> None:
    assert any(".ci/run" in step for step in steps("gate"))
    assert "make test" in steps("matrix")
    axes = WORKFLOW["jobs"]["matrix"]["strategy"]["matrix"]
    assert axes == {"python": ["3.11", "3.12", "3.13", "3.14"], "postgresql": ["15", "16", "17", "18"]}
    assert PROJECT["project"]["requires-python"] == f">={axes['python'][0]}"
    image = WORKFLOW["jobs"]["matrix"]["services"]["db"]["image"]
    assert image.replace("${{ matrix.postgresql }}", "17") == SERVICES["db"]["image"]
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_hooks_run_the_tools_of_make_lint_from_the_lock_file() -> None:
    assert [repository["repo"] for repository in HOOKS] == ["local"]
    entries = [hook["entry"] for hook in HOOKS[0]["hooks"]]
    assert all(hook["language"] == "system" for hook in HOOKS[0]["hooks"])
    for command in lint():
        tool = command.removesuffix(" --check").removesuffix(" sql/repeatable")
        assert any(entry.startswith(tool) for entry in entries), command


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_what_contributors_are_told_to_run_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\bmake (\w+)`", text):
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target
    for path in re.findall(r"`((?:sql|service|tests|docs|benchmarks|deploy)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_licence_is_named_where_tools_look_for_it() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
