"""Every request that the docs show goes to an address of the service, with a method that it takes."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.reference import http_api
from tests.docs.test_site import PAGES, named

FENCE = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CURL = re.compile(r"^ *(curl .*?)(?=^ *curl |\Z)", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def operations() -> list[tuple[str, str]]:
    """Method and pattern of the path."""
    return re.findall(r"^### (GET|PUT|POST|PATCH|DELETE) (\S+)$", http_api(), re.MULTILINE)


def is_of(path: str, pattern: str) -> bool:
    return bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path))


def requests(page: Path) -> list[tuple[str, str]]:
    """Method and path of each curl command."""
    found = []
    for block in FENCE.findall(page.read_text()):
        for command in CURL.findall(block):
            url = re.search(r"http://127\.0\.0\.1:8000[^\s'\"]*", command)
            assert url, command
            named_method = re.search(r"-X (\w+)", command)
            sends = re.search(r" (-d|--json|--data-binary) ", command)
            method = named_method[1] if named_method else "POST" if sends else "GET"
            found.append((method, urlsplit(url[0]).path))
    return found


SHOWN = {page: requests(page) for page in PAGES}


def test_there_are_some() -> None:
    assert sum(map(len, SHOWN.values())) > 30


@pytest.mark.parametrize("page", [page for page in PAGES if SHOWN[page]], ids=named)
def test_its_requests_can_be_made(page: Path, operations: list[tuple[str, str]]) -> None:
    for method, path in SHOWN[page]:
        assert any(method == taken and is_of(path, pattern) for taken, pattern in operations), f"{method} {path}"
