"""Painters read the same folders as the settings name."""

from pathlib import Path

import pytest

from limner import settings
from limner.domain.errors import PainterNotReadyError
from limner.painters import configuration, wrong_entries
from limner.painters.configuration import Entry


def test_the_folders_are_those_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIMNER_MODELS_DIR", "LIMNER_PAINTERS_DIR"):
        monkeypatch.delenv(variable, raising=False)
    chosen = settings.load()
    assert (configuration.models_dir(), configuration.painters_dir()) == (chosen.models_dir, chosen.painters_dir)
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path / "m"))
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path / "p"))
    chosen = settings.load()
    assert (configuration.models_dir(), configuration.painters_dir()) == (tmp_path / "m", tmp_path / "p")
    assert (chosen.models_dir, chosen.painters_dir) == (tmp_path / "m", tmp_path / "p")


class One(Entry):
    """An entry for tests."""

    number: int = 0


def test_entries_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    assert configuration.entry_names("x") == []
    (tmp_path / "x").mkdir()
    for name in ("b.toml", "a.toml", "Big.toml", ".hidden.toml", "c.json"):
        (tmp_path / "x" / name).write_text("number = 5")
    assert configuration.entry_names("x") == ["a", "b"]
    assert configuration.read_entry("x", "a", One).number == 5
    (tmp_path / "x" / "a.toml").unlink()
    (tmp_path / "x" / "a.toml").mkdir()
    with pytest.raises(PainterNotReadyError, match=r"x/a\.toml"):
        configuration.read_entry("x", "a", One)


def test_a_job_outlasts_each_of_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_REMOTE_JOB_TIMEOUT_S", raising=False)
    job_s = settings.load().remote_job_timeout_s
    assert configuration.picture_timeout_s() == 300
    assert configuration.picture_timeout_s(job_s - 30, "a") == job_s - 30
    assert job_s > 8 * 300  # as many pictures as a request may ask for
    with pytest.raises(PainterNotReadyError, match=r"^a: .*2671.* 2700 s\. .* at least 2701, or timeout_s to 2670"):
        configuration.picture_timeout_s(job_s - 29, "a")
    for job, picture in ((3600, 300), (330, 300), (329, 299), (300, 270), (60, 30), (10, 5)):
        monkeypatch.setenv("LIMNER_REMOTE_JOB_TIMEOUT_S", str(job))
        assert configuration.picture_timeout_s() == picture


def test_all_entries_that_cannot_be_used_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    assert wrong_entries() == []
    written = {
        "openai/fine.toml": 'base_url = "http://x/v1"\ntimeout_s = 2000\n',
        "openai/slow.toml": 'base_url = "http://x/v1"\ntimeout_s = 3000\n',
        "comfyui/fine.toml": 'workflow = "fine.json"\n',
        "comfyui/fine.json": '{"1": {"class_type": "X"}}',
        "comfyui/slow.toml": 'workflow = "fine.json"\ntimeout_s = 3000\n',
        "onnx/none.toml": 'file = "none.onnx"\n',
        "diffusion/none.toml": 'model = "none"\n',
    }
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    told = wrong_entries()
    assert [each.partition(":")[0] for each in told] == ["onnx/none", "diffusion/none", "openai/slow", "comfyui/slow"]
    assert told[2].startswith("openai/slow: timeout_s is 3000, but a job may only run for 2700 s.")
