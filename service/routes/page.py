"""The page for people."""

from pathlib import Path

from litestar import MediaType, Response, get

from service.auth import OPEN
from service.edge import page_policy
from service.errors import Problem
from service.openapi import described

PAGE = Path(__file__).parent.parent / "web" / "index.html"


@get("/", opt=described(None, 404, scope=OPEN, database=False, media_types=("text/html",)))
async def get_page() -> Response[bytes]:
    """The page."""
    if not PAGE.is_file():
        raise Problem("not_found", "This installation has no page; /schema describes the API.")
    html = PAGE.read_bytes()
    return Response(html, media_type=MediaType.HTML, headers={"Content-Security-Policy": page_policy(html)})


HANDLERS = [get_page]
