"""The files of deploy/systemd: settings that exist, units that agree, and the command that has their settings."""

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from limner.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/systemd"
UNITS = ("limner.service", "limner-worker.service")


def _unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / name)
    return {section: dict(parser[section]) for section in parser.sections()}


def _variables() -> dict[str, str]:
    lines = [line for line in (FOLDER / "limner.env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_its_settings_are_valid() -> None:
    given = {name: value for name, value in _variables().items() if name.startswith("LIMNER_")}
    assert set(given) <= {variable(name) for name in Settings.model_fields}
    state = _unit("limner.service")["Service"]["StateDirectory"]
    assert given["LIMNER_BLOBS_URL"].startswith(f"/var/lib/{state}/")
    assert given["LIMNER_DATABASE_URL"].startswith(f"sqlite:////var/lib/{state}/")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_running_jobs_time_and_has_few_rights(name: str) -> None:
    service = _unit(name)["Service"]
    drain_s = Settings.model_fields["drain_s"].default
    assert int(service["TimeoutStopSec"]) > drain_s
    assert (service["User"], service["EnvironmentFile"]) == ("limner", "/etc/limner.env")
    assert (service["CapabilityBoundingSet"], service["NoNewPrivileges"]) == ("", "true")
    assert service["OOMPolicy"] == "continue", "a worker process that the kernel ends is no reason to stop"


def test_both_units_differ_only_in_what_they_run() -> None:
    web, worker = (_unit(name)["Service"] for name in UNITS)
    differing = {key for key in web.keys() | worker.keys() if web.get(key) != worker.get(key)}
    assert differing == {"ExecStart", "Restart", "RestartSec"}
    assert web["ExecStart"].split()[-1] == "serve"
    assert worker["ExecStart"].split()[-1] == "work"


def test_the_command_has_the_settings_and_is_run_by_the_services_user(tmp_path: Path) -> None:
    """With a `runuser` that tells what it is given: the real one needs root and the user."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "runuser").write_text('#!/bin/sh\numask\nenv | grep ^LIMNER_ | sort\nprintf "%s\\n" "$@"\n')
    (tools / "runuser").chmod(0o755)
    settings = tmp_path / "limner.env"
    settings.write_text(
        "LIMNER_DATABASE_URL=sqlite:////a.db\nLIMNER_DATABASE_URL=\"postgresql:///l?host=/run&x='y'\"\n"
    )
    script = tmp_path / "limner"
    script.write_text((FOLDER / "limner").read_text().replace("/etc/limner.env", str(settings)))
    environment = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    told = subprocess.run(
        ["sh", script, "keys", "create", "a b"], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told == [
        "0077",
        "LIMNER_DATABASE_URL=postgresql:///l?host=/run&x='y'",  # the last one holds, as systemd has it
        *("-u", "limner", "--", "/opt/limner/.venv/bin/limner", "keys", "create", "a b"),
    ]
    assert os.access(FOLDER / "limner", os.X_OK)
