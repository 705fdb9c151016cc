"""What landed before: `unpack` gives it from the history. Where that is not at hand, its tests are skipped."""

import io
import subprocess
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Release(NamedTuple):
    """newest: the number of its last migration; repeatable_sha256: of its functions (headcount.database.schema)."""

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
    "eee45ad0f6f9668e5ba02b40f599dcc3b0144bc0",
    12,
    "45d637b6cca17e84f1f93025ac7f4699f74291b024696a577cf578b90e2bce9e",
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
