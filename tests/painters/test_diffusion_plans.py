"""Models and presets of `diffusion` as files describe them: what needs none of its libraries."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from limner.domain import errors
from limner.model_commands import models
from limner.painters.diffusion import devices, entries, painter, plans, weights
from limner.painters.diffusion.painter import Diffusion, DiffusionParams
from tests.painters.diffusion_files import SD_INDEX, index_of, write_model, write_safetensors

PIX2PIX = index_of("StableDiffusionInstructPix2PixPipeline")
FLUX = index_of("FluxPipeline", unet=[None, None])

Write = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path / "painters"))
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("LIMNER_ENGINE_URL", raising=False)
    made = tmp_path / "painters" / "diffusion"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a model and its entry."""

    def entry(name: str, toml: str = "", index: dict[str, Any] = SD_INDEX, **options: Any) -> None:
        write_model(folder / name, index, **options)
        (folder / f"{name}.toml").write_text(f'model = "{name}"\n{toml}')

    return entry


def plan(**given: Any) -> plans.Plan:
    return plans.plan(DiffusionParams(**given))


# --- presets ---------------------------------------------------------------------------------------------------------


def test_there_is_a_cartoon_film_for_photos_and_one_by_instruction() -> None:
    shared = entries.shared_presets()
    assert shared["cartoon-film"].kind == "picture"
    assert shared["faces-like"].kind == "instruction"
    for each in shared.values():
        assert each.worded("")
        assert None not in (each.summary or None, each.steps, each.guidance)
        assert (each.strength is None) == (each.kind == "instruction")


def test_a_preset_takes_the_words_and_has_some_of_its_own(write: Write) -> None:
    write("a-sd")
    write("b-pix2pix", index=PIX2PIX)
    told = plan(preset="faces-like", prompt=" old heroes ")
    assert (told.model.name, told.prompt) == ("b-pix2pix", "make the faces look like old heroes")
    assert plan(preset="faces-like").prompt == "make the faces look like characters of a cartoon film"
    film = plan(preset="cartoon-film", prompt="a {prompt} {0}")
    assert (film.model.name, film.strength) == ("a-sd", 0.55)
    assert ", a {prompt} {0}, " in film.prompt


def test_own_presets_are_offered_beside_the_shared_ones(write: Write, folder: Path) -> None:
    def offered() -> list[str]:
        found: list[str] = DiffusionParams.model_json_schema()["properties"]["preset"]["examples"]
        return found

    shared = list(entries.shared_presets())
    assert offered() == shared
    write("sd", '[presets.sketch]\nprompt = "sketch of {prompt}"\n')
    (folder / "wrong.toml").write_text("presets = 1")
    assert offered() == [*shared, "sketch"]


def test_own_presets_and_what_goes_before_what(write: Write) -> None:
    own = '[presets.sketch]\nprompt = "sketch of {prompt}"\nsteps = 5\n[presets.plain]\nprompt = "plain"\n'
    write("sd", f'steps = 9\nguidance = 2\nstrength = 0.3\nnegative_prompt = "mine"\n{own}')
    sketch = plan(preset="sketch", prompt="him")
    assert (sketch.prompt, sketch.steps, sketch.guidance, sketch.negative_prompt) == ("sketch of him", 5, 2, "mine")
    assert plan(preset="plain", prompt="and more").prompt == "plain, and more"
    film = plan(preset="cartoon-film")  # the model's own numbers fit it better than those for all models
    assert (film.steps, film.guidance, film.strength) == (9, 2, 0.3)
    assert "photorealistic" in (film.negative_prompt or "")
    asked = plan(preset="sketch", prompt="x", steps=1, guidance=0, strength=1, negative_prompt="")
    assert (asked.steps, asked.guidance, asked.strength, asked.negative_prompt) == (1, 0, 1, "")
    assert (plan(prompt="x").steps, plan(prompt="x").image_guidance) == (9, 1.5)
    with pytest.raises(errors.InvalidRequestError, match="sketch needs words"):
        plan(preset="sketch", prompt=" ")


