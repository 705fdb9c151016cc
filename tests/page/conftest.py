"""A browser, and a service for it to look at. Without a Chromium on this machine these tests are skipped."""

import asyncio
import hashlib
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import httpx
import pytest
import pytest_asyncio
import uvloop
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from headcount.commands.serving import serve_until
from headcount.embedded.package import cache_folder, exclusive
from headcount.npm import NodeMissing, find_node, npm_ci
from headcount.settings import Settings
from tests.commands.support import PATIENCE, free_port
from tests.http import put
from tests.http.guarded import Headers

# Several browsers and databases share two cores.
PATIENCE_MS = PATIENCE * 1000
expect.set_options(timeout=PATIENCE_MS)

# The shell starts a page in a fifteenth of the processor time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parent / "axe"
# In the page: what axe-core has against it.
RUN_AXE = """
async () => (await axe.run(document)).violations.map((found) =>
  `${found.id}: ${found.help}: ${found.nodes.map((node) => node.target).join(", ")}`)
"""


# In the page, before its own: a list is read anew only when something tells of it, and not every 5 seconds.
HOLD_READING = """
{
  const later = setTimeout;
  window.held = [];
  setTimeout = (call, ms, ...more) => later((...given) => {
    if (ms === 5000 && window.held) window.held.push(call);
    else call(...given);
  }, ms, ...more);
  window.readAgain = () => {
    const calls = window.held;
    window.held = null;
    calls.forEach((call) => call());
  };
}
"""


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


def zone_of_noon() -> str:
    """Where no day begins while a test is under way."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE)


def are_within(limit: float, taken: Sequence[float], number: int) -> bool:
    """Whether most of the newest so many are: a machine that does other things stands still now and then."""
    return len(taken) >= number and statistics.median(taken[-number:]) < limit


async def answer_with(page: Page, token: Headers | str) -> None:
    """Gives the page the token that it asks for."""
    given = token if isinstance(token, str) else token["Authorization"].removeprefix("Bearer ")
    await page.get_by_label("Token", exact=True).fill(given)
    await page.keyboard.press("Enter")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


class Site:
    """A running service and what the browser had to complain about it."""

    def __init__(self, browser: Browser, port: int) -> None:
        self.browser = browser
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.complaints: list[str] = []

    async def open(
        self,
        path: str = "/",
        width: int = 1280,
        scheme: Literal["light", "dark"] = "light",
        is_phone: bool = False,
        script: str = "",
    ) -> Page:
        """The page in a context of its own. `script`: runs before those of the page."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            has_touch=is_phone,
            is_mobile=is_phone,
            reduced_motion="reduce",
        )
        if script:
            await context.add_init_script(script)
        page = await self.new_page(context)
        await page.goto(f"{self.url}{path}")
        await page.wait_for_selector("#link.live")
        return page

    async def new_page(self, context: BrowserContext) -> Page:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self.check_message)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.check_origin)
        return page

    def check_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def check_origin(self, request: Request) -> None:
        if not request.url.startswith(f"{self.url}/"):
            self.complaints.append(f"asks {request.url}")


@asynccontextmanager
async def serving(database_url: str, port: int, auth: Literal["required", "off"] = "off") -> AsyncIterator[None]:
    """What `headcount serve` runs, in a thread with a loop of its own: a process takes longer to start than a test."""
    settings = Settings(database_url=database_url, auth=auth, port=port)
    started: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        await serve_until(stop, settings, lambda: started.set_result(lambda: loop.call_soon_threadsafe(stop.set)))

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = asyncio.create_task(asyncio.to_thread(run))
    stop = await asyncio.wrap_future(started)
    try:
        yield
    finally:
        stop()
        await thread


@pytest_asyncio.fixture(loop_scope="session")
async def site(browser: Browser, connection: asyncpg.Connection, database_url: str) -> AsyncIterator[Site]:
    """A service; all tables are empty. At the end the browser must have had nothing to complain about."""
    site = Site(browser, free_port())
    async with serving(database_url, site.port):
        yield site
        for context in browser.contexts:
            await context.close()
    assert site.complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def api(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service: house (capacity 20) with a door from outside, and in it a room (capacity 4)."""
    async with client_of(site.url) as client:
        await put(client, "spaces/house", name="House", capacity=20, time_zone=zone_of_noon())
        await put(client, "spaces/room", name="Tea room", parent="house", capacity=4)
        await put(client, "doorways/front", name="Front door", sides=[None, "house"])
        await put(client, "doorways/inner", sides=["house", "room"])
        for dpu, doorway, mounted_in in (("dpu-1", "front", "house"), ("dpu-2", "inner", "room")):
            await put(client, f"dpus/{dpu}")
            body = {"doorway": doorway, "mounted_in": mounted_in, "from": "2020-01-01T00:00:00Z"}
            assert (await client.post(f"/v1/dpus/{dpu}/placements", json=body)).status_code == 201
        yield client


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, fetched from npm once per user."""
    version = hashlib.sha256((AXE / "package-lock.json").read_bytes()).hexdigest()[:16]
    script = cache_folder() / f"axe-{version}.js"
    with exclusive(script.with_suffix(".lock")):
        if not script.exists():
            try:
                with tempfile.TemporaryDirectory() as folder:
                    for name in ("package.json", "package-lock.json"):
                        shutil.copy(AXE / name, folder)
                    npm = npm_ci(find_node(), Path(folder))
                    if npm.returncode != 0:
                        pytest.skip(f"axe-core cannot be fetched: {npm.stdout.strip()}")
                    shutil.copy(Path(folder) / "node_modules/axe-core/axe.min.js", script)
            except (NodeMissing, subprocess.TimeoutExpired) as error:
                pytest.skip(f"axe-core cannot be fetched: {error}")
    return script.read_text()
