"""The page for people."""

from pathlib import Path

from litestar import MediaType, Response, get

from service.errors import Problem
from service.openapi import described

PAGE = Path(__file__).parent.parent / "web" / "index.html"


@get("/", opt=described(None, 404, database=False, media_types=("text/html",)))
async def get_page() -> Response[bytes]:
    """The page."""
    if not PAGE.is_file():
        raise Problem("not_found", "This installation has no page; /schema describes the API.")
    return Response(PAGE.read_bytes(), media_type=MediaType.HTML)


HANDLERS = [get_page]
