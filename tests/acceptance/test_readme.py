"""The README's requests give the README's answers."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

README = Path(__file__).parent.parent.parent / "README.md"
REQUESTS = re.findall(r"```sh\n(curl .*?)\n```\n```(?:json|csv)\n(.*?)\n```", README.read_text(), re.DOTALL)


def parse(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Method, path, headers and body of a curl command."""
    words = shlex.split(command)[1:]
    method, headers, body, url = "GET", {}, None, ""
    while words:
        match words.pop(0):
            case "-s":
                pass
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d" | "--json" | "--data-binary" as option:
                body = words.pop(0)
                if body.startswith("@"):
                    body = Path(body[1:]).read_text()
                if option == "--json":
                    headers["Content-Type"] = "application/json"
                method = "POST" if method == "GET" else method
            case word:
                url = word
    assert url.startswith("http://127.0.0.1:8000")
    return method, url.removeprefix("http://127.0.0.1:8000"), headers, body


async def test_it_answers_as_the_readme_says(client: httpx.AsyncClient) -> None:
    assert len(REQUESTS) == 3
    for command, expected in REQUESTS:
        method, path, headers, body = parse(command)
        answer = await client.request(method, path, headers=headers, content=body)
        assert answer.status_code == 200, answer.text
        if answer.headers["Content-Type"].startswith("text/csv"):
            assert answer.text.split() == expected.split()
        else:
            assert answer.json() == json.loads(expected)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README.read_text()))
def test_it_links_to_what_is_there(link: str) -> None:
    assert (README.parent / link).exists()
