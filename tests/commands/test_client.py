"""Commands that speak to a service at a URL: what a server may say to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from headcount.commands.client import seconds_of
from tests.commands.support import headcount

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(*answers: Answer) -> Iterator[str]:
    """A server that gives these answers, one after the other, and the last one again and again."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in (*headers.items(), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def apply(tmp_path: Path, *answers: Answer) -> tuple[int, str]:
    plan = tmp_path / "site.json"
    plan.write_text('{"spaces": [{"id": "hall"}]}')
    with answering(*answers) as url:
        done = await headcount("apply", str(plan), "--url", url, url="")
    return done.exit_code, done.output


async def test_what_a_server_says_moves_no_cursor(tmp_path: Path) -> None:
    told = b'{"type": "x", "title": "x", "status": 422, "code": "invalid", "detail": "No \\u001b[2Jway.", "errors": []}'
    for body in (told, b"No \x1b[2Jway."):
        code, output = await apply(tmp_path, (422, {}, body))
        assert code == 1
        assert "No " in output
        assert "way." in output
        assert "\x1b" not in output


async def test_a_redirect_is_not_taken_for_success(tmp_path: Path) -> None:
    code, output = await apply(tmp_path, (302, {"Location": "https://login.example/\x9b"}, b""))
    assert code == 1
    assert "302" in output
    assert "https://login.example/" in output
    assert "--url" in output
    assert (await apply(tmp_path, (304, {}, b"")))[0] == 1


async def test_it_comes_back_when_a_server_names_a_date(tmp_path: Path) -> None:
    soon = format_datetime(datetime.now(UTC), usegmt=True)
    code, output = await apply(tmp_path, (503, {"Retry-After": soon}, b""), (200, {}, b'{"changes": []}'))
    assert (code, "created 0" in output) == (0, True), output


def test_it_reads_how_long_to_wait() -> None:
    later = datetime.now(UTC) + timedelta(seconds=280)
    assert seconds_of("7") == 7
    assert 200 < seconds_of(format_datetime(later, usegmt=True)) <= 280
    assert seconds_of("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert seconds_of("9" * 400) == 300
    for wrong in ("", "-1", "nan", "inf", "1e9", "soon", "²"):
        assert seconds_of(wrong) == 0
