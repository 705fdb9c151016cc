"""The handlers, by topic. Each decodes, calls and returns; what it takes and gives is declared in its decorator."""

from headcount.routes import (
    counts,
    devices,
    events,
    notices,
    page,
    plan,
    polls,
    probes,
    reports,
    sensors,
    tokens,
)

HANDLERS = [
    *plan.HANDLERS,
    *events.HANDLERS,
    *polls.HANDLERS,
    *counts.HANDLERS,
    *reports.HANDLERS,
    *devices.HANDLERS,
    *sensors.HANDLERS,
    *notices.HANDLERS,
    *tokens.HANDLERS,
    *probes.HANDLERS,
    *page.HANDLERS,
]
