"""The page in a browser: what it shows, and that it goes on showing it."""

import re
from typing import Literal

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from headcount.database import calls
from tests.commands.support import free_port
from tests.http import event, put, send
from tests.http.guarded import build_site, new_token, token_id
from tests.http.streams import behind
from tests.page.conftest import RUN_AXE, Site, ago, answer_with, are_within, client_of, serving

# In the page: posts an event, and returns after how many milliseconds the count on display is another one.
POST_AND_WAIT = """
async ([selector, event]) => {
  const shown = document.querySelector(selector);
  const old = shown.textContent;
  const changed = new Promise((resolve) => new MutationObserver((_, observer) => {
    if (shown.textContent === old) return;
    observer.disconnect();
    resolve(performance.now());
  }).observe(shown, { childList: true, characterData: true, subtree: true }));
  const body = JSON.stringify({ events: [event] });
  const answer = await fetch("/v1/events", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  if (!answer.ok) throw new Error(await answer.text());
  const committed = performance.now();
  return await changed - committed;
}
"""
IS_DRAWN = """
[...document.querySelector("#curve canvas").getContext("2d").getImageData(0, 0, 600, 200).data].some(Boolean)
"""
CLOCK_AHEAD = """
Date = class extends Date {
  constructor(...parts) { super(...(parts.length ? parts : [new.target.now()])); }
  static now() { return super.now() + 3000; }
};
"""
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
QUOTED = "\N{LEFT DOUBLE QUOTATION MARK}{}\N{RIGHT DOUBLE QUOTATION MARK}"


def row(space: str) -> str:
    return f'[role="treeitem"][data-space="{space}"]'


async def test_an_event_shows_within_a_second(site: Site, api: httpx.AsyncClient) -> None:
    page = await site.open()
    taken = []
    for number in range(20):
        report = event(timestamp=ago(seconds=60 - number))
        taken.append(await page.evaluate(POST_AND_WAIT, [f"{row('house')} .number", report]))
        if are_within(1000, taken, 5):
            break
    assert are_within(1000, taken, 5), taken
    await expect(page.locator(row("house"))).to_contain_text(f"{len(taken)}/ 20")
    await expect(page.locator("#count")).to_have_text(f"{len(taken)}")
    await expect(page.locator("#of")).to_have_text("of 20")


async def test_a_new_space_appears_and_a_deleted_one_goes_without_a_reload(site: Site, api: httpx.AsyncClient) -> None:
    page = await site.open()
    await page.evaluate("window.wasHere = true")
    await put(api, "spaces/attic", parent="house", name="Attic")
    attic = page.locator(row("attic"))
    await expect(attic).to_contain_text("Attic")
    await expect(attic).to_have_attribute("aria-level", "2")
    await expect(attic.locator(".number")).to_have_text(DASH)
    await put(api, "spaces/attic", name="Loft", parent="room", capacity=3)
    await expect(attic).to_contain_text("Loft")
    await expect(attic).to_have_attribute("aria-level", "3")
    await expect(attic.locator(".of")).to_have_text("not counted")
    await api.post("/v1/spaces/attic/resets", json={"count": 1})
    await expect(attic.locator(".of")).to_have_text("/ 3")
    await put(api, "spaces/porch", name="Porch")
    await expect(page.locator(row("porch"))).to_be_visible()
    await api.delete("/v1/spaces/porch")
    await expect(page.locator(row("porch"))).to_have_count(0)
    assert await page.evaluate("window.wasHere")


