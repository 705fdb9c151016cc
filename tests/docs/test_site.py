"""The documentation as a whole: it can be built without a network, is complete, and its lines are short."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "sql/README.md",
        ROOT / "benchmarks/README.md",
    )
    if path.is_file()
)
# Variables of compose.yaml and deploy/.
VARIABLE = re.compile(r"\b(?:BACKUP|BI|DB|GRAFANA|MQTT|NATS|SERVICE)_[A-Z_]+\b")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:benchmarks|deploy|docs|service|sql|tests)/[\w./-]+)`")
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
# These make a browser ask another host as soon as a page is opened.
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class Loads(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if named.get("rel") != "canonical":
            self.found.append(named.get(LOADED.get(tag, "")) or "")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict: a dead link, a dead anchor, a page that is in no menu ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("")
        assert (site / name.with_suffix(".html")).exists(), name


def test_its_links_lead_to_files_so_that_it_can_be_opened_from_the_disk(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # a server's, with addresses of a server
            continue
        for link in re.findall(r"<a [^>]*?href=\"?([^\"\s>]+)", page.read_text()):
            path = re.split("[?#]", link)[0]
            if path and not re.match(r"[a-z]+:", path):
                assert (page.parent / unquote(path)).is_file(), f"{page}: {link}"


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert not [address for address in loads.found if re.match(r"(https?:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_lines_have_at_most_100_characters(page: Path) -> None:
    """Tables, code, links alone on a line and words without a blank may be longer."""
    prose = FENCE.sub("", page.read_text())
    long = [
        line
        for line in prose.splitlines()
        if len(line) > 100 and not re.match(r"\s*\||    ", line) and " " in line.strip().lstrip("-*>0123456789. ")
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_links_lead_somewhere_in_the_repository(page: Path) -> None:
    """What is read without the site: on a forge, in an editor."""
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_the_files_that_it_names_are_there(page: Path) -> None:
    for path in FILE.findall(page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_the_variables_that_it_names_are_there(page: Path) -> None:
    deployed = [ROOT / "compose.yaml", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]
    known = set(VARIABLE.findall("\n".join(path.read_text() for path in deployed)))
    assert set(VARIABLE.findall(page.read_text())) <= known
