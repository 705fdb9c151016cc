"""compose.yaml and what it mounts. Nothing here needs a Docker engine."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from headcount.settings import SECRETS, VARIABLES, Settings
from tests.commands.support import PATIENCE, answers, free_port, headcount, serving
from tests.load.cluster import private_cluster
from tests.nats.server import nats_program

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
THEIRS = [name for name in SERVICES if name not in OURS]
LASTING = [name for name in SERVICES if name != "migrate"]
SECRET_FILES = {name: secret["file"].removeprefix("./") for name, secret in COMPOSE["secrets"].items()}
# What compose.yaml decides itself: addresses within the network, and what comes from its own secrets.
FIXED = {"DATABASE_URL", "HEADCOUNT_HOST", "HEADCOUNT_PORT", "HEADCOUNT_METRICS_PORT", "HEADCOUNT_NATS_URL"}


def test_it_starts_the_database_then_migrates_then_serves() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["db", "migrate", "service"]
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("service", "consume", "consume-heartbeats", "grafana"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_it_has_profiles_for_what_not_everybody_needs() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    consumers = {"consume": ["nats"], "consume-heartbeats": ["nats"]}
    others = {"grafana": ["grafana"], "backup": ["backup"], "caddy": ["tls"]}
    assert profiles == {"nats": ["nats"], **consumers, **others}


@pytest.mark.parametrize("name", THEIRS)
def test_it_pins_every_image_by_its_whole_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?", SERVICES[name]["image"])


def test_the_database_is_postgresql_17_and_is_backed_up_by_its_own_programs() -> None:
    assert SERVICES["db"]["image"].endswith("-pg17")
    assert SERVICES["backup"]["image"] == SERVICES["db"]["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_it_lets_nothing_do_more_than_it_has_to(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("root", "0", "")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
    if name != "caddy":  # which is there to be reached
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", LASTING)
def test_it_asks_whatever_lasts_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


@pytest.mark.parametrize("name", OURS)
def test_it_passes_every_setting_that_env_gives(name: str) -> None:
    passed = {variable for variable, value in SERVICES[name]["environment"].items() if value is None}
    free = set(VARIABLES.values()) - FIXED
    assert passed == free | {f"{variable}_FILE" for variable in SECRETS & free}


@pytest.mark.parametrize("name", OURS)
def test_what_it_sets_itself_is_read_from_its_own_secrets(name: str) -> None:
    ours = {variable: value for variable, value in SERVICES[name]["environment"].items() if value is not None}
    assert {variable.removesuffix("_FILE") for variable in ours} <= FIXED
    assert list(ours.values()) == [f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]]


def test_only_the_migration_and_the_backup_are_the_superuser() -> None:
    assert SERVICES["migrate"]["secrets"] == ["owner_url"]
    assert SERVICES["backup"]["secrets"] == ["postgres_password"]
    for name in OURS:
        if name != "migrate":
            assert set(SERVICES[name]["secrets"]) <= {"service_url", "nats_url"}


def test_it_knows_no_password() -> None:
    assert "PASSWORD:" not in (ROOT / "compose.yaml").read_text()
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if "PASSWORD" in variable:
                assert value.startswith("/run/secrets/"), (name, variable)
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def make_secrets(folder: Path, env: str | None = None) -> dict[str, str]:
    """What the script writes, by path."""
    if env is not None:
        (folder / ".env").write_text(env)
    subprocess.run([ROOT / "deploy/make-secrets.sh"], cwd=folder, check=True, timeout=PATIENCE, capture_output=True)
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted((folder / "secrets").iterdir())
        if path.is_file()
    }


def test_the_script_makes_every_secret_once(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    assert set(made) >= set(SECRET_FILES.values())
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert (tmp_path / "secrets/more").is_dir()
    # those within a container are other users
    assert {stat.S_IMODE((tmp_path / path).stat().st_mode) for path in made} == {0o644}
    assert make_secrets(tmp_path) == made
    password = made["secrets/service_password"].strip()
    assert len(password) == 48
    assert made["secrets/service_url"] == f"postgresql://headcount_service:{password}@db:5432/headcount\n"
    assert len(set(made.values())) == len(made)


def test_the_script_takes_over_the_passwords_of_an_older_release(tmp_path: Path) -> None:
    made = make_secrets(tmp_path, "POSTGRES_PASSWORD=abc\nNATS_PASSWORD=17k\nPORT=8001\n")
    assert made["secrets/owner_url"] == "postgresql://postgres:abc@db:5432/headcount\n"
    assert made["secrets/nats_login.conf"] == 'password: "17k"\n'
    (tmp_path / "secrets/bi_password").unlink()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        make_secrets(tmp_path, "BI_PASSWORD=it's\n")
    assert b"The bi password" in failed.value.stderr


def test_the_service_reads_the_urls_that_the_script_writes(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    variables = {"DATABASE_URL_FILE": "service_url", "HEADCOUNT_NATS_URL_FILE": "nats_url"}
    found = Settings.from_environment({name: str(tmp_path / "secrets" / file) for name, file in variables.items()})
    assert found.database_url == made["secrets/service_url"].strip()
    assert found.nats_url == made["secrets/nats_url"].strip()


def test_secrets_are_neither_committed_nor_sent_to_an_image() -> None:
    assert {"secrets/", ".env"} <= set((ROOT / ".gitignore").read_text().splitlines())
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_on_a_command_line(name: str) -> None:
    """Everybody on the machine can read it there."""
    said = str([SERVICES[name].get("command"), SERVICES[name].get("entrypoint"), SERVICES[name].get("healthcheck")])
    assert "PASSWORD" not in said
    assert not re.search(r"--pass\b", said)


# 5e7 would be a number, 17k one thousand times as much
@pytest.mark.parametrize("password", ["3f9a0c", "5e7", "123456", "17k", "true"])
def test_nats_takes_the_password_from_its_file(tmp_path: Path, password: str) -> None:
    port, monitor, mqtt = free_port(), free_port(), free_port()
    config = tmp_path / "headcount.conf"
    text = (ROOT / "deploy/nats.conf").read_text()
    for there, here in (("http: 8222", f"http: 127.0.0.1:{monitor}"), ("port: 1883", f"listen: 127.0.0.1:{mqtt}")):
        assert there in text
        text = text.replace(there, here)
    config.write_text(text.replace("/var/tmp", str(tmp_path / "store")))
    [secret] = SERVICES["nats"]["secrets"]
    made = make_secrets(tmp_path, f"NATS_PASSWORD={password}\n")
    (tmp_path / Path(secret["target"]).name).write_text(made[SECRET_FILES[secret["source"]]])
    with subprocess.Popen(
        [nats_program(), "--config", config, "--addr", "127.0.0.1", "--port", str(port)],
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
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        ):
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


def test_grafana_gets_the_password_of_bi_from_its_file(tmp_path: Path) -> None:
    assert SERVICES["grafana"]["entrypoint"] == ["/bin/sh", "/etc/grafana/start.sh"]
    (tmp_path / "password").write_text("s3cret\n")
    script = (ROOT / "deploy/grafana/start.sh").read_text().replace("/run.sh", "env")
    done = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "BI_PASSWORD_FILE": str(tmp_path / "password")}, capture_output=True
    )
    assert b"\nBI_PASSWORD=s3cret\n" in b"\n" + done.stdout


def test_caddy_takes_its_configuration() -> None:
    text = (ROOT / "deploy/Caddyfile").read_text()
    assert "reverse_proxy service:8000" in text
    ports = [port.split(":")[1] for port in SERVICES["caddy"]["ports"]]
    assert ports == re.findall(r"https?_port (\d+)", text)
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("Caddy is not installed")
    done = subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", ROOT / "deploy/Caddyfile"],
        env={**os.environ, "DOMAIN": "localhost"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_guide_makes_the_secrets_before_it_starts_anything() -> None:
    text = (ROOT / "docs/how-to/install.md").read_text()
    assert re.search(r"^deploy/make-secrets.sh\ndocker compose up --build", text, re.M)


@pytest.mark.parametrize("name", SERVICES)
def test_it_mounts_what_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, rest = volume.replace("${BACKUPS:-backups}", "backups").split(":", 1)
        if source.startswith("./secrets/"):
            assert rest == "/run/more:ro"
        elif source.startswith("."):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_compose_itself_takes_it() -> None:
    commands = (["docker", "compose"], ["docker-compose"])
    found = [command for command in commands if shutil.which(command[0]) and _version(command) >= 2]
    if not found:
        pytest.skip("Docker Compose is not installed")
    subprocess.run(
        [*found[0], "--file", ROOT / "compose.yaml", "--profile", "*", "config", "--quiet"],
        check=True,
        timeout=PATIENCE,
    )


def _version(command: list[str]) -> int:
    said = subprocess.run(
        [*command, "version", "--short"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return int(said.stdout.lstrip("v").split(".")[0]) if said.returncode == 0 else 0


def make_logins(environment: dict[str, str]) -> None:
    subprocess.run([ROOT / "deploy/logins.sh"], check=True, env=environment, timeout=PATIENCE)


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
            "BI_PASSWORD_FILE": str(tmp_path / "bi_password"),
        }
        (tmp_path / "bi_password").write_text("b\n")
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
