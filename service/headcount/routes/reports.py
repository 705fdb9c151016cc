"""Uptime: reports over all sites, and one space by buckets."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec
from litestar import get, post
from litestar.di import NamedDependency, Provide
from litestar.response import Stream

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.answers import Answer, csv_answer, prefers, prefers_csv
from headcount.http.decoding import decode_report
from headcount.http.inputs import SLOW_SESSION, ReportId, SpaceId, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.http.sessions import access_of
from headcount.uptime.reports import csv_url, shown
from headcount.wire import paging
from headcount.wire.bodies import CSV, JSON, MSGPACK
from headcount.wire.messages.base import Id, NoQuery, Page, PageQuery
from headcount.wire.messages.uptime import (
    ReportIn,
    ReportOut,
    ReportQuery,
    ReportRow,
    ReportSiteOut,
    ReportStartedOut,
    ReportStatusOut,
    SiteUptimeRow,
    SpaceUptimeOut,
    SpaceUptimeQuery,
    TimelineOut,
    TimelineQuery,
    UptimeOut,
)

ALL = (JSON, MSGPACK, CSV)
# As long as the id of a report. HEAD makes none, and tells of its answer's body only how long it would be.
NO_REPORT = "00000000-0000-0000-0000-000000000000"


async def start_report(request: HttpRequest, session: Client, params: ReportIn) -> str:
    """Its id."""
    return await services(request).reports.create(session, params, access_of(request).token)


@get(
    "/trigger_report",
    dependencies={"params": query_of(ReportIn)},
    opt=described(404, scope="read", triggers=True),
)
async def trigger_report_by_get(
    request: HttpRequest, params: NamedDependency[ReportIn], session: NamedDependency[Client]
) -> ReportStartedOut:
    """Start a report. No input is needed; GET /get_report tells when it is complete."""
    if request.scope["state"]["is_head"]:
        return ReportStartedOut(NO_REPORT)
    return ReportStartedOut(await start_report(request, session, params))


@post(
    "/trigger_report",
    status_code=200,
    dependencies={"params": Provide(decode_report)},
    opt=described(404, scope="read"),
)
async def trigger_report(
    request: HttpRequest, params: NamedDependency[ReportIn], session: NamedDependency[Client]
) -> ReportStartedOut:
    """Start a report by POST. The input can also be a JSON body."""
    return ReportStartedOut(await start_report(request, session, params))


@get(
    "/get_report",
    dependencies={"params": query_of(ReportQuery), "session": SLOW_SESSION},
    opt=described(404, scope="read", gives_headers=("ReportState",), media_types=ALL),
)
async def get_report_or_csv(
    request: HttpRequest, params: NamedDependency[ReportQuery], session: NamedDependency[Client]
) -> Answer[ReportStatusOut] | Stream:
    """Get the progress of a report. When it is complete: the CSV, or its address if JSON is preferred."""
    return await status_answer(request, session, await calls.get_report(session, params.report_id))


@post(
    "/v1/reports",
    status_code=202,
    dependencies={"params": Provide(decode_report)},
    opt=described(404, scope="read", query=NoQuery, body=ReportIn),
)
async def create_report(
    request: HttpRequest, params: NamedDependency[ReportIn], session: NamedDependency[Client]
) -> ReportOut:
    """Start a report on the uptime of all sites in the hour, day and week before `now`."""
    return shown(await calls.get_report(session, await start_report(request, session, params)))


@get("/v1/reports", dependencies={"params": query_of(PageQuery)}, opt=described(scope="read"))
async def list_reports(params: NamedDependency[PageQuery], session: NamedDependency[Client]) -> Page[ReportOut]:
    """List the reports that are kept, the newest first."""
    after_at, after_id = paging.read(params.after, tuple[datetime, Id]) if params.after else (None, None)
    rows = await calls.list_reports(session, after_at, after_id, params.limit + 1)
    return paging.page([*map(shown, rows)], params.limit, lambda report: (report.created_at, report.id))


@get("/v1/reports/{report:str}", opt=described(404, scope="read"))
async def get_report(report: ReportId, session: NamedDependency[Client]) -> ReportOut:
    """Get one report: its progress, and where its rows are."""
    return shown(await calls.get_report(session, report))


@get(
    "/v1/reports/{report:str}/csv",
    dependencies={"session": SLOW_SESSION},
    opt=described(404, 409, scope="read", media_types=(CSV,)),
)
async def get_report_csv(request: HttpRequest, report: ReportId, session: NamedDependency[Client]) -> Stream:
    """Get the rows of a complete report as CSV, one for each site."""
    return await csv_stream(request, session, await calls.get_report(session, report))


@get(
    "/v1/reports/{report:str}/rows",
    dependencies={"params": query_of(PageQuery)},
    opt=described(404, 409, scope="read"),
)
async def list_report_sites(
    report: ReportId, params: NamedDependency[PageQuery], session: NamedDependency[Client]
) -> Page[ReportSiteOut]:
    """List the rows of a complete report by the id of the site, with its name and whether it was polled."""
    after = paging.read(params.after, Id) if params.after else None
    rows = await calls.list_report_sites(session, report, after, params.limit + 1)
    return paging.page(rows, params.limit, lambda row: row.space)


@get(
    "/v1/spaces/{space:str}/uptime",
    dependencies={"params": query_of(SpaceUptimeQuery), "session": SLOW_SESSION},
    opt=described(404, scope="read", media_types=ALL),
)
async def list_uptimes(
    request: HttpRequest,
    space: SpaceId,
    params: NamedDependency[SpaceUptimeQuery],
    session: NamedDependency[Client],
) -> Answer[SpaceUptimeOut] | Stream:
    """Get how long a space was up within its opening hours in [from, to), in all or by local buckets.

    `to` is the latest poll by default; polls after `to` do not count. `from` is 168 hours before. Buckets are cut off
    at both ends, so they add up to the whole; there are at most 10,000.
    """
    found = await calls.list_uptimes(session, space, params.from_, params.to, params.interval)
    if params.format == "csv" or (params.format is None and prefers_csv(request)):
        return csv_answer(found.buckets, UptimeOut)
    return Answer(found)


@get(
    "/v1/spaces/{space:str}/uptime/timeline",
    dependencies={"params": query_of(TimelineQuery), "session": SLOW_SESSION},
    opt=described(404, scope="read"),
)
async def get_timeline(
    space: SpaceId, params: NamedDependency[TimelineQuery], session: NamedDependency[Client]
) -> TimelineOut:
    """Get when a space was open, up and down in [from, to), with its polls: at most 31 days.

    `to` is the latest poll by default; polls after `to` do not count. `from` is 168 hours before.
    """
    return await calls.get_timeline(session, space, params.from_, params.to)


HANDLERS = [
    trigger_report_by_get,
    trigger_report,
    get_report_or_csv,
    create_report,
    list_reports,
    get_report,
    get_report_csv,
    list_report_sites,
    list_uptimes,
    get_timeline,
]


CSV_ROWS = 1_000


# Without blanks after the commas; `update` is how whoever wrote the task spelled it.
COLUMNS = (
    "store_id",
    "uptime_last_hour(in minutes)",
    "uptime_last_day(in hours)",
    "update_last_week(in hours)",
    "downtime_last_hour(in minutes)",
    "downtime_last_day(in hours)",
    "downtime_last_week(in hours)",
)


async def status_answer(
    request: HttpRequest, session: calls.Session, report: ReportRow
) -> Answer[ReportStatusOut] | Stream:
    """GET /get_report: the CSV itself when it is complete, unless JSON is preferred."""
    wants_csv = prefers_csv(request) or (report.format == "csv" and not prefers(request, (JSON,), (CSV,)))
    if report.status == "Complete" and wants_csv:
        return await csv_stream(request, session, report)
    status = ReportStatusOut(report.status)
    if report.status == "Running":
        status = ReportStatusOut(report.status, progress=report.progress)
    elif report.status == "Failed":
        status = ReportStatusOut(report.status, detail=report.detail)
    else:
        status = ReportStatusOut(report.status, csv_url=csv_url(report), rows=report.row_count)
    return Answer(status, headers={"X-Report-Status": report.status})


async def csv_stream(request: HttpRequest, session: calls.Session, report: ReportRow) -> Stream:
    """The rows as CSV, a page at a time as the client takes them. Raises Problem: 404, or 409 while it runs.

    It breaks off when the token is no longer good.
    """
    first = await calls.list_report_rows(session, report.id, None, CSV_ROWS)
    headers = {
        "X-Report-Status": report.status,
        "Content-Disposition": f'attachment; filename="uptime-{report.id}.csv"',
    }
    return Stream(_pages(request, session, report.id, first), media_type=CSV, headers=headers)


async def _pages(
    request: HttpRequest, session: calls.Session, report: str, rows: Sequence[SiteUptimeRow]
) -> AsyncIterator[str]:
    yield _csv([COLUMNS])
    while rows:
        yield _csv([msgspec.structs.astuple(row) for row in rows])
        if len(rows) < CSV_ROWS:
            return
        # a client that reads slowly may take long
        await services(request).authenticator.check_again(access_of(request), "The rest is not sent.")
        rows = await calls.list_report_rows(session, report, rows[-1].site, CSV_ROWS)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
