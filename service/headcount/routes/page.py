"""The page for people: files, the same for everybody. What it shows it asks of the API, as anybody would."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from headcount.http.answers import unless_known
from headcount.http.asgi import page_policy
from headcount.http.auth import OPEN
from headcount.http.inputs import FileName
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.web import FILES, FOLDER, SCRIPT, STYLE
from headcount.wire.messages.base import NoQuery
from headcount.wire.problems import Problem

PAGE = FOLDER / "index.html"
REPORTS = FOLDER / "reports.html"
DOCS = FOLDER / "docs.html"


@get("/", opt=described(404, scope=OPEN, database=False, cached=True, media_types=("text/html",)))
async def get_page(request: HttpRequest) -> Response[bytes]:
    """Show the page of spaces."""
    return page_answer(request, PAGE)


@get("/reports", opt=described(404, scope=OPEN, database=False, cached=True, media_types=("text/html",)))
async def get_reports_page(request: HttpRequest) -> Response[bytes]:
    """Show the page of uptime reports. Its data come from /v1/reports."""
    return page_answer(request, REPORTS)


@get("/docs", opt=described(404, scope=OPEN, database=False, cached=True, media_types=("text/html",)))
async def get_docs_page(request: HttpRequest) -> Response[bytes]:
    """Show the page that documents the HTTP API."""
    return page_answer(request, DOCS)


@get(
    "/web/{file:str}",
    opt=described(404, scope=OPEN, database=False, cached=True, media_types=(SCRIPT, STYLE, "image/svg+xml")),
)
async def get_page_file(request: HttpRequest, file: FileName, params: NamedDependency[NoQuery]) -> Response[bytes]:
    """Get a file of the pages: script, style or icon."""
    media_type, path = FILES.get(file, (None, None))
    if media_type is None or path is None or not path.is_file():
        raise Problem("not_found", "The pages have no such file; libraries are fetched by `python -m headcount.web`.")
    return _file(request, path, media_type)


def page_answer(request: HttpRequest, path: Path) -> Response[bytes]:
    """One of the pages, whatever its address is asked for."""
    if not path.is_file():
        raise Problem("not_found", "This installation has no page; /schema describes the API.")
    return _file(request, path, MediaType.HTML)


def _file(request: HttpRequest, path: Path, media_type: str) -> Response[bytes]:
    """Browsers ask each time, and get it only when it has changed: page and service always fit together."""
    state = path.stat()
    loaded = _load(path, state.st_mtime_ns, state.st_size)
    headers = {"Cache-Control": "no-cache", "ETag": loaded.tag}
    if media_type == MediaType.HTML:
        headers["Content-Security-Policy"] = loaded.policy
    return unless_known(request, Response(loaded.content, media_type=media_type, headers=headers))


class Loaded(NamedTuple):
    content: bytes
    tag: str
    policy: str


@lru_cache(maxsize=64)
def _load(path: Path, _changed_ns: int, _size: int) -> Loaded:
    """A file, read once for each time that it was changed: anybody may ask for it, as often as they like."""
    content = path.read_bytes()
    is_html = path.suffix == ".html"
    return Loaded(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', page_policy(content) if is_html else "")


HANDLERS = [get_page, get_reports_page, get_docs_page, get_page_file]
