"""A database with something of everything in it, and what is to be the same after a restore."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from headcount.app import create_app
from headcount.settings import Settings
from tests.commands.support import headcount
from tests.deploy.apps import living
from tests.http import body
from tests.http.reporting import trigger, wait_for

BACKUPS = Path(__file__).parents[2] / "docs/how-to/back-up-and-restore.md"
NOW = datetime.now(UTC).replace(microsecond=0)
DAYS = 25
KEPT_DAYS = 20
SPACES = ("campus", "hall", "room")


def written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def ago(**width: float) -> str:
    return written(NOW - timedelta(**width))


def blocks(heading: str, language: str = "sh") -> list[str]:
    """The commands under a heading of docs/how-to/back-up-and-restore.md."""
    section = re.split(rf"^#+ {heading}\n", BACKUPS.read_text(), flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


SITE = {
    "spaces": [
        {"id": "campus", "time_zone": "America/Chicago", "reset_at": "03:07"},
        {"id": "hall", "parent": "campus", "capacity": 40, "reset_at": "never"},
        {"id": "room", "parent": "hall", "opening_hours": [{"day": 0, "open": "09:00", "close": "17:00"}]},
    ],
    "doorways": [{"id": "front", "sides": [None, "hall"]}, {"id": "inner", "sides": ["hall", "room"]}],
    "dpus": [{"id": "a"}, {"id": "b", "mac_address": "02:00:00:00:00:0b"}, {"id": "c"}],
    "placements": [
        {"dpu": "a", "doorway": "front", "mounted_in": "hall", "from": ago(days=DAYS + 1)},
        {"dpu": "b", "doorway": "inner", "mounted_in": "room", "from": ago(days=DAYS + 1)},
        {"dpu": "c", "doorway": "front", "mounted_in": None, "from": ago(days=DAYS + 1), "until": ago(days=9)},
        {"dpu": "c", "doorway": "inner", "mounted_in": "hall", "from": ago(days=9)},
    ],
}


def event(dpu: str, direction: int = 1, **width: float) -> dict[str, Any]:
    return {"dpu": dpu, "timestamp": ago(**width), "direction": direction}


EVENTS = [
    event("abc"[number % 3], -1 if number % 5 in (1, 3) else 1, minutes=40 + 17 * number)
    for number in range(DAYS * 24 * 60 // 17)
]
LATE = [event("a", 2, days=days, seconds=7) for days in (3, 10, 15)]


async def send(client: httpx.AsyncClient, events: list[Any]) -> tuple[int, int]:
    """How many of them were accepted, and were there already."""
    told = body(await client.post("/v1/events", json={"events": events}))
    return told["accepted"], told["duplicates"]


def service_on(url: str, **settings: Any) -> Any:
    return create_app(Settings(database_url=url, jobs=False, send_notices=False, **{"auth": "off"} | settings))


async def fill(url: str) -> str:
    """Everything that there is, by way of the service. Returns a token."""
    token = (await headcount("token", "create", "--scope", "ingest,read,admin", url=url)).output.split()[-1]
    async with living(service_on(url)) as client:
        assert (await client.put("/v1/site", json=SITE)).status_code == 200
        assert await send(client, EVENTS) == (len(EVENTS), 0)
        await client.post("/v1/spaces/hall/resets", json={"count": 3, "at": ago(days=2)})
        upkeep(url)
        assert (await headcount("retain", "--days", KEPT_DAYS, url=url)).exit_code == 0
        upkeep(url, "update core.rollup_state set retired_at = retired_at - interval '2 hours'")
        assert await send(client, LATE) == (len(LATE), 0)  # whose marks stand from here on
        await client.post("/v1/spaces/campus/resets", json={"count": 1, "at": ago(hours=5)})
        await client.post(
            "/v1/events", json={"events": [{"dpu": "a", "timestamp": "2999-01-01T00:00:00Z", "direction": 1}]}
        )
        await client.post("/heartbeat?dpu=b")
        polls = [
            {"space": "shop", "timestamp": ago(hours=hours), "status": "inactive" if hours % 7 == 0 else "active"}
            for hours in range(1, 200)
        ]
        assert body(await client.post("/v1/polls", json={"polls": polls}))["accepted"] == len(polls)
        await client.put(
            "/v1/channels/pager", json={"kind": "webhook", "url": "https://example.org/x", "events": ["offline"]}
        )
        await wait_for(client, await trigger(client))
    return token


def upkeep(url: str, *before: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*before, "call core.run_upkeep()"):
            connection.execute(statement.encode())


def _paths_of_counts() -> Iterator[str]:
    yield from (f"/v1/dpus/{dpu}/placements" for dpu in "abc")
    for days in (1, 4, 8, 12, 19):
        yield f"/v1/counts?under=campus&at={ago(days=days)}"
        yield f"/v1/counts?under=campus&at={ago(days=days)}&known_at={written(NOW)}"
    for space in SPACES:
        yield f"/v1/spaces/{space}/resets?scheduled=true&from={ago(days=5)}&to={ago()}"
        yield f"/v1/spaces/{space}/counts?interval=15m&from={ago(days=4)}&to={ago()}"
        yield f"/v1/spaces/{space}/counts?interval=1d&from={ago(days=18)}&to={ago(days=2)}"
        yield f"/v1/events?space={space}&from={ago(days=18)}&limit=1000"


PATHS_OF_COUNTS = tuple(_paths_of_counts())
OF_NOW = "/v1/counts?under=campus"
PATHS = (
    *PATHS_OF_COUNTS,
    OF_NOW,
    "/v1/spaces",
    "/v1/doorways",
    "/v1/dpus",
    "/v1/tokens",
    "/v1/channels",
    "/v1/deliveries",
    "/v1/incidents",
    "/v1/reports",
    "/sensors",
    "/devices/a",
    f"/v1/spaces/shop/uptime?to={ago()}",
)


async def answers_of(url: str, paths: Sequence[str] = PATHS) -> dict[str, Any]:
    """What the service says of everything, by address."""
    told: dict[str, Any] = {}
    async with living(service_on(url)) as client:
        for path in paths:
            answer = await client.get(path)
            told[path] = (answer.status_code, _without_now(answer.json()) if path == OF_NOW else answer.json())
    return told


def _without_now(told: Any) -> Any:
    match told:
        case dict():
            return {name: _without_now(value) for name, value in told.items() if name != "at"}
        case list():
            return [_without_now(item) for item in told]
    return told


RELATIONS = """
select n.nspname, c.relname
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where (n.nspname in ('core', 'meta') and c.relkind in ('r', 'v')) or (n.nspname = 'bi' and c.relname = 'events')
"""


def digests(url: str) -> dict[str, tuple[int, str]]:
    """Of every table and rollup: how many rows, and what is in them."""
    found: dict[str, tuple[int, str]] = {}
    with psycopg.connect(url) as connection:
        connection.execute("set timezone = 'UTC'")
        for schema, name in connection.execute(RELATIONS).fetchall():
            query = sql.SQL("select count(*), md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {} t")
            row = connection.execute(query.format(sql.Identifier(schema, name))).fetchone()
            assert row is not None
            found[f"{schema}.{name}"] = row
    return found