async def test_it_lists_the_spaces_again_where_the_stream_says_so(
    site: Site, api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """The service did not follow for a while: nothing else tells the new name."""
    page = await site.open()
    await expect(page.locator(row("room"))).to_contain_text("Tea room")
    await connection.execute("update core.space set name = 'Coffee room' where id = 'room'")
    async with behind(connection):
        await expect(page.locator(row("room"))).to_contain_text("Coffee room")


async def test_it_says_what_to_do_where_there_are_no_spaces(site: Site) -> None:
    page = await site.open()
    await expect(page.locator("#nothing")).to_contain_text("headcount apply")
    await expect(page.locator("#detail")).to_be_hidden()
    async with client_of(site.url) as client:
        await put(client, "spaces/shed")
    await expect(page.locator(row("shed"))).to_be_visible()
    await expect(page.locator("#nothing")).to_be_hidden()


async def test_it_recovers_by_itself_when_the_service_is_restarted(
    browser: Browser, connection: asyncpg.Connection, database_url: str
) -> None:
    site = Site(browser, free_port())
    async with serving(database_url, site.port):
        async with client_of(site.url) as client:
            await put(client, "spaces/hall")
        page = await site.open()
        await page.evaluate("window.wasHere = true")
        await expect(page.locator(f"{row('hall')} .number")).to_have_text(DASH)
    await expect(page.locator("#link")).to_contain_text("Not live")
    await expect(page.get_by_role("button", name="Try now")).to_be_visible()
    await connection.execute("select api.record_reset(space => 'hall', count => 7)")
    await connection.execute("select api.put_space(space => 'yard', patch => '{}')")
    async with serving(database_url, site.port):
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator(f"{row('hall')} .number")).to_have_text("7")
        await expect(page.locator(row("yard"))).to_be_visible()
        await expect(page.get_by_role("button", name="Try now")).to_be_hidden()
        assert await page.evaluate("window.wasHere")
        await page.context.close()
    assert [text for text in site.complaints if "ERR_" not in text] == []


async def focused(page: Page) -> str:
    found = await page.evaluate("document.activeElement.dataset.space ?? document.activeElement.id")
    return str(found)


async def test_the_tree_is_worked_by_keyboard(site: Site, api: httpx.AsyncClient) -> None:
    await put(api, "spaces/annex", name="Annex")
    page = await site.open()
    await expect(page.locator(row("room"))).to_be_visible()
    for _ in range(4):  # the links to the other pages come first
        await page.keyboard.press("Tab")
    assert await focused(page) == "annex", "one stop for the whole tree"
    for key, expected in (
        ("ArrowDown", "house"),
        ("ArrowDown", "room"),
        ("ArrowDown", "room"),
        ("ArrowLeft", "house"),
        ("ArrowRight", "room"),
        ("Home", "annex"),
        ("End", "room"),
        ("a", "annex"),
        ("ArrowDown", "house"),
        ("t", "room"),
        ("ArrowUp", "house"),
    ):
        await page.keyboard.press(key)
        assert await focused(page) == expected, key
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator(row("house"))).to_have_attribute("aria-expanded", "false")
    await expect(page.locator(row("room"))).to_have_count(0)
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(page.locator("#name")).to_have_text("Tea room")
    await expect(page.locator(row("room"))).to_have_attribute("aria-selected", "true")
    assert page.url.endswith("#room")
    await page.go_back()
    await expect(page.locator(row("room"))).to_have_attribute("aria-selected", "false")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_nothing_that_keeps_people_out(
    site: Site, api: httpx.AsyncClient, axe: str, scheme: Literal["light", "dark"], width: int
) -> None:
    await send(api, *(event(timestamp=ago(seconds=number)) for number in range(1, 25)))  # over capacity
    for path in ("/", "/#house"):
        page = await site.open(path, width, scheme)
        await expect(page.locator(".movement li").first).to_have_count(1)
        await page.evaluate(axe)
        assert await page.evaluate(RUN_AXE) == []


async def test_it_draws_the_curve_of_today_and_tells_it_in_words(site: Site, api: httpx.AsyncClient) -> None:
    await send(api, event(timestamp=ago(seconds=50), direction=9), event(timestamp=ago(seconds=40), direction=-2))
    page = await site.open("/#house")
    await expect(page.locator("#curve-text")).to_contain_text("Peak")
    assert await page.evaluate(IS_DRAWN)
    await page.locator("#curve").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#readout")).to_contain_text("·")


async def test_keys_lead_from_one_place_of_the_curve_to_the_next_of_which_something_is_known(
    site: Site, api: httpx.AsyncClient
) -> None:
    await send(api, event(timestamp=ago(minutes=40), direction=5))
    page = await site.open("/#house", script=CLOCK_AHEAD)  # so that the axis goes on after the newest count
    await expect(page.locator("#curve-text")).to_contain_text("Peak")
    await page.locator("#curve").focus()
    read: set[str] = set()
    for key in (*["ArrowLeft"] * 4, *["ArrowRight"] * 6, *["ArrowLeft"] * 200):
        await page.keyboard.press(key)
        read.add(await page.locator("#readout").inner_text())
    assert "" not in read
    assert len(read) >= 3


