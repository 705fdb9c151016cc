"""Uptime reports in a browser: made, followed, read and taken away, and the week of one site."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from headcount.database import calls
from tests.commands.support import free_port
from tests.factories import apply_site
from tests.http import body, poll, put
from tests.http.guarded import build_site, new_token
from tests.http.reporting import begun, build_shop, trigger, wait_for
from tests.page.conftest import RUN_AXE, Site, answer_with, client_of, serving

MANY = 14_000
TIMELINE = "/v1/spaces/shop/uptime/timeline"
# In the page: what the progress was said to be, each time that it was.
NOTE_PROGRESS = """
window.shownProgress = [];
addEventListener("DOMContentLoaded", () => {
  const running = document.getElementById("running");
  new MutationObserver(() => {
    if (!running.hidden) window.shownProgress.push(document.getElementById("running-title").textContent);
  }).observe(running, { attributes: true });
});
"""
# In the page: the strips of the days, as [class, x, width] of what is drawn and how many polls of each kind.
READ_STRIPS = """
() => [...document.querySelectorAll("#days li:not(.axis) svg")].map((strip) => ({
  drawn: [...strip.querySelectorAll("rect:not(.closed)")].map((rect) =>
    [rect.getAttribute("class"), +(+rect.getAttribute("x")).toFixed(1), +(+rect.getAttribute("width")).toFixed(1)]),
  polls: Object.fromEntries([...strip.querySelectorAll("path")].map((path) =>
    [path.getAttribute("class"), path.getAttribute("d").split("M").length - 1])),
}))
"""


@pytest_asyncio.fixture(loop_scope="session")
async def stores(site: Site, connection: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service: the shop of the example (78 % up in the week), arcade-10 and arcade-2 that were always
    up and kiosk that never was."""
    async with client_of(site.url) as client:
        await build_shop(client, connection)
        at = "2023-01-20T10:00:00Z"
        polls = [poll("arcade-10", at), poll("arcade-2", at), poll("kiosk", at, "inactive")]
        assert body(await client.post("/v1/polls", json={"polls": polls}))["accepted"] == 3
        yield client


async def shown(page: Page) -> list[str]:
    found: list[str] = await page.eval_on_selector_all("#body .site", "(all) => all.map((cell) => cell.textContent)")
    return found


async def compute(connection: asyncpg.Connection, report: str, attempt: int) -> None:
    async with connection.transaction(isolation="repeatable_read"):
        while (await calls.compute_report(connection, report, attempt)).last_site is not None:
            pass


async def test_a_new_report_shows_that_it_runs_and_then_the_worst_week_first(
    site: Site, stores: httpx.AsyncClient
) -> None:
    page = await site.new_page(await site.browser.new_context())
    await page.add_init_script(NOTE_PROGRESS)
    await page.goto(f"{site.url}/reports")
    await expect(page.locator("#nothing")).to_contain_text("There are no reports yet")
    await expect(page.locator("#report option:checked")).to_have_text("No report yet")
    await page.get_by_role("button", name="New report").click()
    await expect(page.locator("#body tr")).to_have_count(4)
    assert "The report is being computed" in await page.evaluate("shownProgress")
    await expect(page.locator("#running")).to_be_hidden()
    assert await shown(page) == ["kiosk", "shop", "arcade-2", "arcade-10"], "numbers in ids are numbers"
    cells = await page.locator("#body tr").nth(1).locator("td").all_inner_texts()
    # of the hour before 11:15, 29.5 minutes up; of the day 1.74 hours; of the week 0.75 hours more
    assert cells == ["shop", "83.0 %", "2.49", "0.51", "1.74", "0.51", "29.50", "30.50"]
    await expect(page.locator("#announcement")).to_have_text("The report is complete.")
    await expect(page.locator("#summary")).to_contain_text("4 sites, up for 66.7 % of their opening hours together")
    [made] = body(await stores.get("/v1/reports"))["items"]
    assert page.url == f"{site.url}/reports?report={made['id']}"
    await page.reload()
    await expect(page.locator("#body tr")).to_have_count(4)


