"""What commands say of the passwords and tokens that they are given: nothing, however wrong an address is."""

import asyncio
import io
import logging
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner, Result

from headcount import client
from headcount.addresses import show_database, show_server
from headcount.cli import main
from headcount.logs import configure_logs
from headcount.settings import Settings, SettingsRefused
from tests.commands.support import OF_THE_SUITE, PATIENCE, free_port, headcount, running
from tests.http.test_settings import COMMANDS as ALL_COMMANDS

# A password, and what may stand in the middle of it.
FIRST, LAST = "Gx7Qz9", "WkPvJ4"
RAW = ["/", "#", "?", "@", "%", "%ZZ", " ", "&", ":", "=", ",", "[", "]", "\\", "'", '"', "\n", "/@", "?a=", "&a=", "é"]
PASSWORDS = [FIRST + raw + LAST for raw in RAW]
# Nobody listens at the port, and nobody has the name.
SERVERS = ["127.0.0.1:9", "db.invalid"]
ADDRESSES = [
    *(f"postgresql://u:{password}@{server}/x" for password in PASSWORDS for server in SERVERS),
    *(f"postgresql://u@127.0.0.1:9/x?password={password}" for password in PASSWORDS),
    *(f"postgresql://127.0.0.1:9?password={password}" for password in PASSWORDS),
    *(f"{scheme}://u:{FIRST}{LAST}@127.0.0.1:9/x" for scheme in ("mysql", "postgresql+asyncpg", "jdbc:postgresql", "")),
    f"postgresql://u:{FIRST}{LAST}",
    f"postgresql://u:{FIRST}{LAST}/x",
    f"postgresql://u:{FIRST}{LAST}:127.0.0.1:9/x",
    f"postgresql://u:12345/{FIRST}{LAST}@127.0.0.1:9/x",
    f"postgresql:/u:{FIRST}{LAST}@127.0.0.1:9/x",
    f" postgresql://u:{FIRST}{LAST}@127.0.0.1:9/x",
    f"postgresql://u:{FIRST}{LAST}@127.0.0.1:9/x\n",
    f"u:{FIRST}{LAST}@127.0.0.1:9/x",
    f"host=127.0.0.1 port=9 user=u password={FIRST}{LAST}",
    f"host=127.0.0.1 port=9 user=u password='{FIRST} {LAST}'",
    f"host=db.invalid password={FIRST}{LAST}",
    f"{FIRST}{LAST}",
]
# Those that go on when there is no database have a test of their own.
COMMANDS = {name: ALL_COMMANDS[name] for name in ("migrate", "token", "verify", "retain", "import", "apply")}
PIECES = {word[at : at + 4].lower() for word in (FIRST, LAST) for at in range(len(word) - 3)}


def assert_kept(said: str) -> None:
    shown = [piece for piece in PIECES if piece in said.lower()]
    assert not shown, said


def invoke(*arguments: str, **variables: str) -> Result:
    chosen: dict[str, str | None] = {**dict.fromkeys(OF_THE_SUITE), **variables}
    done = CliRunner().invoke(main, arguments, env=chosen)
    assert done.exit_code != 0, done.output
    assert isinstance(done.exception, SystemExit), done.exc_info
    assert_kept(done.output)
    return done


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").write_text('[[spaces]]\nid = "hall"\n')
    (tmp_path / "events.csv").write_text("timestamp,direction,dpu_id\n")
    return tmp_path


def arguments_of(command: str) -> list[str]:
    file = "events.csv" if command == "import" else "site.toml"
    return [argument if argument != ALL_COMMANDS["import"][1] else file for argument in COMMANDS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_a_part_of_a_password(command: str, files: Path) -> None:
    for address in ADDRESSES:
        said = invoke(*arguments_of(command), DATABASE_URL=address).output
        assert "Traceback" not in said
        assert re.search(r"DATABASE_URL|127\.0\.0\.1:9|db\.invalid", said), said


@pytest.mark.parametrize("command", ["serve", "run", "consume"])
def test_those_that_go_on_refuse_an_address_that_can_be_read_in_two_ways(command: str, files: Path) -> None:
    options = ["--nats", "nats://127.0.0.1:9"] if command == "consume" else []
    refused = 0
    for address in ADDRESSES:
        if show_database(address) == "DATABASE_URL":
            said = invoke(
                command, *options, DATABASE_URL=address, PORT=str(free_port()), HEADCOUNT_PORT=str(free_port())
            ).output
            assert said.startswith("Error: DATABASE_URL cannot be read.")
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u@127.0.0.1:9/x?password={FIRST}{LAST}",
        f"postgresql://u:{FIRST}%ZZ{LAST}@127.0.0.1:9/x",
        f"postgresql://u:{FIRST} {LAST}@db.invalid/x",
        f"postgresql://u@127.0.0.1:9/x?password={FIRST}&{LAST}",
    ],
)
async def test_the_log_of_the_service_has_no_part_of_it(address: str, tmp_path: Path) -> None:
    chosen = {"DATABASE_URL": address, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(free_port())}
    # a replica that has one too
    chosen["HEADCOUNT_READ_URL"] = f"postgresql://u:{FIRST}#{LAST}@127.0.0.1:9/x"
    with running(tmp_path, "serve", **chosen) as process:
        if "&" in address:
            assert await asyncio.to_thread(process.process.wait, PATIENCE) == 1
        else:
            await asyncio.to_thread(process.wait_for, "Serving on")
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{chosen['HEADCOUNT_PORT']}", timeout=PATIENCE
            ) as http:
                assert (await http.get("/v1/spaces")).status_code == 503
            await asyncio.to_thread(process.wait_for, "The replica is not read")
            assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
    assert "DATABASE_URL" in process.said or "There is no database yet" in process.said
    assert_kept(process.said)