@pytest.mark.parametrize(
    ("index", "given", "field"),
    [
        (SD_INDEX, {}, "prompt"),
        (SD_INDEX, {"prompt": "x", "image_guidance": 2}, "image_guidance"),
        (SD_INDEX, {"preset": "faces-like"}, "preset"),
        (SD_INDEX, {"model": "m", "preset": "faces-like"}, "preset"),
        (SD_INDEX, {"model": "none", "prompt": "x"}, None),
        (PIX2PIX, {"prompt": "x", "strength": 0.5}, "strength"),
        (FLUX, {"prompt": "x", "negative_prompt": "y"}, "negative_prompt"),
    ],
)
def test_what_a_model_cannot_use_is_refused(
    write: Write, index: dict[str, Any], given: dict[str, Any], field: str | None
) -> None:
    write("m", index=index)
    with pytest.raises(errors.InvalidRequestError) as caught:
        Diffusion().fingerprint(DiffusionParams(**given))
    assert caught.value.problem().get("field") == field


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_size_of_the_weights_is_counted(write: Write) -> None:
    write("half", side=1000)
    write("up", side=1000, upcasts=True)
    write("cpu", 'device = "cpu"', side=1000)
    write("moved", "offload = true", side=1000)
    sizes = {name: plans.read(name).resident() for name in entries.names()}
    assert sizes == {"half": 6_000_024, "up": 8_000_032, "cpu": 12_000_024, "moved": 2_000_008}
    assert [plans.read(name).dtype for name in ("half", "cpu")] == ["float16", "float32"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda at: (at / "unet" / "model.safetensors").rename(at / "unet" / "model.bin"), "unet has no .safetensors"),
        (lambda at: (at / "unet" / "model.safetensors").write_bytes(pickle.dumps({"a": 1})), "no safetensors file"),
        (lambda at: (at / "unet" / "model.safetensors").write_bytes(b"\xff" * 8), "no safetensors file"),
        (lambda at: (at / "unet" / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "no safetensors"),
        (lambda at: (at / "vae" / "config.json").unlink(), "No such file"),
        (lambda at: (at / "model_index.json").write_text("[]"), "no JSON object"),
        (lambda at: (at / "model_index.json").write_text("{}"), "is not supported"),
        (lambda at: (at / "model_index.json").write_text("{" * 100_000), "m.toml"),
        (lambda at: (at / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'), "names no network"),
        (
            lambda at: (at / "model_index.json").write_text(json.dumps(index_of("CustomPipeline"))),
            "'CustomPipeline' is not supported",
        ),
        (
            lambda at: (at / "model_index.json").write_text(json.dumps({**SD_INDEX, "unet": ["mine", "UNet"]})),
            "component unet is of the class",
        ),
        (
            lambda at: (at / "model_index.json").write_text(json.dumps({**SD_INDEX, "extra": ["os", "system"]})),
            "component extra is of the class",
        ),
    ],
)
def test_files_that_would_not_be_opened_are_told(
    write: Write, folder: Path, change: Callable[[Path], None], told: str
) -> None:
    write("m")
    change(folder / "m")
    with pytest.raises(errors.PainterNotReadyError, match=told):
        plans.read("m")
    assert told in (Diffusion().ready() or "")


def test_a_variant_is_chosen_and_a_missing_one_is_told(write: Write) -> None:
    write("m", 'variant = "fp16"', suffix=".fp16-00001-of-00002")
    assert plans.read("m").weights.total(2) > 0
    write("n", suffix=".fp16")
    with pytest.raises(errors.PainterNotReadyError, match="there are those of variant = "):
        plans.read("n")


def test_another_file_is_another_fingerprint(write: Write, folder: Path) -> None:
    write("m")
    params = DiffusionParams(prompt="x")
    first = Diffusion().fingerprint(params)
    assert Diffusion().fingerprint(params) == first
    assert Diffusion().fingerprint(DiffusionParams(prompt="y")) != first
    write_safetensors(folder / "m" / "unet" / "model.safetensors", weight=("F16", [9, 9]))
    assert Diffusion().fingerprint(params) != first


def test_a_model_of_the_hub_is_looked_for_where_it_is_fetched_to(folder: Path, tmp_path: Path) -> None:
    revision = "0123456789abcdef" * 2 + "01234567"
    (folder / "hub.toml").write_text(f'model = "some.body/a_model"\nrevision = "{revision}"\n')
    with pytest.raises(errors.PainterNotReadyError, match="run `limner models fetch diffusion/hub`"):
        plans.read("hub")
    listed = CliRunner().invoke(models, ["list"]).output
    assert re.search(f"diffusion/hub +optional .* some.body/a_model at {revision}", listed)
    write_model(tmp_path / "models" / "diffusion" / "some.body--a_model" / revision)
    assert re.search("diffusion/hub +here ", CliRunner().invoke(models, ["list"]).output)
    assert plans.read("hub").weights.family.kind == "picture"


@pytest.mark.parametrize(
    "toml",
    [
        'model = "m"\nother = 1',
        'model = "m"\nrevision = "main"',
        'model = "../../etc"\nrevision = "' + "a" * 40 + '"',
        'model = "a/.."\nrevision = "' + "a" * 40 + '"',
        'model = "m"\nloras = [{file = "l.bin"}]',
        'model = "m"\ndevice = "cpu"\ndtype = "float16"',
        'model = "m"\ndevice = "cpu"\noffload = true',
        'model = "m"\nvariant = "../x"',
        'model = "m"\nsteps = 0',
        'model = "m"\n[presets.UPPER]\nprompt = "x"',
        'model = "m"\n[presets.x]\nkind = "picture"\nprompt = "x"',
    ],
)
def test_a_wrong_entry_is_told(folder: Path, toml: str) -> None:
    (folder / "wrong.toml").write_text(toml)
    with pytest.raises(errors.PainterNotReadyError, match=r"^diffusion/wrong\.toml: "):
        plans.read("wrong")


# --- where it works ---------------------------------------------------------------------------------------------------


def test_the_lane_is_the_entrys(write: Write) -> None:
    write("a")
    write("b", 'device = "cpu"')
    assert [Diffusion().lane(DiffusionParams(model=name)) for name in ("a", "b", None)] == ["gpu", "paint", "gpu"]
    assert Diffusion().needs(DiffusionParams()) == "nothing"


def test_why_it_is_not_ready(write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"bytes": 1_000_000}

    def gpu_memory() -> int:
        if not there["bytes"]:
            raise errors.PainterNotReadyError("There is no GPU.")
        return there["bytes"]

    monkeypatch.setattr(painter, "LIBRARIES", ("json", "not_installed_library"))
    monkeypatch.setattr(devices, "gpu_memory", gpu_memory)
    assert "not_installed_library" in (Diffusion().ready() or "")
    write("m")
    assert "run `pip install 'limner[diffusion]'`" in (Diffusion().ready() or "")
    monkeypatch.setenv("LIMNER_ENGINE_URL", "redis://elsewhere")
    assert Diffusion().ready() is None  # a worker elsewhere may have them
    monkeypatch.delenv("LIMNER_ENGINE_URL")
    monkeypatch.setattr(painter, "LIBRARIES", ("json",))
    assert Diffusion().ready() == "diffusion/m.toml: it needs 6 MB, and the GPU has 1 MB."
    there["bytes"] = 0
    assert Diffusion().ready() == "There is no GPU."
    write("n", 'device = "cpu"')
    assert Diffusion().ready() is None
    for file in folder.glob("*.toml"):
        file.unlink()
    assert (Diffusion().ready() or "").startswith("Describe a model in ")


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(errors.PainterNotReadyError, match="CUDA_VISIBLE_DEVICES"):
        devices.gpu_memory()


@pytest.mark.parametrize(
    ("size", "is_asked_for", "expected"),
    [
        ((512, 512), True, (512, 512)),
        ((4000, 3000), False, (592, 440)),
        ((100, 50), False, (512, 256)),
        ((100, 50), True, (96, 64)),
        ((10, 16_384), False, (64, 4096)),
    ],
)
def test_it_works_at_a_size_that_suits_the_model(
    write: Write, size: tuple[int, int], is_asked_for: bool, expected: tuple[int, int]
) -> None:
    write("m")
    assert plans.read("m").work_size(size, is_asked_for=is_asked_for) == expected


def test_memory_is_estimated_from_the_weights_and_the_size(write: Write) -> None:
    write("m", 'device = "cpu"', side=20_000)
    small, large = (Diffusion().estimate(DiffusionParams(), size) for size in ((64, 64), (512, 512)))
    assert small > 4 * 4 * 20_000**2
    assert large > small
    assert weights.look("m", entries.read("m")).largest(4) == 1_600_000_008
