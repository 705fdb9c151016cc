"""service/headcount/settings.py: what the service refuses to start with."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from headcount.cli import main
from headcount.settings import SECRETS, VARIABLES, Settings, SettingsRefused


def read(environment: dict[str, str]) -> Settings:
    return Settings.from_environment({"DATABASE_URL": "postgresql://x/y", **environment})


def test_it_reads_the_environment_and_takes_empty_for_not_set() -> None:
    found = read(
        {"HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": "8123", "HEADCOUNT_HOST": "", "DATABASE_URL": "postgresql://x/y"}
    )
    assert (found.auth, found.port, found.host, found.database_url) == ("off", 8123, "127.0.0.1", "postgresql://x/y")


def test_it_is_protected_by_default_and_can_then_be_reached_from_anywhere() -> None:
    assert read({}).auth == "required"
    assert read({"HEADCOUNT_HOST": "192.168.1.5"}).auth == "required"


def test_it_reads_origins_and_limits() -> None:
    found = read(
        {"HEADCOUNT_CORS_ORIGINS": "https://a.example, http://localhost:3000", "HEADCOUNT_EVENTS_PER_SECOND": "100"}
    )
    assert found.cors_origins == ("https://a.example", "http://localhost:3000")
    assert (found.events_per_second, found.requests_per_second) == (100, None)


def test_it_reads_a_date_or_an_instant_from_which_events_are_taken() -> None:
    assert read({}).events_from is None
    for text in ("2005-01-01", "2005-01-01T01:00:00+01:00"):
        found = read({"HEADCOUNT_EVENTS_FROM": text}).events_from
        assert found == datetime(2005, 1, 1, tzinfo=UTC)
    for text in ("2005", "2005-13-01", "2005-01-01T00:00:00"):
        with pytest.raises(SettingsRefused, match="HEADCOUNT_EVENTS_FROM"):
            read({"HEADCOUNT_EVENTS_FROM": text})


def test_it_reads_where_notices_may_go() -> None:
    found = read(
        {
            "HEADCOUNT_PRIVATE_TARGETS": "10.1.0.0/16, ::1/128",
            "HEADCOUNT_APPRISE_SCHEMES": "slack,ntfys",
            "HEADCOUNT_SMTP_URL": "smtp+starttls://user:s3cret@mail.example:587",
            "HEADCOUNT_SEND_NOTICES": "false",
        }
    )
    assert found.private_targets == ("10.1.0.0/16", "::1/128")
    assert (found.apprise_schemes, found.send_notices) == (("slack", "ntfys"), False)
    with pytest.raises(SettingsRefused) as refused:
        read({"HEADCOUNT_SMTP_URL": "imap://user:s3cret@mail.example"})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_it_goes_unprotected_on_a_loopback_address(host: str) -> None:
    assert Settings(auth="off", host=host).host == host


@pytest.mark.parametrize(
    "host", [".".join("0000"), "::", "192.168.1.5", "example.org", "localhost.example.org", "127.0.0.1.nip.io"]
)
def test_it_goes_unprotected_nowhere_else(host: str) -> None:
    with pytest.raises(SettingsRefused, match="loopback"):
        Settings(auth="off", host=host)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADCOUNT_AUTH", "no"),
        ("HEADCOUNT_PORT", "http"),
        ("HEADCOUNT_PORT", "65536"),
        ("HEADCOUNT_METRICS_PORT", "0"),
        ("HEADCOUNT_NATS_KEY", "key.pem"),
        ("HEADCOUNT_POOL_SIZE", "0"),
        ("HEADCOUNT_AUTO_REGISTER", "perhaps"),
        ("HEADCOUNT_EVENTS_PER_SECOND", "0"),
        ("HEADCOUNT_CORS_ORIGINS", "example.org"),
        ("HEADCOUNT_CORS_ORIGINS", "https://example.org/page"),
        ("HEADCOUNT_PRIVATE_TARGETS", "10.1.2.3/16"),
        ("HEADCOUNT_PRIVATE_TARGETS", "receiver.example"),
        ("HEADCOUNT_SMTP_URL", "mail.example:25"),
        ("HEADCOUNT_SMTP_URL", "smtp://mail.example:port"),
        ("HEADCOUNT_SEND_NOTICES", "perhaps"),
    ],
)
def test_it_refuses_a_wrong_value_and_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsRefused, match=variable):
        read({"HEADCOUNT_AUTH": "off", variable: value})


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("HEADCOUNT_SMPT_URL", "Did you mean HEADCOUNT_SMTP_URL?"),
        ("HEADCOUNT_POOLSIZE", "Did you mean HEADCOUNT_POOL_SIZE?"),
        ("HEADCOUNT_NATS_URL_FIEL", "Did you mean HEADCOUNT_NATS_URL_FILE?"),
        ("HEADCOUNT_XYZZY", "docs/reference/settings.md"),
        ("HEADCOUNT_PORT_FILE", "HEADCOUNT_PORT is no secret"),
        ("HEADCOUNT_SERVICE_HOST", "enableServiceLinks: false"),
        ("HEADCOUNT_PORT_8000_TCP_ADDR", "enableServiceLinks: false"),
    ],
)
def test_it_refuses_a_variable_that_does_not_exist_and_says_which_was_meant(variable: str, advice: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        read({variable: "x"})
    assert variable in str(refused.value)
    assert advice in str(refused.value)
    assert read({variable: ""}) == read({})


def test_it_says_where_a_port_that_nobody_set_comes_from() -> None:
    with pytest.raises(SettingsRefused, match="enableServiceLinks"):
        read({"HEADCOUNT_PORT": "tcp://10.0.0.1:8000"})


def test_it_takes_variables_that_are_for_others() -> None:
    for variable in ("HEADCOUNT_TOKEN", "HEADCOUNT_TOKEN_FILE", "HEADCOUNT_CACHE", "HEADCOUNT_VERSION"):
        assert read({variable: "x"}) == read({})


COMMANDS = {
    "serve": ["serve"],
    "consume": ["consume"],
    "run": ["run"],
    "migrate": ["migrate"],
    "import": ["import", __file__],
    "apply": ["apply", __file__],
    "apply by url": ["apply", __file__, "--url", "http://127.0.0.1:9"],
    "token": ["token", "list"],
    "retain": ["retain"],
    "verify": ["verify"],
    "simulate": ["simulate", "--url", "http://127.0.0.1:9"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_misspelt_variable(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "site.toml"
    file.write_text("")
    arguments = [str(file) if argument == __file__ else argument for argument in COMMANDS[command]]
    done = CliRunner().invoke(main, arguments, env={"DATABASE_URL": "postgresql://x/y", "HEADCOUNT_SMPT_URL": "x"})
    assert done.exit_code == 1, done.output
    assert "Did you mean HEADCOUNT_SMTP_URL?" in done.output


def test_what_holds_a_password_can_come_from_a_file(tmp_path: Path) -> None:
    assert {variable for variable in VARIABLES.values() if variable.endswith("_URL")} | {"HEADCOUNT_TOKEN"} == SECRETS
    path = tmp_path / "secret"
    path.write_text("postgresql://u:p@h/d\n")
    for variable in SECRETS - {"HEADCOUNT_TOKEN", "HEADCOUNT_SMTP_URL"}:
        name = next(name for name, known in VARIABLES.items() if known == variable)
        found = Settings.from_environment({f"{variable}_FILE": str(path)}, needs_database=False)
        assert getattr(found, name) == "postgresql://u:p@h/d"


def test_it_says_what_is_wrong_with_a_secret_s_file_and_not_what_is_in_it(tmp_path: Path) -> None:
    secret, empty = tmp_path / "secret", tmp_path / "empty"
    secret.write_text("smtp://mail.example:s3cret")
    empty.write_text("\n")
    for given, said in (
        ({"HEADCOUNT_SMTP_URL_FILE": str(tmp_path / "nothing")}, "No such file"),
        ({"HEADCOUNT_SMTP_URL_FILE": str(tmp_path)}, "Is a directory"),
        ({"HEADCOUNT_SMTP_URL_FILE": str(empty)}, "empty"),
        ({"HEADCOUNT_SMTP_URL_FILE": str(secret)}, "must be smtp://"),
        ({"HEADCOUNT_SMTP_URL_FILE": str(secret), "HEADCOUNT_SMTP_URL": "smtp://h"}, "both set"),
    ):
        with pytest.raises(SettingsRefused, match="HEADCOUNT_SMTP_URL") as refused:
            read(given)
        assert said in str(refused.value)
        assert "s3cret" not in str(refused.value)
