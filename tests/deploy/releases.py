"""What landed before: `unpack` gives it from the history. Where that is not at hand, its tests are skipped."""

import io
import subprocess
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Release(NamedTuple):
    """newest: the number of its last migration; repeatable_sha256: of its functions (service/schema.py)."""

    commit: str
    newest: int
    repeatable_sha256: str


# The first one whose numbered files are those of today.
FIRST = Release(
    "8bd1d00e505de43f2a0708ea90faa2fb43d4ed1b",
    6,
    "e86a3cc38aecaec7fcb281cd6b85f61f5d0b1e5a4a324dc59f935a578dc1b72a",
)
# The one before this: service N-1 of a rolling upgrade.
LAST = Release(
    "b21d62c8e0ef101185cff464c2bd6fe7d2b5fc9e",
    11,
    "91fe7a3aa9b2d66e5c0ba6978b74d1b0509212f0664c58c3f71fe26f325af7c1",
)


def unpack(release: Release, folder: Path) -> Path:
    """Its code, as it was; PYTHONPATH leads there."""
    command = ("git", "-C", str(ROOT), "archive", "--format=zip", release.commit, "service", "sql", "docs/sql-api.md")
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"release {release.commit[:7]} is not in the history here: a shallow clone, or no clone at all")
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    return folder
