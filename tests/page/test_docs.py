"""The HTTP API in a browser: read, searched and tried out."""

import json
from typing import Literal

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.commands.support import free_port
from tests.factories import apply_site
from tests.http.guarded import new_token
from tests.page.conftest import RUN_AXE, Site, client_of, serving


async def open_docs(
    site: Site, path: str = "/docs", width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Page:
    context = await site.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = await site.new_page(context)
    await page.goto(f"{site.url}{path}")
    return page


async def test_it_shows_every_operation_under_its_topic(site: Site) -> None:
    page = await open_docs(site)
    await expect(page.get_by_role("heading", name="Headcount")).to_be_visible()
    async with client_of(site.url) as client:
        document = (await client.get("/schema")).json()
    topics = [tag["name"] for tag in document["tags"]]
    assert await page.locator(".opblock-tag").evaluate_all("(all) => all.map((tag) => tag.dataset.tag)") == topics
    await page.locator("#operations-tag-Counts").click()
    await expect(page.locator(".opblock-summary-path", has_text="/v1/spaces/{space}/count").first).to_be_visible()


async def test_a_link_leads_to_one_operation_with_its_fields_and_errors(site: Site) -> None:
    page = await open_docs(site, "/docs#/Counts/get_count")
    operation = page.locator("#operations-Counts-get_count")
    await expect(operation.get_by_text("Count only what was known at this instant")).to_be_visible()
    await expect(operation.get_by_text("Needs a token with the scope")).to_be_visible()
    await expect(operation.locator("tr.response[data-code='404']")).to_contain_text("not_found")
    await operation.locator("tr.response[data-code='200']").get_by_role("tab", name="Schema").click()
    await expect(operation.get_by_text("How complete the count is.")).to_be_visible()


async def test_an_operation_is_tried_out_on_this_service(site: Site, api: httpx.AsyncClient) -> None:
    page = await open_docs(site, "/docs#/Counts/get_count")
    operation = page.locator("#operations-Counts-get_count")
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_placeholder("space", exact=True).fill("house")
    async with page.expect_response(lambda answer: "/count" in answer.url) as asked:
        await operation.get_by_role("button", name="Execute").click()
    answer = await asked.value
    assert answer.url.startswith(f"{site.url}/v1/spaces/house/count")
    assert (await answer.json())["capacity"] == 20
    await expect(operation.locator(".live-responses-table")).to_contain_text('"capacity": 20')


async def test_it_works_behind_a_prefix(site: Site, api: httpx.AsyncClient) -> None:
    """As behind a proxy that takes /counting off the address."""
    page = await site.new_page(await site.browser.new_context())
    asked = []

    async def pass_on(route: Route) -> None:
        asked.append(route.request.url.removeprefix(site.url))
        await route.fulfill(response=await route.fetch(url=route.request.url.replace("/counting/", "/", 1)))

    await page.route(f"{site.url}/counting/**", pass_on)
    await page.goto(f"{site.url}/counting/docs#/Counts/get_count")
    operation = page.locator("#operations-Counts-get_count")
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_placeholder("space", exact=True).fill("house")
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text('"capacity": 20')
    assert {"/counting/schema", "/counting/web/docs.js"} <= set(asked)
    assert any(address.startswith("/counting/v1/spaces/house/count") for address in asked)


async def test_a_token_is_sent_with_what_is_tried_out_and_is_not_kept(
    browser: Browser, connection: asyncpg.Connection, database_url: str
) -> None:
    await apply_site(connection, spaces=[{"id": "hall", "capacity": 7}])
    token = (await new_token(connection, "read"))["Authorization"].removeprefix("Bearer ")
    site = Site(browser, free_port())
    async with serving(database_url, site.port, "required"):
        page = await open_docs(site, "/docs#/Counts/get_count")
        await page.get_by_role("button", name="Authorize").first.click()
        form = page.locator(".modal-ux")
        await form.get_by_role("textbox").fill(token)
        await form.get_by_role("button", name="Apply credentials").click()
        await form.locator(".btn-done").click()
        operation = page.locator("#operations-Counts-get_count")
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_placeholder("space", exact=True).fill("hall")
        await operation.get_by_role("button", name="Execute").click()
        await expect(operation.locator(".live-responses-table")).to_contain_text('"capacity": 7')
        kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
        assert token not in kept
        await page.context.close()
    assert site.complaints == []


async def test_without_the_viewer_it_says_how_to_get_it(site: Site) -> None:
    page = await site.new_page(await site.browser.new_context())
    await page.route("**/web/swagger-ui*", lambda route: route.fulfill(status=404, content_type="application/json"))
    await page.goto(f"{site.url}/docs")
    await expect(page.get_by_role("alert")).to_contain_text("python -m headcount.web")
    await expect(page.get_by_role("alert").get_by_role("link", name="/schema")).to_have_attribute("href", "schema")
    # that the files are missing is what the browser complains about, and nothing else
    assert site.complaints
    assert all("404" in complaint for complaint in site.complaints), site.complaints
    site.complaints.clear()


async def test_nothing_in_the_address_makes_it_show_another_document(site: Site) -> None:
    config = json.dumps({"url": "https://example.org/other.json"})
    for query in ("?url=https://example.org/other.json", f"?config={config}", "?configUrl=https://example.org/c.json"):
        page = await open_docs(site, f"/docs{query}")
        await expect(page.get_by_role("heading", name="Headcount")).to_be_visible()
        await page.context.close()


async def test_the_pages_link_to_it_and_it_links_to_them(site: Site) -> None:
    for path in ("/", "/sensors", "/reports"):
        page = await open_docs(site, path)
        await page.get_by_role("contentinfo").get_by_role("link", name="API").click()
        await expect(page).to_have_url(f"{site.url}/docs")
        await expect(page.get_by_role("heading", name="Headcount")).to_be_visible()
        await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Sensors").click()
        await expect(page).to_have_url(f"{site.url}/sensors")
        await page.context.close()


async def test_it_is_read_on_a_phone_and_follows_the_colours_of_the_system(site: Site) -> None:
    page = await open_docs(site, width=390)
    await expect(page.get_by_role("heading", name="Headcount")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.emulate_media(color_scheme="dark")
    await expect(page.locator("html.dark-mode")).to_be_attached()
    await page.emulate_media(color_scheme="light")
    await expect(page.locator("html.dark-mode")).not_to_be_attached()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_that_keeps_people_out(site: Site, scheme: Literal["light", "dark"], axe: str) -> None:
    page = await open_docs(site, scheme=scheme)
    await expect(page.get_by_role("heading", name="Headcount")).to_be_visible()
    await page.evaluate(axe)
    found = await page.evaluate(RUN_AXE)
    # Swagger UI's own: topics are headings of the third level below a title of the first, which is in no landmark
    own = ("heading-order", "region")
    assert [violation for violation in found if not violation.startswith(own)] == []
