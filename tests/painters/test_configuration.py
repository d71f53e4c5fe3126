"""Painters read the same folders as the settings name."""

from pathlib import Path

import pytest

from limner import settings
from limner.domain.errors import PainterNotReadyError
from limner.painters import configuration
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
