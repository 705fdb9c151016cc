"""service/headcount/settings.py: what the service refuses to start with."""

from datetime import UTC, datetime

import pytest

from headcount.settings import Settings, SettingsRefused


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
