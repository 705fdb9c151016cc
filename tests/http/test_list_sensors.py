"""GET /sensors."""

import asyncio
import re
import threading
from collections.abc import Sequence
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.sensors.listing import LONGEST_REST_SECONDS, Encoded, Sensors, encode
from headcount.settings import Settings
from headcount.web import FILES, FOLDER
from headcount.wire.messages.sensors import SensorOut, SensorsQuery
from tests.factories import NOON, apply_site, heard, listen, seconds, tick
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, new_token
from tests.http.streams import PATIENCE, client_of
from tests.sql.test_large_fleet import read_by

JSON, MSGPACK = "application/json", "application/msgpack"


async def build(connection: asyncpg.Connection) -> None:
    """A house with a room; `a` mounted in the room, `b` outside the house, `c` nowhere, `d` never heard of."""
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "room", "parent": "house"}],
        doorways=[{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "room"]}],
        dpus=[{"id": "a", "mac_address": "02:00:00:00:00:01"}, {"id": "b", "name": "B"}, {"id": "c"}, {"id": "d"}],
        placements=[
            {"dpu": "a", "doorway": "inner", "mounted_in": "room", "from": "2020-01-01T00:00:00Z"},
            {"dpu": "b", "doorway": "front", "mounted_in": None, "from": "2020-01-01T00:00:00Z"},
        ],
    )
    await heard(connection, ("a", NOON), ("b", NOON), ("c", NOON), ("a", NOON + seconds(300)))
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(605))


