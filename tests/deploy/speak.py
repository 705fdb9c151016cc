"""Run by its path, with PYTHONPATH leading to an older release: migrates a database, and lets that release answer.

`speak.py URL`: requests as JSON on standard input, [[method, path, body], ...]; their answers, [[status, body], ...].
"""

import asyncio
import json
import sys
from typing import Any

import httpx

try:  # up to 0.1.0
    from service.app import create_app  # type: ignore[import-not-found]
    from service.migrate import migrate  # type: ignore[import-not-found]
    from service.settings import Settings  # type: ignore[import-not-found]
except ImportError:
    from headcount.app import create_app
    from headcount.database.migrate import migrate
    from headcount.settings import Settings


async def speak(url: str, requests: list[tuple[str, str, Any]]) -> list[tuple[int, Any]]:
    app: Any = create_app(Settings(database_url=url, auth="off"))
    told = []
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        for method, path, body in requests:
            answer = await client.request(method, path, json=body, timeout=60)
            told.append((answer.status_code, answer.json() if answer.content else None))
    return told


if __name__ == "__main__":
    migrate(sys.argv[1])
    print(json.dumps(asyncio.run(speak(sys.argv[1], json.load(sys.stdin)))))
