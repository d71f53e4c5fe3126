"""Default folders, and variables that are refused at start."""

from datetime import timedelta
from pathlib import Path

import pytest

from limner import settings
from limner.assembly.workers import lease
from limner.domain.errors import SettingsError


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, a temporary home folder, and a working folder that is neither home nor checkout."""
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(settings.variable(field), raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.skipif("sys.platform != 'linux'", reason="documented for Linux")
def test_on_linux_all_is_in_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "home/.local/share/limner"
    chosen = settings.load()
    assert chosen.database_url == f"sqlite:///{folder}/limner.db"
    assert (chosen.blobs_url, chosen.models_dir) == (str(folder / "blobs"), folder / "models")
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert settings.load().models_dir == tmp_path / "xdg/limner/models"


def test_on_macos_all_is_in_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs.macos import MacOS

    home = tmp_path / "home"
    monkeypatch.setattr("platformdirs.PlatformDirs", MacOS)
    chosen = settings.load()
    assert chosen.database_url == f"sqlite:///{home}/Library/Application Support/limner/limner.db"
    assert chosen.models_dir == home / "Library/Application Support/limner/models"


@pytest.mark.parametrize(
    ("database", "blobs"),
    [
        ("sqlite:///data/limner.db", "data/blobs"),
        ("sqlite:////srv/limner.db", "/srv/blobs"),
        ("sqlite:///limner.db", "blobs"),
    ],
)
def test_blobs_are_beside_the_database(monkeypatch: pytest.MonkeyPatch, database: str, blobs: str) -> None:
    monkeypatch.setenv("LIMNER_DATABASE_URL", database)
    assert settings.load().blobs_url == blobs
    monkeypatch.setenv("LIMNER_BLOBS_URL", "elsewhere")
    assert settings.load().blobs_url == "elsewhere"


@pytest.mark.parametrize("parameters", ["?mode=ro", "?", "?timeout=5&mode=ro"])
def test_parameters_that_nothing_reads_are_refused(monkeypatch: pytest.MonkeyPatch, parameters: str) -> None:
    monkeypatch.setenv("LIMNER_DATABASE_URL", f"sqlite:////srv/limner.db{parameters}")
    with pytest.raises(SettingsError, match=r"LIMNER_DATABASE_URL: .*a SQLite URL has no parameters"):
        settings.load()
    monkeypatch.setenv("LIMNER_DATABASE_URL", "postgresql://limner@db/limner?sslmode=require")
    assert settings.load().database_url.endswith("?sslmode=require")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("LIMNER_WORKER", "LIMNER_WORKER is not a setting; did you mean LIMNER_WORKERS?"),
        ("LIMNER_DATABSE_URL", "did you mean LIMNER_DATABASE_URL?"),
        ("LIMNER_MAX_PIXEL", "did you mean LIMNER_MAX_PIXELS?"),
        ("limner_prot", "limner_prot is not a setting; did you mean LIMNER_PORT?"),
        ("LIMNER_LOAD_TEST_MODE", "did you mean LOAD_TEST_MODE?"),
        ("LIMNER_XYZZY", "LIMNER_XYZZY is not a setting; docs/settings.md lists them all."),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError) as refused:
        settings.load()
    assert advice in refused.value.detail


def test_every_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_WORKER", "1")
    monkeypatch.setenv("LIMNER_HOTS", "1")
    with pytest.raises(SettingsError, match=r"LIMNER_HOTS.*LIMNER_HOST\?.*LIMNER_WORKER .*LIMNER_WORKERS\?"):
        settings.load()


def test_settings_of_every_spelling_that_works_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("limner_workers", "3")
    monkeypatch.setenv("LIMNERS", "no setting, and none of ours")
    assert settings.load().workers == 3


def test_a_lease_outlasts_what_may_hold_up_its_renewal() -> None:
    """Computing may; waiting for another server may not, or a killed process's job would wait for 45 minutes."""
    chosen = settings.load()
    lanes = chosen.lanes()
    assert lease(chosen, "paint").total_seconds() > lanes["paint"].timeout_s
    assert lease(chosen, "cpu") == lease(chosen, "remote") < timedelta(seconds=lanes["remote"].timeout_s)
    assert lease(chosen) == max(lease(chosen, name) for name in lanes)