async def test_it_lists_them_those_that_are_offline_first(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build(connection)
    assert body(await client.get("/sensors")) == [
        {
            "id": "b",
            "mac_address": None,
            "last_heartbeat": "2026-03-04T12:00:00Z",
            "state": "offline",
            "space": "house",
            "name": "B",
            "last_seen": "2026-03-04T12:00:00Z",
            "since": "2026-03-04T12:10:00Z",
            "rejected_last_day": 0,
            "clock": "ok",
        },
        {
            "id": "c",
            "mac_address": None,
            "last_heartbeat": "2026-03-04T12:00:00Z",
            "state": "offline",
            "space": None,
            "name": None,
            "last_seen": "2026-03-04T12:00:00Z",
            "since": "2026-03-04T12:10:00Z",
            "rejected_last_day": 0,
            "clock": "ok",
        },
        {
            "id": "a",
            "mac_address": "02:00:00:00:00:01",
            "last_heartbeat": "2026-03-04T12:05:00Z",
            "state": "online",
            "space": "room",
            "name": None,
            "last_seen": "2026-03-04T12:05:00Z",
            "since": "2026-03-04T12:00:00Z",
            "rejected_last_day": 0,
            "clock": "ok",
        },
        {
            "id": "d",
            "mac_address": None,
            "last_heartbeat": None,
            "state": "never_seen",
            "space": None,
            "name": None,
            "last_seen": None,
            "since": None,
            "rejected_last_day": 0,
            "clock": "ok",
        },
    ]


async def test_it_filters_by_space_and_state(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build(connection)
    for query, expected in (
        ("space=house", ["b", "a"]),
        ("space=room", ["a"]),
        ("state=offline", ["b", "c"]),
        ("state=never_seen", ["d"]),
        ("space=house&state=offline", ["b"]),
    ):
        assert [sensor["id"] for sensor in body(await client.get(f"/sensors?{query}"))] == expected
    problem(await client.get("/sensors?space=cellar"), 404, "not_found", "space")
    problem(await client.get("/sensors?state=asleep"), 422, "invalid", "state")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html"),
        ("text/html", "text/html"),
        ("text/html, */*", "text/html"),
        ("application/json;q=0.8, text/html", "text/html"),
        ("text/html;q=0.9, application/json", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/html;q=0.5, */*", "application/json"),
        ("text/html;q=0.5, application/*", "application/json"),
        ("text/html;q=0", "application/json"),
        ("text/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("application/msgpack", "application/msgpack"),
    ],
)
async def test_it_answers_with_the_page_who_prefers_that(client: httpx.AsyncClient, accept: str, kind: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await client.request(method, "/sensors", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert answer.headers["vary"] == "Accept"
        assert ("script-src 'self'" in answer.headers["content-security-policy"]) == (kind == "text/html")


async def test_the_page_is_there_for_any_filter_and_asks_for_nothing_that_is_not(client: httpx.AsyncClient) -> None:
    page = await client.get("/sensors?space=hall&q=two%20words", headers={"Accept": "text/html"})
    assert page.content == (FOLDER / "sensors.html").read_bytes()
    asked_for = re.findall(r'(?:src|href)="/web/([^"]+)"', page.text)
    assert {"sensors.js", "sensors.css", "page.css"} <= set(asked_for) <= set(FILES)
    problem(await client.get("/sensors?q=two%20words"), 422, "invalid", "q")


async def test_the_page_needs_no_token_and_the_list_does(connection: asyncpg.Connection, database_url: str) -> None:
    await build_site(connection)
    page = {"Accept": "text/html"}
    async with guarded(database_url, cors_origins=("https://a.example",)) as client:
        for headers in (page, page | {"Authorization": "Bearer hc_bad"}):
            answer = await client.get("/sensors", headers=headers)
            assert (answer.status_code, answer.content) == (200, (FOLDER / "sensors.html").read_bytes())
        for headers in ({}, {"Accept": "text/html, application/json"}):
            problem(await client.get("/sensors", headers=headers), 401, "unauthorized")
        for path in ("/v1/spaces", "/v1/dpus", "/v1/events"):
            problem(await client.get(path, headers=page), 401, "unauthorized")
        allowed = await client.get("/sensors", headers=page | {"Origin": "https://a.example"})
        assert set(allowed.headers["vary"].split(", ")) == {"Origin", "Accept"}
        token = await new_token(connection, "read", space="own")
        assert "secret" not in (await client.get("/sensors", headers=token)).text


async def test_it_sends_the_list_again_only_when_it_has_changed(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build(connection)
    first = await client.get("/sensors")
    known = {"If-None-Match": first.headers["etag"]}
    again = await client.get("/sensors", headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await client.get("/sensors?space=room", headers=known)).status_code == 200
    assert (await client.get("/sensors", headers=known | {"Accept": "application/msgpack"})).status_code == 200
    await apply_site(connection, dpus=[{"id": "e"}])
    assert len(body(await client.get("/sensors", headers=known))) == 5


@pytest.mark.parametrize("query", ["", "space=house", "state=offline", "space=house&state=online"])
@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_make_up_the_whole(
    client: httpx.AsyncClient, connection: asyncpg.Connection, query: str, limit: int
) -> None:
    await build(connection)
    await apply_site(connection, dpus=[{"id": name} for name in ("B", "_", "Z-1", "a.b")])
    whole = body(await client.get(f"/sensors?{query}"))
    found: list[Any] = []
    address = f"/sensors?{query}&limit={limit}"
    while True:
        answer = await client.get(address)
        page = body(answer)
        found += page
        if "link" not in answer.headers:
            break
        assert len(page) == limit
        (address,) = re.findall(r'<(/sensors\?[^>]+)>; rel="next"', answer.headers["link"])
    assert found == whole
    assert {sensor["id"] for sensor in whole} >= {"a"} or "offline" in query


async def test_a_page_has_a_hundred_unless_it_says_otherwise_and_an_etag_of_its_own(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await apply_site(connection, dpus=[{"id": f"dpu-{number:03}"} for number in range(150)])
    first = await client.get("/sensors?limit=50")
    answer = await client.get(str(first.headers["link"]).split(">")[0].removeprefix("<").replace("limit=50&", ""))
    assert [sensor["id"] for sensor in body(answer)] == [f"dpu-{number:03}" for number in range(50, 150)]
    known = {"If-None-Match": first.headers["etag"]}
    assert (await client.get("/sensors?limit=50", headers=known)).status_code == 304
    assert (await client.get("/sensors?limit=51", headers=known)).status_code == 200
    for sent in ("limit=0", "limit=1001", "after=x", "limit=few"):
        problem(await client.get(f"/sensors?{sent}"), 422, "invalid", sent.split("=")[0])


class Gated:
    """calls.list_sensors, which reads only once it is let, and counts how often it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = calls.list_sensors
        self.asked: asyncio.Queue[str | None] = asyncio.Queue()
        self.gate = asyncio.Event()
        monkeypatch.setattr("headcount.database.calls.list_sensors", self.list)

    async def list(self, session: calls.Session, space: str | None, state: str | None, *page: Any) -> list[SensorOut]:
        self.asked.put_nowait(state)
        await self.gate.wait()
        return await self.read(session, space, state, *page)


async def test_those_who_ask_together_share_a_read_and_who_comes_later_has_a_newer_one(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply_site(connection, dpus=[{"id": "one"}])
    gated = Gated(monkeypatch)
    early = [asyncio.create_task(client.get("/sensors")) for _ in range(8)]
    await gated.asked.get()
    late = [asyncio.create_task(client.get("/sensors", headers={"Accept": kind})) for kind in (MSGPACK, JSON, JSON)]
    await gated.asked.get()
    other = asyncio.create_task(client.get("/sensors?state=online"))
    await apply_site(connection, dpus=[{"id": "two"}])
    gated.gate.set()
    answers = await asyncio.gather(*early, *late)
    assert [len(body(answer)) for answer in answers[-2:]] == [2, 2]
    assert msgspec.msgpack.decode(answers[-3].content) == answers[-1].json()
    assert body(await other) == []
    assert await gated.asked.get() == "online"
    assert gated.asked.empty()


async def test_a_list_that_took_long_is_read_again_after_a_pause(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, sensors = asyncio.get_running_loop(), Sensors()

    async def slow(*_: object) -> list[SensorOut]:
        await asyncio.sleep(0.3)
        return []

    monkeypatch.setattr("headcount.database.calls.list_sensors", slow)
    session: Any = connection
    begun = loop.time()
    await sensors.list(session, SensorsQuery())
    (until,) = sensors.not_before.values()
    assert until > begun + 0.3 + LONGEST_REST_SECONDS / 2
    await sensors.list(session, SensorsQuery())
    assert loop.time() >= until + 0.3


async def test_a_client_pauses_after_one_list_before_it_gets_another_and_nobody_waits_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, sensors, read = asyncio.get_running_loop(), Sensors(), []

    async def slow(_session: object, _space: object, state: str | None) -> list[SensorOut]:
        read.append(state)
        await asyncio.sleep(0.5)
        return []

    def session(name: Any) -> Any:
        return name

    monkeypatch.setattr("headcount.sensors.listing.REST", 4 * PATIENCE)
    monkeypatch.setattr("headcount.sensors.listing.LONGEST_REST_SECONDS", 2 * PATIENCE)
    monkeypatch.setattr("headcount.sensors.listing.name_of", session)
    monkeypatch.setattr("headcount.database.calls.list_sensors", slow)
    await sensors.list(session("one"), SensorsQuery(state="online"))
    assert sensors.not_before["one"] > loop.time() + PATIENCE
    own = [
        asyncio.create_task(sensors.list(session("one"), SensorsQuery(state=state))) for state in ("offline", "quiet")
    ]
    await asyncio.sleep(0)
    # whoever asks for the same has no pause, and takes the other along
    async with asyncio.timeout(PATIENCE):
        await sensors.list(session("other"), SensorsQuery(state="quiet"))
    assert read == ["online", "quiet"]
    (waiting,) = sensors.waiting.values()
    assert waiting.not_before >= sensors.not_before["one"] - 2 * PATIENCE > loop.time() - PATIENCE
    waiting.hasten(loop.time())
    await asyncio.gather(*own)
    assert read == ["online", "quiet", "offline"]


async def test_a_page_reads_no_more_than_it_has(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await apply_site(connection, dpus=[{"id": f"dpu-{number:04}"} for number in range(2_000)])
    await connection.execute("analyze core.dpu, core.dpu_state")
    read = await read_by(connection, "select * from api.list_sensors(max_rows => 10)")
    assert read["dpu"] < 100
    read = await read_by(
        connection, "select * from api.list_sensors(after_offline => false, after_id => 'dpu-1000', max_rows => 10)"
    )
    assert max(read["dpu"], read["dpu_state"]) < 100


async def test_long_lists_are_made_beside_the_event_loop(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noting(sensors: Sequence[SensorOut], as_msgpack: bool) -> Encoded:
        threads.append(threading.current_thread())
        return encode(sensors, as_msgpack)

    monkeypatch.setattr("headcount.sensors.listing.encode", noting)
    await asyncio.gather(*(client.get("/sensors") for _ in range(8)))
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_tokens_of_different_spaces_share_nothing(connection: asyncpg.Connection, database_url: str) -> None:
    await build_site(connection)
    reach = [await new_token(connection, "read", space=space) for space in ("own", "secret-b", None)]
    async with guarded(database_url) as client:
        answers = await asyncio.gather(*(client.get("/sensors", headers=token) for token in reach * 2))
    found = [{sensor["id"] for sensor in body(answer)} for answer in answers]
    assert found[:3] == found[3:]
    assert found[0] == {"own-front", "own-inner", "moved"}
    assert found[1] == {"secret-b-front", "secret-inner"}
    assert len(found[2]) == 7


async def test_lists_of_one_client_leave_room_for_those_of_others(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply_site(connection, spaces=[{"id": f"room-{number}"} for number in range(5)])
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    gated = Gated(monkeypatch)
    app = create_app(Settings(database_url=database_url, jobs=False))
    async with app.lifespan(), client_of(app) as client:
        asked = [asyncio.create_task(client.get(f"/sensors?space=room-{number}", headers=one)) for number in range(4)]
        for _ in range(2):
            await gated.asked.get()
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.01)
                if [*app.services.sensors.lists_of.held.values()] == [4]:
                    break
        refused = await client.get("/sensors?space=room-4", headers=one)
        assert "lists of sensors of this token" in problem(refused, 429, "rate_limited")["detail"]
        asked.append(asyncio.create_task(client.get("/sensors?space=room-4", headers=other)))
        gated.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 5
        assert (await client.get("/sensors?space=room-4", headers=one)).status_code == 200
