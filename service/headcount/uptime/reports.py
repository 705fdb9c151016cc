"""Uptime reports: who computes them, and how they go out.

A report is a row that somebody takes (api.claim_report), in this process or another one. It is computed on a connection
of its own, in one REPEATABLE READ transaction and so from one snapshot, some sites at a time. Between them another
session says how far it has come, which also keeps others from taking it. When the process dies nobody says so any
more, the transaction is gone, and the report is taken again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from headcount.database import calls
from headcount.database.pool import Database
from headcount.settings import Settings
from headcount.wire.messages.uptime import ReportClaim, ReportIn, ReportOut, ReportRow
from headcount.wire.problems import in_words, problem_of

# Sites whose rows are computed by one statement: a fraction of a second. Fewer cost more: each statement looks for its
# sites among all.
SITES = 1000
# A statement that takes longer than this has gone wrong; the service's own limit is for requests.
STATEMENT_SECONDS = 300.0
LEASE_SECONDS = 30.0
# Between two looks for reports that others asked for, or left behind.
IDLE_SECONDS = 5.0

log = logging.getLogger("headcount.reports")


class Reports:
    """Computes reports, some at a time, as long as the service runs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.wake = asyncio.Event()
        self.noting: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """What is being computed when it ends is given up, and taken by whoever comes."""
        workers = [asyncio.create_task(self._work()) for _ in range(self.settings.report_workers)]
        try:
            yield
        finally:
            tasks = [*workers, *filter(None, [self.noting])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, session: calls.Session, asked: ReportIn, token: str | None) -> str:
        """Asks for a report and returns its id. Raises Problem: 404 for `under`, 503 where too many wait,
        429 where too many of the token do."""
        bounds = (self.settings.max_reports, token, self.settings.reports_per_hour)
        report = await calls.create_report(session, asked.now, asked.under, asked.format, *bounds)
        self.wake.set()
        return report

    async def _work(self) -> None:
        while True:
            self.wake.clear()
            claim = None
            try:
                claim = await calls.claim_report(self.database, LEASE_SECONDS)
                if claim is not None:
                    await self._compute(claim)
                    await calls.drop_reports(self.database, self.settings.keep_reports)
            except Exception as error:
                # nobody waits for an answer: it is looked for again, and the database tells what became of it
                log.warning("Reports wait (%s)", in_words(error))
                await asyncio.sleep(IDLE_SECONDS)
            if claim is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), IDLE_SECONDS)

    async def _compute(self, claim: ReportClaim) -> None:
        """Leaves it to be taken again where the database went away; fails it where it cannot be computed."""
        try:
            async with self.database.transaction_of_its_own(STATEMENT_SECONDS) as connection:
                step = await calls.compute_report(connection, claim.id, claim.attempt, None, SITES)
                while step.last_site is not None:
                    self._note(claim, step.progress)
                    step = await calls.compute_report(connection, claim.id, claim.attempt, step.last_site, SITES)
        except Exception as error:
            kind = problem_of(error).kind
            log.error("Report %s, attempt %s: %s", claim.id, claim.attempt, in_words(error))
            if kind.code not in ("unavailable", "conflict"):
                await calls.fail_report(
                    self.database, claim.id, claim.attempt, f"{kind.title} ({type(error).__name__})."
                )

    def _note(self, claim: ReportClaim, progress: float) -> None:
        """Does not wait: a database with one session hears of it when the transaction is over.

        The embedded one is such a database (docs/explanation/embedded-database.md).
        """
        if self.noting is None or self.noting.done():
            self.noting = asyncio.create_task(self._extend(claim, progress))

    async def _extend(self, claim: ReportClaim, progress: float) -> None:
        try:
            await calls.extend_report(self.database, claim.id, claim.attempt, progress, LEASE_SECONDS)
        except Exception as error:
            log.warning("Nobody was told how far report %s is (%s)", claim.id, in_words(error))


def shown(report: ReportRow) -> ReportOut:
    is_complete = report.status == "Complete"
    return ReportOut(
        id=report.id,
        status=report.status,
        progress=report.progress,
        now=report.now_at,
        under=report.under,
        created_at=report.created_at,
        finished_at=report.finished_at,
        rows=report.row_count if is_complete else None,
        csv_url=csv_url(report) if is_complete else None,
        detail=report.detail,
    )


def csv_url(report: ReportRow) -> str:
    return f"/v1/reports/{report.id}/csv"
