"""compose.yaml and what it mounts. Nothing here needs a Docker engine."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from headcount.settings import VARIABLES
from tests.commands.support import answers, free_port, headcount, serving
from tests.load.cluster import private_cluster
from tests.nats.server import nats_program

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
THEIRS = [name for name in SERVICES if name not in OURS]
LASTING = [name for name in SERVICES if name != "migrate"]
PASSWORDS = ("POSTGRES_PASSWORD", "SERVICE_PASSWORD", "BI_PASSWORD", "GRAFANA_PASSWORD", "NATS_PASSWORD")


def test_it_starts_the_database_then_migrates_then_serves() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["db", "migrate", "service"]
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("service", "consume", "consume-heartbeats", "grafana"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_it_has_profiles_for_nats_and_grafana() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    consumers = {"consume": ["nats"], "consume-heartbeats": ["nats"]}
    assert profiles == {"nats": ["nats"], **consumers, "grafana": ["grafana"]}


@pytest.mark.parametrize("name", THEIRS)
def test_it_pins_every_image_by_its_whole_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?", SERVICES[name]["image"])


def test_the_database_is_postgresql_17() -> None:
    assert SERVICES["db"]["image"].endswith("-pg17")


@pytest.mark.parametrize("name", SERVICES)
def test_it_lets_nothing_do_more_than_it_has_to(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("root", "0", "")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", LASTING)
def test_it_asks_whatever_lasts_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


@pytest.mark.parametrize("name", OURS)
def test_it_sets_variables_that_the_service_knows(name: str) -> None:
    known = set(VARIABLES.values())
    assert set(SERVICES[name]["environment"]) <= known
    assert all(value for value in SERVICES[name]["environment"].values())


def test_only_the_migration_is_the_superuser() -> None:
    users = {name: SERVICES[name]["environment"]["DATABASE_URL"].split(":")[1] for name in OURS}
    assert users.pop("migrate") == "//postgres"
    assert set(users.values()) == {"//headcount_service"}


def test_it_knows_no_password_and_refuses_to_start_without_them() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for password in PASSWORDS:
        assert f"${{{password}:?" in text, password
    assert not re.search(r"PASSWORD:-", text)
    assert set(re.findall(r"\$\{(\w*PASSWORD)", text)) == set(PASSWORDS)


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_on_a_command_line(name: str) -> None:
    """Everybody on the machine can read it there."""
    said = str([SERVICES[name].get("command"), SERVICES[name].get("entrypoint"), SERVICES[name].get("healthcheck")])
    assert "PASSWORD" not in said
    assert not re.search(r"--pass\b", said)


# 5e7 would be a number, 17k one thousand times as much
@pytest.mark.parametrize("password", ["3f9a0c", "5e7", "123456", "17k", "true"])
def test_nats_takes_the_password_from_the_environment(tmp_path: Path, password: str) -> None:
    port, monitor, mqtt = free_port(), free_port(), free_port()
    config = tmp_path / "headcount.conf"
    text = (ROOT / "deploy/nats.conf").read_text()
    for there, here in (("http: 8222", f"http: 127.0.0.1:{monitor}"), ("port: 1883", f"listen: 127.0.0.1:{mqtt}")):
        assert there in text
        text = text.replace(there, here)
    config.write_text(text.replace("/var/tmp", str(tmp_path / "store")))
    given = re.sub(r"\$\{NATS_PASSWORD:\?[^}]*\}", password, SERVICES["nats"]["environment"]["NATS_PASSWORD"])
    with subprocess.Popen(
        [nats_program(), "--config", config, "--addr", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "NATS_PASSWORD": given},
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            assert log_in_to_nats(port, password) == "PONG"
            assert "Authorization Violation" in log_in_to_nats(port, f"{password}x")
        finally:
            server.terminate()


def log_in_to_nats(port: int, password: str) -> str:
    """What the server says to it."""
    login = json.dumps({"user": "headcount", "pass": password, "verbose": False})
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"CONNECT {login}\r\nPING\r\n".encode())
            with connection.makefile() as lines:
                return next(line for line in lines if not line.startswith("INFO")).strip()
        time.sleep(0.1)
    raise AssertionError("it does not listen")


def test_grafana_can_use_tls() -> None:
    text = (ROOT / "deploy/grafana/provisioning/datasources/headcount.yaml").read_text()
    assert yaml.safe_load(text)["datasources"][0]["jsonData"]["sslmode"] == "$HEADCOUNT_DB_SSLMODE"
    environment = SERVICES["grafana"]["environment"]
    assert environment["HEADCOUNT_DB_SSLMODE"] == "${GRAFANA_DB_SSLMODE:-disable}"


def test_the_guide_makes_every_password_that_it_needs() -> None:
    text = (ROOT / "docs/how-to/install.md").read_text()
    found = re.search(r"^for name in ([A-Z ]+); do echo .*> \.env$", text, re.M)
    assert found
    assert {f"{name}_PASSWORD" for name in found[1].split()} == set(PASSWORDS)


@pytest.mark.parametrize("name", SERVICES)
def test_it_mounts_what_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_compose_itself_takes_it() -> None:
    commands = (["docker", "compose"], ["docker-compose"])
    found = [command for command in commands if shutil.which(command[0]) and _version(command) >= 2]
    if not found:
        pytest.skip("Docker Compose is not installed")
    environment = {**os.environ, **dict.fromkeys(PASSWORDS, "x")}
    subprocess.run(
        [*found[0], "--file", ROOT / "compose.yaml", "--profile", "*", "config", "--quiet"],
        check=True,
        env=environment,
        timeout=60,
    )


def _version(command: list[str]) -> int:
    said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=60, check=False)
    return int(said.stdout.lstrip("v").split(".")[0]) if said.returncode == 0 else 0


def make_logins(environment: dict[str, str]) -> None:
    subprocess.run([ROOT / "deploy/logins.sh"], check=True, env=environment, timeout=60)


async def test_its_logins_are_enough_to_migrate_to_serve_and_to_look(tmp_path: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    with private_cluster() as cluster:
        environment = {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(cluster.port),
            "POSTGRES_DB": "postgres",
            "SERVICE_PASSWORD": "it's",
            "BI_PASSWORD": "b",
        }
        await asyncio.to_thread(make_logins, environment)
        migrated = await headcount("migrate", url=cluster.url)
        assert migrated.exit_code == 0, migrated.output
        login = cluster.url.replace("postgres@", "headcount_service@")
        made = await headcount("token", "create", "--scope", "read", url=login)
        assert made.exit_code == 0, made.output
        port = free_port()
        with serving(tmp_path, login, port):
            assert answers(f"http://127.0.0.1:{port}/readyz")
            assert answers(f"http://127.0.0.1:{port}/v1/counts")
        with psycopg.connect(cluster.url.replace("postgres@", "headcount_bi@")) as looking:
            assert looking.execute("select count(*) from bi.spaces").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                looking.execute("select from core.event")
