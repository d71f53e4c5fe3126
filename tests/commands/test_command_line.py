"""The command `limner`: in any folder, as a module, and with messages about missing models and wrong variables."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from limner.assembly.engines import WORKER
from limner.cli import main
from tests.conftest import MODELS

Limner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def limner(tmp_path: Path) -> Limner:
    """Runs `python -m limner` in an empty folder, with an empty home folder and the tests' models."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").mkdir()

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "XDG_"))}
        return subprocess.run(
            [sys.executable, "-m", "limner", *arguments],
            env=inherited | {"HOME": str(tmp_path / "home"), "LIMNER_MODELS_DIR": str(MODELS), **variables},
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_module_is_the_command(limner: Limner) -> None:
    as_module = limner("--help")
    as_command = subprocess.run(
        [Path(sys.executable).with_name("limner"), "--help"], capture_output=True, text=True, check=True
    )
    assert as_module.stdout.startswith("Usage: limner [OPTIONS]")
    assert as_module.stdout == as_command.stdout


def test_a_server_without_models_says_the_command_and_makes_nothing(limner: Limner, tmp_path: Path) -> None:
    done = limner("serve", "--port", "0", LIMNER_MODELS_DIR=str(tmp_path / "none"))
    assert (done.returncode, "run `limner models fetch`" in done.stderr) == (1, True), done.stderr
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "elsewhere", tmp_path / "home"]


def test_a_misspelt_variable_stops_every_command(limner: Limner) -> None:
    for arguments in (("serve",), ("migrate",), ("models", "list"), ("doctor",)):
        done = limner(*arguments, LIMNER_WORKER="2")
        assert done.returncode == 1, arguments
        assert "LIMNER_WORKER is not a setting; did you mean LIMNER_WORKERS?" in done.stdout + done.stderr


def test_a_worker_runs_no_code_from_the_folder_that_the_service_is_started_in(tmp_path: Path) -> None:
    (tmp_path / "limner.py").write_text("raise SystemExit('this file was run')")
    ended = subprocess.run(WORKER, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ended.stderr == "a worker is started by the service, not by hand\n"


@pytest.mark.parametrize(
    "start", ["application.build(settings.load())", "cli.main(['work'], standalone_mode=False)"], ids=["serve", "work"]
)
def test_missing_libraries_of_a_cluster_are_named(tmp_path: Path, start: str) -> None:
    imports = "from limner import cli, settings\nfrom limner.assembly import application"
    program = f"import sys; sys.modules['celery'] = None\n{imports}\n{start}"
    url = "redis://127.0.0.1:1/0"
    variables = {"LIMNER_DATABASE_URL": f"sqlite:///{tmp_path}/l.db", "LIMNER_ENGINE_URL": url, "LIMNER_BUS_URL": url}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run `make install-cluster` in a checkout of Limner, or pip install 'limner[cluster]'" in done.stderr


def test_the_list_of_commands_tells_whole_sentences() -> None:
    for arguments in ((), ("keys",), ("webhooks",), ("models",), ("bench",)):
        told = CliRunner().invoke(main, [*arguments, "--help"]).output
        assert "Commands:" in told
        assert "..." not in told.partition("Commands:")[2], arguments
