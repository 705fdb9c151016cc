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
# 0.1.0. After it came another kind of locks, of silence, and of order among placements.
BEFORE_TABLE_LOCKS = Release(
    "eee45ad0f6f9668e5ba02b40f599dcc3b0144bc0",
    12,
    "45d637b6cca17e84f1f93025ac7f4699f74291b024696a577cf578b90e2bce9e",
)
# 0.1.2. After it marks of late events came to say what they add.
BEFORE_MARKS = Release(
    "df60ed07f3e576e607f0a8878a9639098e673fa4",
    24,
    "fda900618e1ea71542634943da24730545f090f1c653fb0107b5259f193cc0f7",
)
# The one before this: service N-1 of a rolling upgrade.
LAST = Release(
    "7a3e9d48c9ab5342f6718dd113cb55404efc444b",
    35,
    "ea67c28c58747cccc76134e3ce459cb2ffbf64096a9f25fc305b13309899777a",
)


def unpack(release: Release, folder: Path) -> Path:
    """Its files, as they were."""
    command = ("git", "-C", str(ROOT), "archive", "--format=zip", release.commit, "service", "sql", "docs/sql-api.md")
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"release {release.commit[:7]} is not in the history here: a shallow clone, or no clone at all")
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    return folder


def source(code: Path) -> str:
    """Where PYTHONPATH leads for such files. Up to 0.1.0 the package was the folder `service` itself."""
    return str(code / "service" if (code / "service/headcount").is_dir() else code)
