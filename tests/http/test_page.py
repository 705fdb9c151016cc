"""GET /, GET /reports and GET /web/{file}."""

import re
from pathlib import Path

import httpx
import pytest

from headcount.web import FILES, FOLDER
from tests.http import problem


async def test_it_serves_the_page_where_there_is_one(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "index.html"
    monkeypatch.setattr("headcount.routes.page.PAGE", page)
    problem(await client.get("/"), 404, "not_found")
    page.write_text("<!doctype html><title>Café</title>", encoding="utf-8")
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "Café" in response.text


@pytest.mark.parametrize(("path", "script"), [("/", "page.js"), ("/reports", "reports.js")])
async def test_it_serves_what_a_page_is_made_of_and_nothing_else(
    client: httpx.AsyncClient, path: str, script: str
) -> None:
    page = (await client.get(path)).text
    asked_for = re.findall(r'(?:src|href)="/web/([^"]+)"', page)
    assert script in asked_for
    for name in {*asked_for, *FILES}:
        if FILES[name][1].is_file():  # uPlot is fetched
            response = await client.get(f"/web/{name}")
            assert response.content == FILES[name][1].read_bytes()
            assert response.headers["content-type"].split(";")[0] == FILES[name][0]
    for name in ("index.html", "__init__.py", "package.json", "%2e%2e%2fapp.py"):
        assert (await client.get(f"/web/{name}")).status_code in (404, 422)


async def test_it_sends_a_file_again_only_when_it_has_changed(client: httpx.AsyncClient) -> None:
    first = await client.get("/web/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/web/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await client.get("/web/page.js", headers={"If-None-Match": '"other"'})
    assert other.content == first.content


async def test_it_reads_a_file_once_however_often_it_is_asked_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else 300 requests a second for the largest one, by anybody, would keep all others waiting."""
    script = tmp_path / "script.js"
    monkeypatch.setitem(FILES, "script.js", ("text/javascript", script))
    read, read_bytes = [], Path.read_bytes

    def note_and_read(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", note_and_read)
    for text in ("one", "three"):
        script.write_text(text)
        answers = [await client.get("/web/script.js") for _ in range(3)]
        assert {answer.text for answer in answers} == {text}
    assert read == [script, script]


async def test_it_says_what_to_do_where_the_charting_library_is_missing(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(FILES, "uPlot.esm.js", ("text/javascript", tmp_path / "uPlot.esm.js"))
    assert "python -m headcount.web" in problem(await client.get("/web/uPlot.esm.js"), 404, "not_found")["detail"]


def test_it_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    pages = [*FOLDER.glob("*.html")]
    for page in pages:
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page.read_text())
    for path in [*FOLDER.glob("*.js"), *FOLDER.glob("*.css"), *pages]:
        assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", path.read_text()), path.name