async def test_a_server_that_is_there_gets_none_of_it_quoted(database_url: str) -> None:
    """A raw & makes parameters of the rest of a password, and the server names those that it does not know."""
    joint = "&" if "?" in database_url else "?"
    for rest in (f"&{LAST}=1", f"&{LAST}", f"#{LAST}", f"@{LAST}"):
        done = await headcount("token", "list", url=f"{database_url}{joint}password={FIRST}{rest}")
        assert_kept(done.output)


@pytest.mark.parametrize("address", [*(f"nats://u:{password}@127.0.0.1:9" for password in PASSWORDS)])
async def test_addresses_of_nats_are_not_shown(address: str, tmp_path: Path) -> None:
    chosen = {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "HEADCOUNT_METRICS_PORT": str(free_port())}
    if show_server(address, "nats") is None:
        assert "--nats takes URLs" in invoke("consume", "--nats", address, **chosen).output
    elif "%" in address:  # one of them: each takes a second
        with running(tmp_path, "consume", HEADCOUNT_NATS_URL=address, **chosen) as process:
            await asyncio.to_thread(process.wait_for, "NATS: ")
            process.end()
        assert "Consuming from nats://127.0.0.1:9" in process.said
        assert_kept(process.said)


def test_a_token_of_nats_with_a_slash_is_not_taken_for_a_host() -> None:
    for raw in "/?#":
        assert show_server(f"nats://{FIRST}{raw}{LAST}@127.0.0.1:9", "nats") is None


def test_the_mail_server_is_one_only_if_it_can_be_told() -> None:
    for address in (
        f"smtp://u:25/{LAST}@h",
        f"smtp://{FIRST}/{LAST}@h:25",
        f"smtp://u:25?{LAST}@h",
        f"smtp://u:{LAST}",
    ):
        with pytest.raises(SettingsRefused, match="HEADCOUNT_SMTP_URL") as refused:
            Settings(smtp_url=address)
        assert_kept(str(refused.value))
    for address in ("smtp://h", "smtps://u:p@h:465/", "smtp+starttls://u:p%40q@[::1]:587", "smtp://u:p@q@h"):
        assert Settings(smtp_url=address).smtp_url == address


@pytest.mark.parametrize("variable", ["DATABASE_URL_FILE", "HEADCOUNT_SMTP_URL_FILE"])
def test_a_secret_that_stands_where_its_path_should_is_not_shown(variable: str, files: Path) -> None:
    for secret in (f"postgresql://u:{FIRST}{LAST}@127.0.0.1:9/x", f"{FIRST}{LAST}"):
        assert variable in invoke("migrate", **{"DATABASE_URL": "", variable: secret}).output


@pytest.mark.parametrize("password", [f"{FIRST}{LAST}", *PASSWORDS])
def test_the_address_of_a_service_is_shown_without_it(password: str, files: Path) -> None:
    done = invoke("apply", "site.toml", "--dry-run", "--url", f"http://u:{password}@127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer" in done.output or "--url cannot be read" in done.output
    with (
        client.Client(f"http://u:{FIRST}{LAST}@127.0.0.1:9", patience=0) as library,
        pytest.raises(client.Unavailable) as unavailable,
    ):
        library.counts()
    assert_kept(str(unavailable.value))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """It takes connections and closes them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)

        def close_all() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    if connection.recv(1) == b"":
                        return

        thread = Thread(target=close_all)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        socket.create_connection(server.getsockname()).close()
        thread.join()


@pytest.mark.parametrize("end", ["\n", " ", "\x01", "é"])
def test_a_token_that_is_none_is_not_shown(end: str, files: Path, silent_server: str) -> None:
    token = f"hc_{FIRST}{LAST}{end}"
    done = invoke("apply", "site.toml", "--dry-run", "--url", silent_server, HEADCOUNT_TOKEN=token)
    assert "HEADCOUNT_TOKEN" in done.output
    with pytest.raises(ValueError, match="no token has") as refused:
        client.Client(silent_server, token=token)
    assert_kept(str(refused.value))


def test_a_log_at_a_terminal_does_not_show_what_variables_hold() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root, stream = logging.getLogger(), Terminal()
    handlers, level = root.handlers[:], root.level
    configure_logs(logging.WARNING, stream)
    try:
        settings = Settings(database_url=f"postgresql://u:{FIRST}{LAST}@127.0.0.1:9/x")
        try:
            raise RuntimeError(f"with {len(settings.database_url)} characters")
        except RuntimeError:
            logging.getLogger("headcount.errors").exception("It went wrong")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "RuntimeError: with " in stream.getvalue()
    assert_kept(stream.getvalue())


def test_addresses_that_can_be_read_are_taken() -> None:
    for address, shown in (
        ("postgresql://u:p%40q%2F@h:5432/x?sslmode=require", "postgresql://h:5432/x"),
        ("postgres://u@[::1]:5432/x", "postgresql://[::1]:5432/x"),
        ("postgresql://u:p@h1:1,h2:2/x?target_session_attrs=read-write", "postgresql://h1:1,h2:2/x"),
        ("postgresql://h", "postgresql://h"),
        ("postgresql:///x?host=/run/postgresql&password=p", "DATABASE_URL"),
        ("postgresql://u@/x?host=/tmp/a%40b", "DATABASE_URL"),
        ("postgresql://%2Frun%2Fpostgresql/x", "postgresql://%2Frun%2Fpostgresql/x"),
    ):
        assert Settings(database_url=address).database_url == address
        assert show_database(address) == shown
