"""The stack of containers as it is written: hardened, limited, with one way in and no secret of its own."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from limner.settings import PREFIX, Settings, variable
from tests.services.process import find_program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
STACK = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
RUNS_ONCE = {"migrate", "s3-owner"}
SECRET = re.compile(r"PASSWORD|SECRET|_KEY|LOGIN")


def _variables(text: str) -> dict[str, set[str]]:
    """The variables of a text, each with what follows its name: `:?…`, `:-…` or nothing."""
    found: dict[str, set[str]] = {}
    for name, rest in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text):
        found.setdefault(name, set()).add(rest)
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "s3-owner" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service["user"].partition(":")[0]
    assert (user == "0") is (name == "s3-owner"), "only the one that gives a volume away is root, with that right alone"
    assert service["mem_limit"]
    assert service["cpus"]
    assert 0 < service["pids_limit"] <= 300
    assert service["logging"]["options"]["max-size"]
    assert service["restart"] == ("on-failure" if name in RUNS_ONCE else "unless-stopped")
    assert "privileged" not in service
    assert "container_name" not in service, "it could not be scaled"


@pytest.mark.parametrize("name", sorted(set(SERVICES) - RUNS_ONCE - {"web", "flower"}))
def test_every_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_the_web_service_has_the_health_check_of_the_image() -> None:
    assert "healthcheck" not in SERVICES["web"]
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_only_nginx_publishes_ports_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"nginx"}
    for port in published["nginx"]:
        assert port.startswith(("127.0.0.1:", "${LISTEN:-127.0.0.1}:"))


def test_only_what_calls_the_internet_has_a_way_out() -> None:
    assert STACK["networks"]["inside"]["internal"] is True
    others = {name: set(service.get("networks", [])) - {"inside"} for name, service in SERVICES.items()}
    assert {name: networks for name, networks in others.items() if networks} == {
        "nginx": {"published"},
        "web": {"outside"},
        "worker-remote": {"outside"},
    }


def test_no_secret_has_a_default() -> None:
    for name, uses in _variables(TEXT).items():
        if SECRET.search(name):
            assert uses == {":?run deploy/make_env.sh"}, name
    for line in TEXT.splitlines():
        variable_, _, value = line.strip().partition(": ")
        if variable_.isupper() and SECRET.search(variable_):
            assert value.startswith("${"), line


def test_secrets_are_written_once_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    script = [DEPLOY / "make_env.sh", file]
    subprocess.run(script, check=True, capture_output=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_text()
    values = dict(line.split("=") for line in first.splitlines() if not line.startswith("#"))
    required = {name for name, uses in _variables(TEXT).items() if any(rest.startswith(":?") for rest in uses)}
    assert set(values) == required
    assert len(set(values.values())) == len(values)
    assert all(len(value) >= 20 for value in values.values())
    assert len(values["LIMNER_ADMIN_KEY"]) >= 32

    subprocess.run(script, check=True, capture_output=True)
    assert file.read_text() == first
    subprocess.run([DEPLOY / "make_env.sh", tmp_path / "other"], check=True, capture_output=True)
    assert not set(values.values()) & set(re.findall(r"=(.*)", (tmp_path / "other").read_text()))


def test_every_setting_exists() -> None:
    settings = {variable(name) for name in Settings.model_fields}
    files = [DEPLOY / "compose.yaml", *DEPLOY.glob("blobs-*.env"), *(DEPLOY / "helm").rglob("*.yaml")]
    used = {word for file in files for word in re.findall(rf"\b({PREFIX}[A-Z0-9_]+)\s*[:=,]", file.read_text())}
    used -= {"LIMNER_IMAGE", "LIMNER_GPU_IMAGE"}  # of compose.yaml itself
    assert len(used) > 8
    assert used <= settings


def test_every_file_that_is_mounted_exists() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [volume.partition(":")[0] for volume in mounted if volume.startswith("./")]
    assert files
    assert [file for file in files if not (DEPLOY / file).exists()] == []
    named = {volume.partition(":")[0] for volume in mounted} - set(files)
    assert named == set(STACK["volumes"])


def test_it_follows_the_compose_specification() -> None:
    command = [find_program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_follows_the_rules_of_hadolint() -> None:
    done = subprocess.run([find_program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
