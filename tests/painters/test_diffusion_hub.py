"""`limner models fetch diffusion/NAME` against a server that speaks as the hub does. Needs `limner[diffusion]`."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.painters.diffusion_files import write_model
from tests.painters.hub_server import COMMIT, REPOSITORY, Hub, files_of, hub
from tests.painters.servers import LocalServer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="limner[diffusion] is not installed (huggingface_hub)"
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Hub, LocalServer]]:
    """A hub with a model, some files that nobody needs, and an entry for it."""
    write_model(tmp_path / "original", side=50)
    for name in ("unet/model.bin", "unet/model.fp16.safetensors", "README.md", "unet_onnx/model.safetensors", "run.py"):
        (tmp_path / "original" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "original" / name).write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    (tmp_path / "original" / "LICENSE.txt").write_text("MIT")
    (tmp_path / "original" / "unet" / "model.safetensors").write_bytes(
        (tmp_path / "original" / "vae" / "model.safetensors").read_bytes() + b"\0" * 20_000_000
    )
    (tmp_path / "diffusion").mkdir()
    (tmp_path / "diffusion" / "hub.toml").write_text(f'model = "{REPOSITORY}"\nrevision = "{COMMIT}"\n')
    with hub(files_of(tmp_path / "original")) as (made, server):
        yield made, server


def fetch(
    folder: Path, server: LocalServer, *options: str, answer: str = "", name: str = "diffusion/hub", key: str = ""
) -> subprocess.CompletedProcess[str]:
    variables = {
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": key,
        "LIMNER_PAINTERS_DIR": str(folder),
        "LIMNER_MODELS_DIR": str(folder / "models"),
    }
    command = [sys.executable, "-m", "limner.cli", "models", "fetch", name, *options]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, input=answer, check=False
    )


def fetched(folder: Path) -> Path:
    return folder / "models" / "diffusion" / "some.body--tiny" / COMMIT


def test_a_model_is_fetched_after_its_licence_is_accepted(tmp_path: Path, served: tuple[Hub, LocalServer]) -> None:
    made, server = served
    refused = fetch(tmp_path, server, answer="n\n")
    assert refused.returncode == 1
    assert "licence as the hub tells it: mit" in refused.stdout
    assert not any(name.endswith(".safetensors") for name, _ in made.sent)
    done = fetch(tmp_path, server, "--accept")
    assert done.returncode == 0, done.stderr
    assert "SHA-256 checked" in done.stdout
    there = files_of(fetched(tmp_path))
    assert set(there) == {
        "LICENSE.txt",
        "model_index.json",
        *(
            f"{each}/{file}"
            for each in ("unet", "vae", "text_encoder")
            for file in ("config.json", "model.safetensors")
        ),
    }
    assert all(data == made.files[name] for name, data in there.items())
    again = fetch(tmp_path, server)
    assert (again.returncode, again.stdout) == (0, "diffusion/hub: here already\n")


def test_what_broke_off_goes_on(tmp_path: Path, served: tuple[Hub, LocalServer]) -> None:
    made, server = served
    made.break_off_at = 15_000_000
    done = fetch(tmp_path, server, "--accept")
    if done.returncode:  # the library gave up: the next call goes on
        assert not fetched(tmp_path).exists()
        done = fetch(tmp_path, server, "--accept")
    assert done.returncode == 0, done.stderr
    assert any(begin > 1_000_000 for _, begin in made.sent), made.sent
    assert files_of(fetched(tmp_path))["unet/model.safetensors"] == made.files["unet/model.safetensors"]


def test_a_file_that_is_not_the_one_told_is_not_kept(tmp_path: Path, served: tuple[Hub, LocalServer]) -> None:
    made, server = served
    made.lie = True
    done = fetch(tmp_path, server, "--accept")
    assert done.returncode == 1
    assert "has not the SHA-256" in done.stderr
    assert not fetched(tmp_path).exists()
    made.lie = False
    assert fetch(tmp_path, server, "--accept").returncode == 0


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_of_the_hub_is_told(tmp_path: Path, served: tuple[Hub, LocalServer], status: int) -> None:
    made, server = served
    made.status = status
    done = fetch(tmp_path, server, "--accept", key="hf_secret")
    assert done.returncode == 1
    assert f"{REPOSITORY} could not be fetched: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    assert "Bearer hf_secret" in [each.headers.get("authorization") for each in server.requests]


def test_only_safetensors_are_fetched(tmp_path: Path, served: tuple[Hub, LocalServer]) -> None:
    made, server = served
    for name in [name for name in made.files if name.endswith(".safetensors")]:
        del made.files[name]
    done = fetch(tmp_path, server, "--accept")
    assert done.returncode == 1
    assert "there are no .safetensors files" in done.stderr


def test_a_folder_and_an_unknown_name_are_not_fetched(tmp_path: Path, served: tuple[Hub, LocalServer]) -> None:
    _, server = served
    (tmp_path / "diffusion" / "mine.toml").write_text('model = "mine"\n')
    for name, told in (("mine", "names a folder"), ("none", "no entry named 'none'"), ("../x", "no entry named")):
        done = fetch(tmp_path, server, "--accept", name=f"diffusion/{name}")
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
