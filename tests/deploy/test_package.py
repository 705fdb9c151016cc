"""The package that `pip install .` makes: a whole product, from any folder, and nothing else beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.commands import support
from tests.commands.support import PATIENCE, free_port
from tests.deploy.test_image import ROOT, copied, tracked


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the image gets of the checkout, and no more."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked(*copied()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    is_needed = os.environ.get("TEST_REQUIRED") == "npm"
    if "could not be fetched from npm" in built.stderr and not is_needed:
        pytest.skip("uPlot and Swagger UI cannot be fetched from npm here")
    assert built.returncode == 0, built.stderr
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import it from."""
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(command, check=True, timeout=120)
    return folder


def run(installed: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`headcount` as it was installed, from a folder that is not ours."""
    environment = support.environment(**variables, PYTHONPATH=str(installed))
    command = [sys.executable, "-m", "headcount.cli", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_it_has_one_thing_at_top_level_and_in_it_all_that_is_needed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"headcount"}
    sources = {path.removeprefix("service/") for path in tracked("service") if path.startswith("service/headcount/")}
    assert names >= sources | {f"headcount/{path}" for path in tracked("sql")}
    assert names >= {"headcount/web/uplot/uPlot.esm.js", "headcount/web/uplot/uPlot.min.css"}
    viewer = {"swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"}
    assert names >= {f"headcount/web/swagger-ui/{name}" for name in viewer}
    assert "headcount/py.typed" in names


def test_it_migrates_and_serves_with_page_and_charts_from_any_folder(
    installed: Path, tmp_path: Path, fresh_database_url: str
) -> None:
    variables = {"DATABASE_URL": fresh_database_url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(free_port())}
    migrated = run(installed, tmp_path, "migrate", **variables)
    said, _ = migrated.communicate(timeout=240)
    assert migrated.returncode == 0, said
    served = run(installed, tmp_path, "serve", **variables)
    try:
        assert served.stdout is not None
        lines = []
        for line in served.stdout:
            lines.append(line)
            if "Serving on" in line:
                break
        assert served.poll() is None, lines
        with httpx.Client(base_url=f"http://127.0.0.1:{variables['HEADCOUNT_PORT']}", timeout=PATIENCE) as client:
            for path in ("/", "/web/uPlot.esm.js", "/docs", "/web/swagger-ui.css", "/schema", "/v1/spaces"):
                assert client.get(path).status_code == 200, path
    finally:
        served.terminate()
        served.communicate(timeout=PATIENCE)
    assert not list(tmp_path.iterdir())
