"""Fetches what the pages are made of from npm, checked by the hashes in package-lock.json.

uPlot draws the curves; Swagger UI shows GET /schema at /docs.

Needs nothing but the standard library, since it is also used while the wheel is built.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from headcount.npm import NodeMissing, find_node, npm_ci
from headcount.web import FOLDER, SWAGGER_UI, UPLOT

# Of each package: the folder beside the pages, and which of its files go there.
WANTED = {
    "uplot": (UPLOT, ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE", "package.json")),
    "swagger-ui-dist": (
        SWAGGER_UI,
        (
            "swagger-ui-bundle.js",
            "swagger-ui-bundle.js.LICENSE.txt",
            "swagger-ui.css",
            "LICENSE",
            "NOTICE",
            "package.json",
        ),
    ),
}


def fetch() -> str | None:
    """Puts them beside the pages. Returns why that was not possible, or None."""
    try:
        node = find_node()
        with tempfile.TemporaryDirectory() as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(FOLDER / name, folder)
            npm = npm_ci(node, Path(folder))
            if npm.returncode != 0:
                return npm.stdout.strip() or f"npm ended with {npm.returncode}"
            for package, (target, names) in WANTED.items():
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                for name in names:
                    shutil.copy(Path(folder) / "node_modules" / package / name, target)
    except (OSError, NodeMissing, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


def is_fetched() -> bool:
    return all((target / Path(name).name).is_file() for target, names in WANTED.values() for name in names)
