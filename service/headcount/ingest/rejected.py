"""Refused events that are run again."""

import asyncpg

from headcount.database import calls
from headcount.ingest.writer import DAYS_AT_ONCE
from headcount.wire import paging
from headcount.wire.messages.events import RejectionAgain, RerunIn, RerunOut, RerunRow
from headcount.wire.problems import Problem

# Events in one transaction; it ends earlier before one of a further day than DAYS_AT_ONCE.
AT_A_TIME = 500


async def rerun(session: calls.Session, asked: RerunIn, *, auto_register: bool) -> RerunOut:
    """Runs up to `limit` of them, the oldest first; `next` says where the rest begins.

    Each few, of a few days, have a transaction of their own: nobody changes the floor plan while one goes on, and each
    day costs time. Where one fails after others were committed, the answer is what these came to, and `next` leads on
    to it.
    """
    ids = None if asked.ids is None else [*map(int, asked.ids)]
    after = paging.read(asked.after, int) if asked.after else None
    rows: list[RerunRow] = []
    is_more = True
    while is_more and len(rows) < asked.limit:
        number = min(AT_A_TIME, asked.limit - len(rows))
        try:
            found = await calls.rerun_rejected(
                session,
                asked.dpu,
                asked.source,
                asked.code,
                asked.from_,
                asked.to,
                ids,
                after,
                auto_register,
                number,
                DAYS_AT_ONCE,
            )
        except (Problem, asyncpg.PostgresError):
            if not rows:
                raise
            break
        rows += found
        is_more = bool(found)  # fewer than asked for may be of enough days
        after = found[-1].id if found else after
    verdicts = [row.verdict for row in rows]
    rejected = [
        RejectionAgain(index, row.verdict, row.detail or "", str(row.id))
        for index, row in enumerate(rows)
        if row.verdict and row.verdict != "duplicate"
    ]
    following = paging.write(rows[-1].id) if is_more and rows else None
    return RerunOut(len(rows), verdicts.count(None), verdicts.count("duplicate"), rejected, following)
