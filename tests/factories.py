"""What tests need to have in the database, said in a line. Nothing here is hidden: each test calls what it needs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


async def apply_site(connection: asyncpg.Connection, **site: object) -> list[tuple[str, str, str]]:
    rows = await connection.fetch("select * from api.apply_site(site => $1)", json.dumps(site, default=str))
    return [(row["kind"], row["id"], row["change"]) for row in rows]


async def build_house(connection: asyncpg.Connection) -> None:
    """Outside -front- house -inner- room. DPU `front` is mounted in the house, `inner` too."""
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "room", "parent": "house"}],
        doorways=[{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "room"]}],
        dpus=[{"id": "front"}, {"id": "inner"}],
        placements=[
            {"dpu": name, "doorway": name, "mounted_in": "house", "from": LONG_AGO.isoformat()}
            for name in ("front", "inner")
        ],
    )


Event = tuple[str, datetime, int] | tuple[str, datetime, int, int]


async def record(
    connection: asyncpg.Connection,
    events: Sequence[Event],
    *,
    auto_register: bool = True,
    refused: Sequence[tuple[str, str]] = (),
    backfill: bool = False,
) -> list[tuple[int, str]]:
    """Records (dpu, time, direction[, sequence]) events; returns (index, verdict) of what was not accepted."""
    rows = await connection.fetch(
        """
        select * from api.record_events(
          dpus => $1, times => $2, directions => $3, sequences => $4,
          auto_register => $5, refused_bodies => $6, refused_details => $7, backfill => $8)
        """,
        [event[0] for event in events],
        [event[1] for event in events],
        [event[2] for event in events],
        [event[3] if len(event) > 3 else 0 for event in events],
        auto_register,
        [body for body, _ in refused],
        [detail for _, detail in refused],
        backfill,
    )
    return [(row["index"], row["verdict"]) for row in rows]


async def raw_count(connection: asyncpg.Connection, space: str, at: datetime, known_at: datetime | None = None) -> int:
    found = await connection.fetchval(
        "select raw_count from api.get_count(space => $1, at => $2, known_at => $3)", space, at, known_at
    )
    assert isinstance(found, int)
    return found


async def stored_events(connection: asyncpg.Connection) -> list[tuple[str, datetime, int, int]]:
    rows = await connection.fetch(
        """
        select d.id, e.time, e.direction, e.sequence
        from core.event e join core.dpu d on d.dpu_id = e.dpu_id
        order by d.id, e.time, e.sequence
        """
    )
    return [tuple(row) for row in rows]


async def differences(connection: asyncpg.Connection) -> list[tuple[str, str, str, str]]:
    return [tuple(row) for row in await connection.fetch("select * from api.list_differences()")]


async def reset_unseen(connection: asyncpg.Connection, space: str) -> None:
    """As if a daily reset of the space came 5 seconds ago, and upkeep derived the live rows before anybody looked."""
    async with connection.transaction():
        await connection.execute(
            """
            insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
            select s.space_id, 'UTC', to_char(now() - interval '5 seconds', 'HH24:MI:SS'), '2020-01-01'
            from core.space s where s.id = $1
            """,
            space,
        )
        await connection.execute(
            """
            update core.live_space l set until_at = date_trunc('second', now() - interval '5 seconds')
            from core.space s where s.space_id = l.space_id and s.id = $1
            """,
            space,
        )
    await connection.execute("call core.rederive_due()")


async def listen(connection: asyncpg.Connection, start: datetime, end: datetime) -> None:
    """Has somebody have listened all through, later than at any time before."""
    await connection.execute("select core.note_listening($1)", start)
    await connection.execute(
        "update core.listening set until_at = greatest(until_at, $1) "
        "where from_at = (select max(from_at) from core.listening)",
        end,
    )


async def tick(connection: asyncpg.Connection, at: datetime) -> None:
    """What api.detect_outages does once a second, at an instant of the past."""
    await connection.execute("select core.note_listening($1), core.turn_offline($1), core.update_incidents($1)", at)


async def hear(connection: asyncpg.Connection, *heartbeats: tuple[str, datetime | None]) -> list[str | None]:
    """Records heartbeats of DPUs (None: now); returns their verdicts."""
    rows = await connection.fetch(
        "select verdict from api.record_heartbeats($1, array_fill(null::text, array[cardinality($1::text[])]), $2)",
        [dpu for dpu, _ in heartbeats],
        [time for _, time in heartbeats],
    )
    return [row["verdict"] for row in rows]


async def heard(connection: asyncpg.Connection, *heartbeats: tuple[str, datetime]) -> None:
    """Heartbeats of the past, each received just when it was sent."""
    for dpu, at in heartbeats:
        await connection.execute("select core.register_dpus(array[$1])", dpu)
        await connection.execute(
            "select core.note_dpus_seen(core.list_dpu_ids(array[$1]), array[$2::timestamptz], $2)", dpu, at
        )


async def forget(connection: asyncpg.Connection) -> None:
    """As if no message had been received yet."""
    await connection.execute("delete from core.first_sign")
    await connection.execute(
        "update core.dpu_state "
        "set last_seen_at = null, earlier_seen_at = null, first_heard_at = null, armed_at = null, steady_from = null"
    )


async def trust(connection: asyncpg.Connection) -> None:
    """Every DPU was registered so long ago that its clock may say something about ours."""
    await connection.execute("update core.dpu set registered_at = registered_at - interval '2 days'")
