"""Bodies of requests, as what is ingested."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from headcount.http.requests import (
    HttpRequest,
    check_rate,
    decode,
    discard_body,
    media_type,
    query,
    read_body,
)
from headcount.http.sessions import access_of
from headcount.ingest import formats, heartbeats
from headcount.ingest.backpressure import Intake
from headcount.ingest.formats import EVENT_FORMATS, READING_FORMATS, AnyBatch, check_days
from headcount.ingest.heartbeats import decode_heartbeat_batch
from headcount.ingest.polls import POLLS, PollBatch
from headcount.ingest.sites import decode_site_bytes
from headcount.wire.bodies import MAX_SMALL_BODY
from headcount.wire.messages.base import NoQuery
from headcount.wire.messages.events import RerunIn, RerunQuery
from headcount.wire.messages.plan import SiteIn
from headcount.wire.messages.uptime import ReportIn
from headcount.wire.problems import Problem
from headcount.wire.shares import Place

Sent = TypeVar("Sent", formats.EventBatch, PollBatch)


async def decode_events(request: HttpRequest) -> formats.EventBatch:
    """The body of POST /v1/events, whatever its format."""
    return _sent(request, await decode_body(request, EVENT_FORMATS))


async def decode_readings(request: HttpRequest) -> formats.EventBatch:
    """The body of POST /ingest."""
    return _sent(request, await decode_body(request, READING_FORMATS))


async def decode_body(request: HttpRequest, decoders: Mapping[str, Callable[[bytes], AnyBatch]]) -> AnyBatch:
    """The body of a request, whatever its format."""
    return await read_body(request, decoders[media_type(request, decoders)], check=lambda: check_rate(request))


def _sent(request: HttpRequest, batch: Sent) -> Sent:
    """With the token that sent it. Raises Problem (413) if it is of too many days."""
    check_days(batch.times)
    return msgspec.structs.replace(batch, sender=request.auth.token)


async def decode_polls(request: HttpRequest) -> PollBatch:
    """The body of POST /v1/polls, whatever its format."""
    return _sent(request, await decode_body(request, POLLS.formats))


async def decode_heartbeats(request: HttpRequest) -> heartbeats.HeartbeatBatch:
    """The body of POST /v1/heartbeats."""
    format = media_type(request)
    return await read_body(
        request, lambda body: decode_heartbeat_batch(body, format), check=lambda: check_rate(request)
    )


async def decode_site(request: HttpRequest, place: Place) -> SiteIn:
    """The body of PUT /v1/site, which takes the place if it is large. Raises Problem (413) before objects are made of
    far more things than it can have."""
    format = media_type(request)
    return await read_body(request, lambda body: decode_site_bytes(body, format, place))


async def decode_rerun(request: HttpRequest) -> RerunIn:
    """Which ones, from the body or from the address."""
    if not request.scope["query_string"]:
        return await decode(request, RerunIn)
    if request.headers.get("content-length", "0") != "0":
        raise Problem("invalid", "The filter stands in the body or in the address, not in both.")
    return query(request, RerunQuery)


async def decode_report(request: HttpRequest) -> ReportIn:
    """What is asked for, in the body of a POST or in the query string; nothing at all is fine."""
    if request.method == "POST" and (body_follows(request) or not request.scope["query_string"]):
        query(request, NoQuery)
        return await decode(request, ReportIn, MAX_SMALL_BODY) if body_follows(request) else ReportIn()
    return query(request, ReportIn)


def body_follows(request: HttpRequest) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


async def admit(request: HttpRequest, intake: Intake) -> None:
    """Raises Problem (503, 429) if there is no room for anything more, and holds nothing of the body then."""
    try:
        intake.admit(access_of(request).client)
    except Problem:
        await discard_body(request)
        raise
