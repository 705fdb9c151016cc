"""Data directories made once and copied, so that a test run starts at once."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from headcount.embedded.database import EmbeddedDatabase
from headcount.embedded.package import LOCK_FILE, NODE_FILES, exclusive

UNUSED_SECONDS = 7 * 24 * 3600.0


def make_template(cache: Path, key_parts: Iterable[bytes], fill: Callable[[str], None]) -> Path:
    """A stopped database that `fill` has filled through its URL; made once per package version and key parts.

    Several processes may ask at once: one makes it, the others wait. Templates unused for a week are removed.
    """
    key = hashlib.sha256()
    for part in (LOCK_FILE.read_bytes(), (NODE_FILES / "init.mjs").read_bytes(), *key_parts):
        key.update(len(part).to_bytes(8, "big") + part)
    template = cache / f"template-{key.hexdigest()[:16]}"
    with exclusive(cache / "templates.lock"):
        if not template.exists():
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
            try:
                with EmbeddedDatabase(unfinished) as database:
                    fill(database.url)
                unfinished.rename(template)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        os.utime(template)
        for other in (*cache.glob("template-*"), *cache.glob("unfinished-*")):
            if time.time() - other.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(other)
    return template


def copy_template(template: Path, directory: Path) -> None:
    """Makes `directory` the directory of a new database that holds what the template holds."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Renamed when complete: a killed copy must not look like a database.
    unfinished = Path(tempfile.mkdtemp(prefix="data.unfinished-", dir=directory))
    shutil.copytree(template / "data", unfinished, dirs_exist_ok=True)
    unfinished.rename(directory / "data")
