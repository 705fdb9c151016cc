"""Fetches uPlot, which draws the curves of the page, from npm: once, checked by the hash in package-lock.json."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from headcount.embedded import EmbeddedUnavailable
from headcount.embedded.package import find_node, npm_ci
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
    except (OSError, EmbeddedUnavailable, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


if reason := fetch():
    sys.exit(
        f"The page will show no curves: uPlot could not be fetched. Try `python -m headcount.web` again.\n{reason}"
    )