async def test_a_space_that_nothing_counts_shows_a_dash_and_no_zero(
    site: Site, api: httpx.AsyncClient, axe: str
) -> None:
    await send(api, event(timestamp=ago(seconds=50), direction=3))
    page = await site.open("/#room")
    room = page.locator(row("room"))
    await expect(room.locator(".number")).to_have_text(DASH)
    await expect(room.locator(".of")).to_have_text("not counted")
    await expect(room.locator(".gauge")).to_have_class(re.compile("none"))
    await expect(page.locator("#count")).to_have_text(DASH)
    await expect(page.locator("#of")).to_have_text("not counted")
    await expect(page.locator("#gauge")).to_be_hidden()
    await expect(page.locator("#facts")).to_contain_text("Counted sincenever")
    await expect(page.locator("#facts")).not_to_contain_text("%")
    await expect(page.locator("#curve")).to_be_hidden()
    await expect(page.locator("#curve-text")).to_contain_text("Nothing counts for this space")
    await expect(page.locator("#quiet")).to_have_text("Nothing counted yet.")
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []
    # from its first event on it has a number, a curve and a peak
    await send(api, event(dpu="dpu-2", timestamp=ago(seconds=40), direction=2))
    await expect(room.locator(".number")).to_have_text("2")
    await expect(room.locator(".of")).to_have_text("/ 4")
    await expect(page.locator("#count")).to_have_text("2")
    await expect(page.locator("#curve-text")).to_contain_text("Peak 2 between")
    await expect(page.locator("#curve canvas")).to_have_count(1)
    assert await page.evaluate(IS_DRAWN)


async def test_a_count_that_shows_that_people_were_missed_has_a_mark(
    site: Site, api: httpx.AsyncClient, axe: str
) -> None:
    page = await site.open("/#house")
    mark = page.locator(f"{row('house')} .mark")
    await expect(mark).to_be_hidden()
    await send(api, event(timestamp=ago(seconds=50), direction=1))
    await send(api, event(dpu="dpu-2", timestamp=ago(seconds=40), direction=3))
    more = "3 people, more than in this space: some entries were missed"
    below = f"In Tea room {more}."
    await expect(mark).to_be_visible()
    await expect(mark).to_have_attribute("title", below)
    await expect(page.locator("#facts .bad")).to_have_text(f"In Tea room{more}")
    await send(api, event(timestamp=ago(seconds=30), direction=-5))
    await expect(mark).to_have_attribute("title", f"Raw count {MINUS}4: people were missed. {below}")
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []
    await send(api, event(timestamp=ago(seconds=20), direction=9))
    await expect(mark).to_be_hidden()
    await expect(page.locator(f"{row('room')} .mark")).to_be_hidden()


async def test_it_says_that_no_sensor_counts_where_none_is_placed(site: Site, api: httpx.AsyncClient) -> None:
    await put(api, "spaces/attic")
    page = await site.open("/#attic")
    await expect(page.locator("#quiet")).to_have_text("No sensor counts who passes here.")


async def test_it_says_that_the_space_of_the_address_is_retired_or_unknown(
    site: Site, api: httpx.AsyncClient, axe: str
) -> None:
    page = await site.open("/#unknown")
    why = page.locator("#missing-why")
    await expect(why).to_contain_text(f"There is no space with the id {QUOTED.format('unknown')}.")
    await expect(page.locator("#detail")).to_be_hidden()
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []
    await page.locator(row("room")).click()
    await expect(page.locator("#name")).to_have_text("Tea room")
    await expect(why).to_be_hidden()
    # retired while it is shown: it leaves the tree, and the page says why
    await send(api, event(dpu="dpu-2", timestamp=ago(seconds=40)))
    assert (await api.delete("/v1/spaces/room")).status_code == 200
    await expect(page.locator(row("room"))).to_have_count(0)
    await expect(why).to_contain_text(f"The space {QUOTED.format('Tea room')} is retired since")
    await expect(page.locator("#detail")).to_be_hidden()


