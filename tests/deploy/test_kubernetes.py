"""deploy/kubernetes: valid for Kubernetes, and it says the same as the service, its settings and compose.yaml."""

import importlib
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headcount.settings import SECRETS, VARIABLES
from tests.commands.support import PATIENCE
from tests.deploy.test_compose import SERVICES

kubernetes_validate = importlib.import_module("kubernetes_validate")  # which has no types

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
FILES = [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name != "kustomization.yaml"]
EXAMPLE = FOLDER / "overlays/example"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{document['kind']} {document['metadata']['name']}", document


DOCUMENTS = dict(documents())
PODS = {
    name: found["spec"]["template"]["spec"] for name, found in DOCUMENTS.items() if "template" in found.get("spec", {})
}


@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_there_is_one_for_each_part_of_ours_in_compose() -> None:
    ours = {tuple(service["command"]) for service in SERVICES.values() if "build" in service}
    commands = {tuple(pod["containers"][0]["args"]) for pod in PODS.values()}
    assert {command[:1] for command in commands} == {command[:1] for command in ours}
    assert commands == {("migrate",), ("serve",), ("consume", "--what", "events"), ("consume", "--what", "heartbeats")}
    assert PODS["Job headcount-migrate"]["containers"][0]["args"] == ["migrate"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_do_no_more_than_it_has_to(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == SERVICES["service"]["user"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert all(set(amounts) == {"cpu", "memory"} for amounts in container["resources"].values())
    assert container["image"] == "headcount"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_gets_settings_that_exist_and_secrets_by_file(name: str) -> None:
    pod = PODS[name]
    assert pod["enableServiceLinks"] is False, "or HEADCOUNT_PORT is tcp://... and the service refuses to start"
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    secrets = {mounts[volume["name"]] for volume in pod["volumes"] if "secret" in volume}
    for variable in container["env"]:
        assert variable["name"].removesuffix("_FILE") in SECRETS & set(VARIABLES.values())
        assert str(Path(variable["value"]).parent) in secrets
    users = {"owner_url": "headcount-owner", "service_url": "headcount-service"}
    url = Path(container["env"][0]["value"]).name
    assert pod["volumes"][0]["secret"]["secretName"] == users[url]
    assert (url == "owner_url") == (container["args"] == ["migrate"]), "only the migration is the owner"


@pytest.mark.parametrize("name", [name for name in PODS if not name.startswith("Job")])
async def test_the_probes_ask_addresses_that_exist(name: str, client: httpx.AsyncClient) -> None:
    [container] = PODS[name]["containers"]
    [port] = container["ports"]
    consumes = container["args"][0] == "consume"
    assert port["containerPort"] == (8001 if consumes else 8000)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert asked["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")
        assert (await client.get(asked["path"])).status_code == 200


def test_the_service_leads_to_the_pods_that_serve() -> None:
    labels = DOCUMENTS["Deployment headcount"]["spec"]["template"]["metadata"]["labels"]
    assert DOCUMENTS["Service headcount"]["spec"]["selector"] == labels
    assert DOCUMENTS["NetworkPolicy headcount"]["spec"]["podSelector"]["matchLabels"] == labels
    assert DOCUMENTS["PodDisruptionBudget headcount"]["spec"]["selector"]["matchLabels"] == labels
    for name, found in DOCUMENTS.items():
        if found["kind"] == "Deployment":
            template = found["spec"]["template"]["metadata"]["labels"]
            assert found["spec"]["selector"]["matchLabels"] == template, name


def test_the_image_is_of_this_release() -> None:
    [image] = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == VERSION
    assert SERVICES["service"]["image"] == f"headcount:${{HEADCOUNT_VERSION:-{VERSION}}}"


def render(folder: Path, overlay: str) -> list[dict[str, Any]]:
    program = shutil.which("kustomize")
    command = [program, "build"] if program else [shutil.which("kubectl") or "", "kustomize"]
    if not command[0]:
        pytest.skip("kubectl is not installed")
    shutil.copytree(FOLDER, folder / "kubernetes")
    path = folder / "kubernetes" / overlay
    for name in ("owner_url", "service_url", "nats_url"):
        (path / name).write_text("x")
    done = subprocess.run([*command, path], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_the_example_is_put_together_and_is_valid(tmp_path: Path) -> None:
    made = render(tmp_path, "overlays/example")
    kinds = sorted(document["kind"] for document in made)
    ours = ["Deployment", "Ingress", "Job", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service"]
    assert kinds == sorted([*ours, "ConfigMap", "Secret", "Secret"])
    names = {document["metadata"]["name"] for document in made}
    for document in made:
        kubernetes_validate.validate(document, "1.34", strict=True)
        if "template" in document.get("spec", {}):
            pod = document["spec"]["template"]["spec"]
            assert pod["containers"][0]["image"] == f"registry.example.org/headcount:{VERSION}"
            assert pod["volumes"][0]["secret"]["secretName"] in names, "its name changes with what is in it"
            assert pod["containers"][0]["envFrom"][0]["configMapRef"]["name"] in names


def test_the_way_through_nats_is_added_by_a_line(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "own")
    text = (EXAMPLE / "kustomization.yaml").read_text()
    assert "# components: [../../components/nats]" in text
    made = [path for path in FILES if "components" in path.parts]
    [consume] = made
    listed = yaml.safe_load((consume.parent / "kustomization.yaml").read_text())
    assert listed["kind"] == "Component"
    assert listed["resources"] == [consume.name]
