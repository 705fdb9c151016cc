"""What keeps the service running asks here, and what describes it."""

from litestar import Response, get
from litestar.di import NamedDependency

from headcount.http.answers import unless_known
from headcount.http.auth import OPEN
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.http.sessions import access_of, whole_database
from headcount.wire.bodies import JSON
from headcount.wire.messages.base import NoQuery
from headcount.wire.messages.service import HealthOut
from headcount.wire.problems import Problem

METRICS = "text/plain; version=0.0.4; charset=utf-8"


@get("/healthz", opt=described(scope=OPEN, database=False))
async def get_health(params: NamedDependency[NoQuery]) -> HealthOut:
    """Tell that the process runs. Never asks the database."""
    return HealthOut()


@get("/readyz", opt=described(scope=OPEN))
async def get_readiness(request: HttpRequest, params: NamedDependency[NoQuery]) -> HealthOut:
    """Tell whether the database answers with a schema that this release can use. At most a second old."""
    whole_database(request).check_readiness()
    return HealthOut()


@get("/metrics", opt=described(scope="read", database=False, media_types=(METRICS,)))
async def get_metrics(request: HttpRequest, params: NamedDependency[NoQuery]) -> Response[bytes]:
    """Get the metrics for Prometheus. Not for a token that is limited to a space."""
    if access_of(request).is_limited:
        raise Problem("forbidden", "This is about the whole installation, and the token is limited to a space.")
    metrics = services(request).metrics
    metrics.note_rollups(await whole_database(request).rollups.get())
    metrics.note_refusals(await whole_database(request).refusals.get())
    metrics.note_deliveries(await services(request).notices.state.get())
    return Response(metrics.kept_text(), media_type=METRICS)


@get("/schema", opt=described(scope=OPEN, database=False, cached=True, media_types=(JSON,)))
async def get_openapi(request: HttpRequest, params: NamedDependency[NoQuery]) -> Response[bytes]:
    """Get the OpenAPI document."""
    text, tag = services(request).document.get(request.app)
    return unless_known(request, Response(text, media_type=JSON, headers={"ETag": tag}))


HANDLERS = [get_health, get_readiness, get_metrics, get_openapi]