async def test_it_says_how_to_get_the_curve_where_the_library_is_missing(site: Site, api: httpx.AsyncClient) -> None:
    context = await site.browser.new_context()
    page = await context.new_page()
    await page.route("**/web/uPlot.esm.js", lambda route: route.fulfill(status=404))
    await page.goto(f"{site.url}/#house")
    await expect(page.locator("#curve-text")).to_contain_text("python -m headcount.web")
    await expect(page.locator("#count")).to_have_text(DASH)


async def test_it_lists_who_passes_which_door_as_it_happens(site: Site, api: httpx.AsyncClient) -> None:
    await send(api, event(timestamp=ago(minutes=5)))
    page = await site.open("/#house")
    first = page.locator("#movement li").first
    await expect(first).to_contain_text("+1in · Front door")
    await send(api, event(timestamp=ago(minutes=1), direction=-1))
    await expect(first).to_contain_text("1out · Front door")
    await expect(first).to_have_class("out")
    await expect(page.locator("#pace")).to_have_text("1 in, 1 out in 15 min")
    await page.locator(row("room")).click()
    await expect(page.locator("#quiet")).to_be_visible()


async def test_on_a_phone_it_shows_one_side_at_a_time(site: Site, api: httpx.AsyncClient) -> None:
    page = await site.open(width=360, is_phone=True)
    await expect(page.locator("#detail")).to_be_hidden()
    await page.locator(row("room")).tap()
    await expect(page.locator("#name")).to_have_text("Tea room")
    await expect(page.locator("#tree")).to_be_hidden()
    assert await focused(page) == "name"
    await page.get_by_role("link", name="All spaces").tap()
    await expect(page.locator("#tree")).to_be_visible()
    await expect(page.locator("#detail")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"


async def test_it_asks_for_a_token_keeps_it_for_the_tab_and_says_what_is_wrong_with_it(
    browser: Browser, connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    site = Site(browser, free_port())
    ingest, here = await new_token(connection, "ingest"), await new_token(connection, "read", space="own")
    everywhere = await new_token(connection, "admin")  # which includes read
    async with serving(database_url, site.port, "required"):
        context = await browser.new_context(reduced_motion="reduce")
        page = await site.new_page(context)
        await page.goto(f"{site.url}/#own-room")
        why = page.locator("#ask-why")
        await expect(why).to_contain_text("scope read")
        await answer_with(page, "hc_bad")
        await expect(why).to_contain_text("unknown, has expired or was revoked")
        await answer_with(page, ingest)
        await expect(why).to_contain_text("The token is valid but lacks the scope `read`; it has `ingest`.")
        await answer_with(page, here)
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator("#name")).to_have_text("own-room")
        await expect(page.locator(f"{row('own-room')} .number")).to_have_text("3")
        await expect(page.locator("[role=treeitem]")).to_have_count(2)
        await expect(page.locator("#curve canvas")).to_have_count(1)
        assert await page.evaluate(IS_DRAWN)
        assert await page.evaluate("localStorage.length + document.cookie.length") == 0
        await page.reload()
        await expect(page.locator("#link")).to_have_text("Live")

        await calls.revoke_token(connection, await token_id(connection, here))
        await expect(why).to_contain_text("unknown, has expired or was revoked")
        await expect(page.locator("#name")).to_be_hidden()
        await answer_with(page, everywhere)
        await expect(page.locator("[role=treeitem]")).to_have_count(5)
        await expect(page.locator(f"{row('secret-b')} .number")).to_have_text(re.compile(r"\d+"))
        await context.close()
    refused = "Failed to load resource: the server responded with a status of 40"
    assert [text for text in site.complaints if not text.startswith(refused)] == []


async def test_what_the_service_sends_is_shown_as_text(site: Site, api: httpx.AsyncClient) -> None:
    await put(api, "spaces/house", name="<img src=x onerror=alert(1)>")
    page = await site.open()
    await expect(page.locator("#name")).to_have_text("<img src=x onerror=alert(1)>")
    assert await page.locator("#detail img").count() == 0