async def test_a_report_without_sites_says_which_there_would_be(site: Site, api: httpx.AsyncClient) -> None:
    report = await trigger(api)
    await wait_for(api, report)
    page = await site.open(f"/reports?report={report}")
    words = "No sites to report. Reports cover spaces that were polled or came from the site files."
    await expect(page.locator("body")).to_contain_text(words)


async def test_a_site_that_was_never_polled_says_so_and_is_not_down(
    site: Site, stores: httpx.AsyncClient, connection: asyncpg.Connection, axe: str
) -> None:
    await calls.record_time_zones(connection, ["store-9"], ["UTC"])
    await put(stores, "spaces/store-9", name="Harbour store")
    await put(stores, "spaces/office", opening_hours=[{"day": 0, "open": "09:00", "close": "17:00"}])
    await trigger(stores)
    page = await site.open("/reports")
    await expect(page.locator("#summary")).to_contain_text("5 sites, 1 of them never polled")
    line = page.locator("#site-store-9")
    await expect(line.locator(".share")).to_have_text("never polled")
    await expect(line.locator(".bad, i")).to_have_count(0)
    assert await line.locator(".share").evaluate("cell => cell.scrollWidth <= cell.clientWidth"), "all of it is seen"
    assert (await shown(page))[-1] == "Harbour storestore-9", "not among the worst"
    await page.locator("#search").fill("harbour")
    assert await shown(page) == ["Harbour storestore-9"]
    await line.click()
    await expect(page.locator("#sums")).to_contain_text("Never polled")
    await expect(page.locator("#week")).to_be_hidden()
    await expect(page.locator("#times")).to_be_hidden()
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []


async def test_it_gives_the_csv_of_the_report(site: Site, stores: httpx.AsyncClient) -> None:
    report = await trigger(stores)
    await wait_for(stores, report)
    page = await site.open("/reports")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download CSV").click()
    found = await download.value
    assert found.suggested_filename == f"uptime-{report}.csv"
    assert (await found.path()).read_text() == (await stores.get(f"/v1/reports/{report}/csv")).text


async def test_the_table_is_sorted_and_searched(site: Site, stores: httpx.AsyncClient) -> None:
    await wait_for(stores, await trigger(stores))
    page = await site.open("/reports")
    head = page.get_by_role("columnheader")
    await expect(head.and_(page.locator('[data-by="share"]'))).to_have_attribute("aria-sort", "ascending")
    for by, expected in (
        ("id", ["arcade-2", "arcade-10", "kiosk", "shop"]),
        ("id", ["shop", "kiosk", "arcade-10", "arcade-2"]),
        ("weekDown", ["kiosk", "shop", "arcade-2", "arcade-10"]),
        ("hourUp", ["kiosk", "shop", "arcade-2", "arcade-10"]),
        ("share", ["kiosk", "shop", "arcade-2", "arcade-10"]),
        ("share", ["arcade-2", "arcade-10", "shop", "kiosk"]),
    ):
        await page.locator(f'[data-by="{by}"] button').click()
        assert await shown(page) == expected, by
    await page.get_by_role("searchbox").fill("CADE 2")
    await expect(page.locator("#body tr")).to_have_count(1)
    await expect(page.locator("#found")).to_have_text("1 of 4 sites")
    await page.reload()
    await expect(page.locator("#body tr")).to_have_count(1)
    await page.get_by_role("searchbox").fill("nowhere")
    await expect(page.locator("#found")).to_have_text("No site is like that.")


