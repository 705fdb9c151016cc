"""Refused events that are run again."""

from service import calls, cursor
from service.db import database
from service.errors import Problem
from service.messages import RejectionAgain, RerunIn, RerunOut, RerunQuery
from service.negotiation import HttpRequest, decode, query
from service.writer import writer


async def decode_rerun(request: HttpRequest) -> RerunIn:
    """Which ones, from the body or from the address."""
    if not request.scope["query_string"]:
        return await decode(request, RerunIn)
    if request.headers.get("content-length", "0") != "0":
        raise Problem("invalid", "The filter stands in the body or in the address, not in both.")
    return query(request, RerunQuery)


async def rerun(request: HttpRequest, asked: RerunIn) -> RerunOut:
    """Runs up to `limit` of them, the oldest first, in one transaction; `next` says where the rest begins."""
    rows = await calls.rerun_rejected(
        database(request),
        asked.dpu,
        asked.source,
        asked.code,
        asked.from_,
        asked.to,
        None if asked.ids is None else [*map(int, asked.ids)],
        cursor.read(asked.after, int) if asked.after else None,
        writer(request).settings.auto_register,
        asked.limit,
    )
    verdicts = [row.verdict for row in rows]
    rejected = [
        RejectionAgain(index, row.verdict, row.detail or "", str(row.id))
        for index, row in enumerate(rows)
        if row.verdict and row.verdict != "duplicate"
    ]
    following = cursor.write(rows[-1].id) if len(rows) == asked.limit else None
    return RerunOut(len(rows), verdicts.count(None), verdicts.count("duplicate"), rejected, following)
