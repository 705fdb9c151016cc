"""Uptime: reports over all sites, and one space by buckets."""

from datetime import datetime

import msgspec
from litestar import Response, get, post
from litestar.response import Stream

from headcount.database import calls
from headcount.database.pool import database
from headcount.http.openapi import described
from headcount.uptime.reports import csv_stream, decode_report, reports, shown, status_answer
from headcount.wire import paging
from headcount.wire.messages import (
    Id,
    Page,
    PageQuery,
    ReportIn,
    ReportOut,
    ReportQuery,
    ReportSiteOut,
    ReportStartedOut,
    ReportStatusOut,
    SpaceUptimeOut,
    SpaceUptimeQuery,
    TimelineOut,
    TimelineQuery,
    UptimeOut,
)
from headcount.wire.negotiation import (
    CSV,
    JSON,
    MSGPACK,
    HttpRequest,
    answer,
    csv_answer,
    no_query,
    path_id,
    prefers_csv,
    query,
)

ALL = (JSON, MSGPACK, CSV)
# As long as the id of a report. HEAD makes none, and tells of its answer's body only how long it would be.
NO_REPORT = "00000000-0000-0000-0000-000000000000"


@get("/trigger_report", opt=described(ReportStartedOut, 404, scope="read", query=ReportIn, triggers=True))
async def trigger_report_by_get(request: HttpRequest) -> Response[bytes]:
    """Asks for a report; GET /get_report tells when it is done. No input is needed."""
    asked = query(request, ReportIn)
    if request.scope["state"]["is_head"]:
        return answer(request, ReportStartedOut(NO_REPORT))
    return answer(request, ReportStartedOut(await reports(request).create(request, asked)))


@post("/trigger_report", status_code=200, opt=described(ReportStartedOut, 404, scope="read", query=ReportIn))
async def trigger_report(request: HttpRequest) -> Response[bytes]:
    """The same by POST; what is asked for can also be a JSON body."""
    started = await reports(request).create(request, await decode_report(request))
    return answer(request, ReportStartedOut(started))


@get(
    "/get_report",
    opt=described(
        ReportStatusOut, 404, scope="read", query=ReportQuery, gives_headers=("ReportState",), media_types=ALL
    ),
)
async def get_report_or_csv(request: HttpRequest) -> Response[bytes] | Stream:
    """How far a report is; when it is complete, the CSV itself, or for who prefers JSON where to get it."""
    session, asked = database(request, is_slow=True), query(request, ReportQuery)
    return await status_answer(request, session, await calls.get_report(session, asked.report_id))


@post("/v1/reports", opt=described(ReportOut, 404, scope="read", status=202, body=ReportIn))
async def create_report(request: HttpRequest) -> Response[bytes]:
    """Asks for a report on the uptime of all sites in the hour, day and week before `now`."""
    report = await reports(request).create(request, await decode_report(request))
    return answer(request, shown(await calls.get_report(database(request), report)), 202)


@get("/v1/reports", opt=described(Page[ReportOut], scope="read", query=PageQuery))
async def list_reports(request: HttpRequest) -> Response[bytes]:
    """The reports that are kept, the newest first."""
    asked = query(request, PageQuery)
    after_at, after_id = paging.read(asked.after, tuple[datetime, Id]) if asked.after else (None, None)
    rows = await calls.list_reports(database(request), after_at, after_id, asked.limit + 1)
    return answer(request, paging.page([*map(shown, rows)], asked.limit, lambda report: (report.created_at, report.id)))


@get("/v1/reports/{report:str}", opt=described(ReportOut, 404, scope="read"))
async def get_report(request: HttpRequest) -> Response[bytes]:
    """One report: how far it is, and where its rows are."""
    no_query(request)
    return answer(request, shown(await calls.get_report(database(request), path_id(request, "report"))))


@get("/v1/reports/{report:str}/csv", opt=described(None, 404, 409, scope="read", media_types=(CSV,)))
async def get_report_csv(request: HttpRequest) -> Stream:
    """The rows of a complete report, one a site."""
    no_query(request)
    session = database(request, is_slow=True)
    return await csv_stream(session, await calls.get_report(session, path_id(request, "report")))


@get(
    "/v1/reports/{report:str}/rows",
    opt=described(Page[ReportSiteOut], 404, 409, scope="read", query=PageQuery),
)
async def list_report_sites(request: HttpRequest) -> Response[bytes]:
    """The rows of a complete report by the id of the site, with its name and whether it was ever polled."""
    asked = query(request, PageQuery)
    after = paging.read(asked.after, Id) if asked.after else None
    rows = await calls.list_report_sites(database(request), path_id(request, "report"), after, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda row: row.space))


@get(
    "/v1/spaces/{space:str}/uptime",
    opt=described(SpaceUptimeOut, 404, scope="read", query=SpaceUptimeQuery, media_types=ALL),
)
async def list_uptimes(request: HttpRequest) -> Response[bytes] | Stream:
    """How long a space was up within its opening hours in [from, to), as a whole or by buckets of its local time.

    `to`: the latest poll, if absent; later polls than `to` do not count. `from`: 168 hours before. Buckets are cut off
    at both ends, so they add up to the whole; at most 10,000.
    """
    asked = query(request, SpaceUptimeQuery)
    session, space = database(request, is_slow=True), path_id(request, "space")
    found = await calls.list_uptimes(session, space, asked.from_, asked.to, asked.interval)
    if asked.format == "csv" or (asked.format is None and prefers_csv(request)):
        return csv_answer(UptimeOut.__struct_fields__, [msgspec.structs.astuple(bucket) for bucket in found.buckets])
    return answer(request, found)


@get("/v1/spaces/{space:str}/uptime/timeline", opt=described(TimelineOut, 404, scope="read", query=TimelineQuery))
async def get_timeline(request: HttpRequest) -> Response[bytes]:
    """When a space was open, up and down in [from, to), and what it was polled: at most 31 days.

    `to`: the latest poll, if absent; later polls than `to` do not count. `from`: 168 hours before.
    """
    asked = query(request, TimelineQuery)
    session, space = database(request, is_slow=True), path_id(request, "space")
    return answer(request, await calls.get_timeline(session, space, asked.from_, asked.to))


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