async def test_of_very_many_sites_only_those_in_view_are_in_the_document(
    site: Site, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        with report as (
          insert into core.report (id, now_at, format, created_at, finished_at, state, site_count)
          values ('many', now(), 'csv', now(), now(), 'complete', $1) returning report_id
        )
        insert into core.report_row
          (report_id, site, space_id, hour_up, day_up, week_up, hour_down, day_down, week_down)
        select report_id, 'store-' || n, n, 0, 0, n * 36000000::bigint, 0, 0, ($1 - n) * 36000000::bigint
        from report, generate_series(1, $1) as n
        """,
        MANY,
    )
    page = await site.open("/reports")
    await page.wait_for_selector("#site-store-1")
    assert await page.get_attribute("#table", "aria-rowcount") == str(MANY + 2)
    assert len(await shown(page)) < 100
    await page.locator("#table").focus()
    await page.keyboard.press("End")
    await expect(page.locator(f"#site-store-{MANY}")).to_be_in_viewport()
    assert await page.get_attribute(f"#site-store-{MANY}", "aria-rowindex") == str(MANY + 2)
    assert len(await shown(page)) < 100
    assert await page.evaluate("document.querySelector('thead').getBoundingClientRect().top") == await page.evaluate(
        "document.querySelector('#bar').offsetHeight"
    ), "the heads stay in view"
    await page.keyboard.press("Home")
    await expect(page.locator("#site-store-1")).to_be_in_viewport()
    await page.get_by_role("searchbox").fill("store-13999")
    await expect(page.locator("#body tr")).to_have_count(1)


async def test_a_report_is_followed_through_a_restart_of_the_service(
    browser: Browser, connection: asyncpg.Connection, database_url: str
) -> None:
    await calls.record_hours(connection, ["shop"], [0], ["09:00"], ["12:00"])
    report, attempt = await begun(connection)
    await calls.extend_report(connection, report, attempt, 0.4, 600)
    site = Site(browser, free_port())
    async with serving(database_url, site.port):
        page = await site.open("/reports")
        await page.evaluate("window.wasHere = true")
        await expect(page.locator("#percent")).to_have_text("40 %")
        assert await page.title() == "(40 %) Reports · Headcount"
        await calls.extend_report(connection, report, attempt, 0.5, 600)
        await expect(page.locator("#percent")).to_have_text("50 %")
        await expect(page.get_by_role("progressbar")).to_have_js_property("value", 0.5)
    await expect(page.locator("#link")).to_contain_text("Not live")
    await expect(page.get_by_role("button", name="Try now")).to_be_visible()
    await expect(page.locator("#percent")).to_have_text("50 %")
    await calls.extend_report(connection, report, attempt, 0.6, 600)
    async with serving(database_url, site.port):
        await expect(page.locator("#percent")).to_have_text("60 %")
        await expect(page.locator("#link")).to_have_text("Live")
        await compute(connection, report, attempt)
        await expect(page.locator("#body tr")).to_have_count(1)
        assert await page.evaluate("window.wasHere")
        await page.context.close()
    assert [text for text in site.complaints if "ERR_" not in text] == []


async def test_a_report_that_failed_says_why(site: Site, connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    page = await site.open("/reports")
    await expect(page.locator("#percent")).to_have_text("0 %")
    await calls.fail_report(connection, report, attempt, "The disk <b>is</b> full.")
    await expect(page.locator("#nothing")).to_have_text("The report failed: The disk <b>is</b> full.")
    await expect(page.locator("#running")).to_be_hidden()
    await expect(page.locator("#report option")).to_contain_text(["failed"])
    assert await page.title() == "Reports · Headcount"


async def test_one_that_cannot_be_made_says_why_and_leaves_what_is_shown(
    site: Site, stores: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await wait_for(stores, await trigger(stores))
    page = await site.open("/reports")
    await expect(page.locator("#body tr")).to_have_count(4)
    await connection.execute(
        """
        with report as (
          insert into core.report (id, format, created_at)
          select 'r' || n, 'csv', '2020-01-01Z' from generate_series(1, 100) n returning report_id
        )
        insert into core.report_run select report_id, now() + interval '1 hour', 0 from report
        """
    )
    await page.get_by_role("button", name="New report").click()
    await expect(page.locator("#said")).to_contain_text("Too many reports wait to be computed.")
    await expect(page.locator("#body tr")).to_have_count(4)
    site.complaints.clear()  # the browser says that there was a 503


async def test_another_report_is_chosen_by_its_link_and_from_the_list(site: Site, stores: httpx.AsyncClient) -> None:
    old = await trigger(stores, under="shop")
    await wait_for(stores, old)
    new = await trigger(stores)
    await wait_for(stores, new)
    page = await site.open("/reports")
    await expect(page.locator("#body tr")).to_have_count(4)
    await page.locator("#report").select_option(old)
    await expect(page.locator("#body tr")).to_have_count(1)
    await page.go_back()
    await expect(page.locator("#body tr")).to_have_count(4)
    page = await site.open(f"/reports?report={old}")
    await expect(page.locator("#body tr")).to_have_count(1)
    page = await site.open("/reports?report=gone")
    await expect(page.locator("#nothing")).to_contain_text("There is no report 'gone'")
    await expect(page.locator("#report option:checked")).to_have_text("Choose a report")
    site.complaints.clear()  # the browser says that there was a 404


def expected_strips(timeline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the strips should look like: a day is 1440 wide."""
    strips = []
    for day in timeline["days"]:
        start, end = datetime.fromisoformat(day["start"]), datetime.fromisoformat(day["end"])
        drawn = []
        for kind in ("up", "down"):
            for stretch in timeline[kind]:
                begin = max(datetime.fromisoformat(stretch["start"]), start)
                finish = min(datetime.fromisoformat(stretch["end"]), end)
                if begin < finish:
                    x, width = (1440 * part / (end - start) for part in (begin - start, finish - begin))
                    drawn.append([kind, round(x, 1), round(width, 1)])
        polls: dict[str, int] = {}
        for found in timeline["polls"]:
            if start <= datetime.fromisoformat(found["timestamp"]) < end:
                kind = f"poll {found['status']}{'' if found['in_opening_hours'] else ' ignored'}"
                polls[kind] = polls.get(kind, 0) + 1
        strips.append({"drawn": drawn, "polls": polls})
    return strips


async def test_the_week_of_a_site_is_what_the_service_tells(
    site: Site, stores: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    polls = [poll("shop", "2023-01-23T08:59:59Z"), poll("shop", "2023-01-16T11:30:00Z", "inactive")]
    assert body(await stores.post("/v1/polls", json={"polls": polls}))["accepted"] == 2
    report = await wait_for(stores, await trigger(stores))
    timeline = body(await stores.get(TIMELINE, params={"to": report["now"]}))
    page = await site.open("/reports")
    await page.locator("#site-shop").click()
    await expect(page.locator("#days li")).to_have_count(len(timeline["days"]) + 1)
    strips = await page.evaluate(READ_STRIPS)
    assert strips == expected_strips(timeline)
    assert [len(strip["drawn"]) for strip in strips] == [1, 0, 0, 0, 0, 0, 0, 2]
    assert strips[-1]["drawn"] == [["up", 540, 104.5], ["down", 644.5, 30.5]], "9:00, 10:44:30, 11:15"
    await expect(page.locator("#sums")).to_have_text("1.74 h up and 1.26 h down")
    words = await page.locator("#days .words").all_inner_texts()
    assert [text.replace("\u00a0", " ") for text in words] == ["45 min down", *["closed"] * 6, "30 min down"]
    await expect(page.locator("#polls")).to_have_text("4 polls; 1 while it was closed, which does not count.")
    await expect(page.locator("#outages li")).to_have_count(2)
    await expect(page.locator("#outages li").first).to_contain_text("Mon 23 Jan, 10:44\u201311:15")
    await expect(page.locator("#changed")).to_be_empty()
    await expect(page).to_have_url(re.compile(r"/reports#shop$"))

    late = [poll("shop", "2023-01-23T11:14:00Z")]
    assert body(await stores.post("/v1/polls", json={"polls": late}))["accepted"] == 1
    await page.reload()
    await expect(page.locator("#changed")).to_contain_text("The report was made before that")
    await page.keyboard.press("Escape")
    await expect(page.locator("#detail")).to_be_hidden()
    assert await page.evaluate("document.activeElement.id") == "table"


async def test_days_on_which_the_clocks_change_are_as_long_as_they_are(
    site: Site, connection: asyncpg.Connection
) -> None:
    await apply_site(connection, spaces=[{"id": "diner", "name": "<i>Diner</i>", "time_zone": "America/New_York"}])
    sunday = datetime.fromisoformat("2026-03-08T17:30:00+00:00")  # half past one in the afternoon: 12.5 hours of 23
    await calls.record_polls(connection, ["diner"] * 2, [sunday, sunday + timedelta(days=2)], [False, False])
    page = await site.open("/reports#diner")
    await expect(page.locator("#name")).to_have_text("<i>Diner</i>")
    await expect(page.locator("#days")).to_contain_text("Sun 8 (23 h)")
    paths = await page.eval_on_selector_all("#days path", "(all) => all.map((path) => path.getAttribute('d'))")
    assert paths[0].startswith(f"M{1440 * 12.5 / 23:.1f} ")


async def test_the_table_is_worked_by_keyboard(site: Site, stores: httpx.AsyncClient) -> None:
    await wait_for(stores, await trigger(stores))
    page = await site.open("/reports")
    await page.get_by_role("link", name="Download CSV").focus()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "table"
    for key, expected in (
        ("ArrowDown", "shop"),
        ("ArrowUp", "kiosk"),
        ("ArrowUp", "kiosk"),
        ("End", "arcade-10"),
        ("ArrowDown", "arcade-10"),
        ("PageUp", "kiosk"),
        ("PageDown", "arcade-10"),
        ("Home", "kiosk"),
    ):
        await page.keyboard.press(key)
        assert await page.get_attribute("#table", "aria-activedescendant") == f"site-{expected}", key
    await page.keyboard.press("Enter")
    await expect(page.locator("#name")).to_have_text("kiosk")
    await expect(page.locator("#site-kiosk")).to_have_attribute("aria-selected", "true")
    await page.go_back()
    await expect(page.locator("#detail")).to_be_hidden()


async def test_the_pages_link_to_each_other(site: Site, stores: httpx.AsyncClient) -> None:
    page = await site.open("/")
    for name in ("Reports", "Sensors", "Reports", "Spaces"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator("nav [aria-current]")).to_have_text(name)


async def test_a_limited_token_makes_and_sees_reports_of_its_part(
    browser: Browser, connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    at = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    await calls.record_polls(connection, ["own-room", "secret-b"], [at, at], [True, True])
    site = Site(browser, free_port())
    async with serving(database_url, site.port, "required"):
        page = await site.new_page(await browser.new_context())
        await page.goto(f"{site.url}/reports")
        await expect(page.locator("#ask-why")).to_contain_text("scope read")
        await answer_with(page, await new_token(connection, "read", space="own"))
        await expect(page.locator("#link")).to_have_text("Live")
        await page.get_by_role("button", name="New report").click()
        await expect(page.locator("#body tr")).to_have_count(1)
        assert await shown(page) == ["own-room"]
        await page.locator("#site-own-room").click()
        await expect(page.locator("#sums")).to_have_text("168.00 h up and 0.00 h down")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download CSV").click()
        assert "own-room" in (await (await download.value).path()).read_text()
        await page.context.close()
    refused = "Failed to load resource: the server responded with a status of 401"
    assert [text for text in site.complaints if not text.startswith(refused)] == []


async def test_on_a_phone_it_shows_the_table_or_one_site(site: Site, stores: httpx.AsyncClient) -> None:
    await wait_for(stores, await trigger(stores))
    page = await site.open("/reports", width=360, is_phone=True)
    await expect(page.locator("#body tr")).to_have_count(4)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    await page.locator("#site-shop").tap()
    await expect(page.locator("#days li")).to_have_count(9)
    await expect(page.locator("#table")).to_be_hidden()
    assert await page.evaluate("document.activeElement.id") == "name"
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    await page.get_by_role("link", name="All sites").tap()
    await expect(page.locator("#detail")).to_be_hidden()
    await expect(page.locator("#site-shop")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_nothing_that_keeps_people_out(
    site: Site,
    stores: httpx.AsyncClient,
    connection: asyncpg.Connection,
    axe: str,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    complete = await trigger(stores)
    await wait_for(stores, complete)
    running, _ = await begun(connection)
    for address, wanted in (
        (f"?report={complete}", "#body tr"),
        (f"?report={complete}#shop", "#week:not([hidden])"),
        (f"?report={complete}&q=nobody", "#found:not(:empty)"),
        (f"?report={running}", "#running:not([hidden])"),
    ):
        page = await site.open(f"/reports{address}", width, scheme)
        await page.wait_for_selector(wanted)
        await page.evaluate(axe)
        assert await page.evaluate(RUN_AXE) == [], address
