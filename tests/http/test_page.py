"""GET /."""

from pathlib import Path

import httpx
import pytest

from tests.http import problem


async def test_it_serves_the_page_where_there_is_one(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "index.html"
    monkeypatch.setattr("service.routes.page.PAGE", page)
    problem(await client.get("/"), 404, "not_found")
    page.write_text("<!doctype html><title>Café</title>", encoding="utf-8")
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "Café" in response.text
