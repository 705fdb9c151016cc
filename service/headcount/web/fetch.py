"""Fetches uPlot, which draws the curves of the page, from npm: checked by the hash in package-lock.json.

Needs nothing but the standard library, since it is also used while the wheel is built.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from headcount.npm import NodeMissing, find_node, npm_ci
from headcount.web import FOLDER, UPLOT

WANTED = ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE", "package.json")


def fetch() -> str | None:
    """Puts uPlot beside the page. Returns why that was not possible, or None."""
    try:
        node = find_node()
        with tempfile.TemporaryDirectory() as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(FOLDER / name, folder)
            npm = npm_ci(node, Path(folder))
            if npm.returncode != 0:
                return npm.stdout.strip() or f"npm ended with {npm.returncode}"
            shutil.rmtree(UPLOT, ignore_errors=True)
            UPLOT.mkdir()
            for name in WANTED:
                shutil.copy(Path(folder) / "node_modules/uplot" / name, UPLOT)
    except (OSError, NodeMissing, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


def is_fetched() -> bool:
    return all((UPLOT / Path(name).name).is_file() for name in WANTED)
