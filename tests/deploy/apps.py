"""The service in process, while it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from headcount.http.asgi import App
from tests.http.streams import client_of


@asynccontextmanager
async def living(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with app.lifespan(), client_of(app) as client:
        yield client
