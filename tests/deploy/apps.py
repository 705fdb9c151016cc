"""The service in process, while it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar

from tests.http.streams import client_of


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    async with app.lifespan(), client_of(app) as client:
        yield client
