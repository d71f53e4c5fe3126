"""The painter `diffusion` with tiny models of each architecture, made here. Needs `limner[diffusion]`."""

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from limner.domain import errors
from limner.painters.diffusion import painter, plans
from limner.painters.diffusion.painter import Diffusion, DiffusionParams
from tests.painters.servers import Pixels, Steps, canvas, gradient

MISSING = [name for name in painter.LIBRARIES if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"limner[diffusion] is not installed ({', '.join(MISSING)})"),
    pytest.mark.filterwarnings("ignore"),  # the libraries warn of their own future
]

PHOTO = gradient(100, 130)
NAMES = ("sd", "sdxl", "pix2pix", "flux", "kontext")
PATIENCE_S = 60

Write = Callable[[str], None]


class StopError(Exception):
    """What a job raises that must stop."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with a model of each architecture."""
    from tests.painters import tiny_diffusion

    folder = tmp_path_factory.mktemp("painters") / "diffusion"
    for name in NAMES:
        tiny_diffusion.save(name, folder / name)
    return folder


@pytest.fixture(autouse=True)
def _entries(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from limner.painters.diffusion import loading

    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(models.parent))
    monkeypatch.delenv("LIMNER_ENGINE_URL", raising=False)
    for name in NAMES:
        write(models, name)
    yield
    loading.KEEPER.unload()
    for file in models.glob("*.toml"):
        file.unlink()


def write(models: Path, name: str, toml: str = "", model: str | None = None) -> None:
    (models / f"{name}.toml").write_text(
        f'model = "{model or name}"\ndevice = "cpu"\nsteps = 6\nmax_pixels = 8192\nthreads = 1\n{toml}'
    )


def paint(
    model: str, photo: Pixels | None = PHOTO, *, told: Steps | None = None, seed: int = 7, **given: object
) -> Pixels:
    params = DiffusionParams.model_validate({"model": model, "prompt": "a cartoon film", **given})
    size = (64, 64) if photo is None else None
    return Diffusion().paint(canvas(photo, steps=told, seed=seed, size=size), params)


def pipeline_of(model: str, *, with_photo: bool) -> object:
    from limner.painters.diffusion import loading

    loaded = loading.KEEPER._loaded
    assert loaded is not None
    assert loaded.model.name == model
    return loaded.pipeline(with_photo=with_photo)


@pytest.mark.parametrize(("name", "steps"), [("sd", 3), ("sdxl", 3), ("pix2pix", 6), ("flux", 4), ("kontext", 6)])
def test_each_architecture_paints_from_a_photo(name: str, steps: int) -> None:
    told = Steps()
    made = paint(name, told=told)
    assert made.shape[0] < made.shape[1]
    assert 8192 * 0.8 < made.shape[0] * made.shape[1] < 8192 * 1.3
    assert made.std() > 5
    assert list(dict.fromkeys(told.told))[-steps:] == [(number, steps) for number in range(1, steps + 1)]
    assert {preview.shape for preview in told.previews} == {made.shape}
    assert np.array_equal(paint(name), made), "the same seed gives the same pixels"
    assert not np.array_equal(paint(name, seed=8), made)
    assert not np.array_equal(paint(name, PHOTO[::-1].copy()), made)


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux"])
def test_words_alone_are_enough_for_some(name: str) -> None:
    made = paint(name, None)
    assert made.shape == (64, 64, 3)
    assert np.array_equal(paint(name, None), made)
    assert paint(name).shape != made.shape  # the same networks, from a photo
    assert np.array_equal(paint(name, None), made)
    with pytest.raises(errors.InvalidRequestError, match=r"^strength: "):
        paint(name, None, strength=0.5)


def test_others_need_a_photo() -> None:
    assert Diffusion().needs(DiffusionParams(model="kontext")) == "photo"
    with pytest.raises(errors.InvalidRequestError, match=r"^image: "):
        paint("pix2pix", None)


def test_it_paints_what_the_library_paints() -> None:
    """Nothing is lost between the library's call and ours: same arguments, same pixels."""
    import torch
    from PIL import Image

    from limner.painters.diffusion.painting import _resized

    made = paint("pix2pix")
    size = made.shape[1::-1]
    bare = pipeline_of("pix2pix", with_photo=True)(  # type: ignore[operator]
        prompt="a cartoon film",
        image=Image.fromarray(_resized(PHOTO, size)),
        num_inference_steps=6,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert np.abs(np.asarray(bare).astype(int) - made).max() <= 1


@pytest.mark.parametrize(
    "given",
    [{"prompt": "another"}, {"negative_prompt": "dark"}, {"guidance": 20}, {"strength": 1}, {"steps": 12}],
    ids=lambda each: next(iter(each)),
)
def test_every_parameter_changes_the_picture(given: dict[str, object]) -> None:
    assert not np.array_equal(paint("sd", **given), paint("sd"))


def test_the_photos_guidance_changes_the_picture() -> None:
    assert not np.array_equal(paint("pix2pix", image_guidance=4), paint("pix2pix"))


def test_a_small_strength_still_does_a_step() -> None:
    told = Steps()
    paint("sd", told=told, strength=0.02)
    assert told.told[-1] == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_must_stop_ends_within_the_step_and_the_model_stays_usable(name: str) -> None:
    first = paint(name)
    told = Steps(stop=lambda: StopError() if told.told[-1][0] == 2 else None)
    with pytest.raises(StopError):
        paint(name, told=told)
    assert told.told[-1][0] == 2
    assert np.array_equal(paint(name), first)


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("upcast", [False, True])
def test_previews_show_the_colours_of_the_latents(channels: int, upcast: bool) -> None:
    """With an autoencoder that codes colours as real ones nearly do: each cell's colour, mixed into all channels."""
    import types

    import torch

    from limner.painters.diffusion import previews

    mixing = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(2)))[0][:, :3]

    class Linear(torch.nn.Module):
        config = types.SimpleNamespace(scaling_factor=0.3, shift_factor=0.1, force_upcast=upcast)

        def __init__(self) -> None:
            super().__init__()
            self.mixing = torch.nn.Parameter(mixing)

        @property
        def dtype(self) -> torch.dtype:
            return self.mixing.dtype

        def encode(self, picture: torch.Tensor) -> types.SimpleNamespace:
            assert picture.dtype == self.dtype
            return types.SimpleNamespace(
                latents=torch.einsum("cd,bdhw->bchw", self.mixing, torch.nn.functional.avg_pool2d(picture, 8))
            )

        def decode(self, latents: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
            small = torch.einsum("cd,bchw->bdhw", self.mixing, latents)
            return (torch.nn.functional.interpolate(small, scale_factor=8),)

    vae = Linear().to(torch.bfloat16)
    preview = previews.fit(vae, torch.device("cpu"))
    assert vae.dtype == torch.bfloat16
    colours = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    latents = (torch.einsum("cd,bdhw->bchw", mixing, colours * 2 - 1) - 0.1) * 0.3
    shown = preview.of(latents, (5, 7), is_packed=False)
    assert np.abs(shown / 255 - colours[0].permute(1, 2, 0).numpy()).max() < 0.03


def test_sequences_of_patches_become_planes() -> None:
    import torch
    from diffusers import FluxPipeline

    from limner.painters.diffusion.previews import unpacked

    planes = torch.arange(4 * 6 * 10, dtype=torch.float32).reshape(1, 4, 6, 10)
    packed = FluxPipeline._pack_latents(planes, 1, 4, 6, 10)
    assert torch.equal(unpacked(packed, (6, 10)), planes)


# --- loading ---------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_makes_room_for_another() -> None:
    paint("sd")
    first = pipeline_of("sd", with_photo=True)
    assert Diffusion().estimate(DiffusionParams(model="sd"), (64, 64)) < Diffusion().estimate(
        DiffusionParams(model="sdxl"), (64, 64)
    )
    paint("sd", prompt="other words")
    assert pipeline_of("sd", with_photo=True) is first
    paint("sdxl")
    pipeline_of("sdxl", with_photo=True)
    paint("sd")
    assert pipeline_of("sd", with_photo=True) is not first


def test_an_entry_says_how_many_cores_are_used(models: Path) -> None:
    import torch

    seen = []
    for threads in (1, 2):
        write(models, "sd")
        toml = (models / "sd.toml").read_text().replace("threads = 1", f"threads = {threads}")
        (models / "sd.toml").write_text(toml)
        paint("sd", told=Steps(stop=lambda: seen.append(torch.get_num_threads())))
    assert set(seen[-3:]) == {2}
    assert 1 in seen


def test_a_changed_file_is_loaded_again(models: Path) -> None:
    paint("sd")
    first = pipeline_of("sd", with_photo=True)
    file = models / "sd" / "unet" / "config.json"
    file.write_text(file.read_text() + "\n")
    paint("sd")
    assert pipeline_of("sd", with_photo=True) is not first


def test_an_idle_model_is_unloaded(models: Path) -> None:
    import gc
    import weakref

    from limner.painters.diffusion import loading

    write(models, "sd", "unload_after_s = 1\n")
    paint("sd")
    unet = weakref.ref(pipeline_of("sd", with_photo=True).unet)  # type: ignore[attr-defined]
    deadline = time.monotonic() + PATIENCE_S
    while loading.KEEPER._loaded is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    gc.collect()
    assert unet() is None
    paint("sd")


def test_a_job_that_must_stop_does_not_wait_for_the_model_and_the_next_one_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from limner.painters.diffusion import loading

    load, goes_on, loads = loading._load, threading.Event(), []

    def slow(*given: object, **options: object) -> object:
        loads.append(given)
        assert goes_on.wait(PATIENCE_S)
        return load(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "_load", slow)
    told = Steps(stop=lambda: StopError() if len(told.told) > 3 else None)
    with pytest.raises(StopError):
        paint("sd", told=told)
    waiting = Steps()
    waiting.stop = lambda: goes_on.set() if len(waiting.told) > 3 else None
    paint("sd", told=waiting)
    assert len(loads) == 1


def test_one_job_at_a_time() -> None:
    made: list[Pixels] = []
    threads = [threading.Thread(target=lambda: made.append(paint("pix2pix"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(made) == 3
    assert all(np.array_equal(each, made[0]) for each in made)


def test_what_does_not_fit_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from limner.painters.diffusion import devices

    monkeypatch.setattr(devices, "free_memory", lambda: 100_000_000)
    needs = r"The model sd needs about 3\d\d MB more for 104×80 pixels; this machine has 100 MB free\."
    with pytest.raises(errors.JobMemoryError, match=needs):
        paint("sd")
    monkeypatch.undo()


def test_the_free_memory_is_that_of_the_machine_or_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    from limner.painters.diffusion import devices

    assert 0 < devices.free_memory() <= psutil.virtual_memory().total
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert devices.free_memory() == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_memory() > 5000


def test_a_model_that_cannot_be_loaded_is_told_and_another_works(models: Path) -> None:
    import shutil

    shutil.copytree(models / "sd", models / "broken")
    file = models / "broken" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    write(models, "broken")
    with pytest.raises(errors.PainterNotReadyError, match=r"^diffusion/broken\.toml: the model cannot be loaded: "):
        paint("broken")
    assert paint("sd").std() > 5
    shutil.rmtree(models / "broken")


def test_pickled_weights_are_not_opened(models: Path, tmp_path: Path) -> None:
    """Neither by our look at the files nor by the library."""
    import diffusers

    from tests.painters import tiny_diffusion

    tiny_diffusion.save("sd", models / "pickled")
    unet = models / "pickled" / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    marker = tmp_path / "opened"

    class Opener:
        def __reduce__(self) -> object:
            return (Path.touch, (marker,))

    import pickle

    (unet / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Opener()))
    write(models, "pickled")
    with pytest.raises(errors.PainterNotReadyError, match=r"unet has no \.safetensors file"):
        paint("pickled")
    with pytest.raises(OSError, match="safetensors"):
        diffusers.StableDiffusionPipeline.from_pretrained(
            models / "pickled", use_safetensors=True, local_files_only=True
        )
    assert not marker.exists()
    (models / "pickled.toml").unlink()


def test_too_many_words_are_refused() -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"^prompt: This model reads 77 tokens"):
        paint("sd", prompt="word " * 60)
    with pytest.raises(errors.InvalidRequestError, match=r"^negative_prompt: "):
        paint("sd", negative_prompt="word " * 60)


def test_a_lora_changes_the_picture_by_its_scale(models: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(models / "sd")
    torch.manual_seed(3)
    pipeline.unet.add_adapter(LoraConfig(r=4, target_modules=["to_k", "to_q"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    StableDiffusionPipeline.save_lora_weights(models, unet_lora_layers=layers, weight_name="style.safetensors")
    plain = paint("sd")
    pictures = {}
    for scale in (0, 1, 2):
        write(models, "styled", f'loras = [{{file = "style.safetensors", scale = {scale}}}]\n', model="sd")
        pictures[scale] = paint("styled")
    assert np.array_equal(pictures[0], plain)
    assert not np.array_equal(pictures[1], plain)
    assert not np.array_equal(pictures[2], pictures[1])
    assert plans.read("styled").weights.mark != plans.read("sd").weights.mark


def test_a_lora_that_does_not_fit_is_told(models: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"nothing.lora_A.weight": torch.zeros(2, 2)}, models / "other.safetensors")
    write(models, "styled", 'loras = [{file = "other.safetensors"}]\n', model="sd")
    with pytest.raises(errors.PainterNotReadyError, match="cannot be loaded"):
        paint("styled")
    write(models, "styled", 'loras = [{file = "missing.safetensors"}]\n', model="sd")
    with pytest.raises(errors.PainterNotReadyError, match="No such file"):
        paint("styled")


def test_without_a_gpu_an_entry_for_one_is_not_ready_and_says_so(models: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for name in NAMES:
        (models / f"{name}.toml").unlink()
    (models / "gpu.toml").write_text('model = "sd"\n')
    reason = Diffusion().ready() or ""
    assert "GPU" in reason
    assert 'device = "cpu"' in reason
    with pytest.raises(errors.PainterNotReadyError, match="torch finds no GPU"):
        paint("gpu")


def test_a_gpu_is_claimed_by_one_process_at_a_time() -> None:
    import subprocess
    import sys

    from limner.painters.diffusion.devices import _take

    name = f"test-{time.monotonic_ns()}"
    code = (
        f"from limner.painters.diffusion.devices import _take; held = _take({name!r}); print(held is not None); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        assert _take(name) is None
        other.kill()
        other.wait()
    held = _take(name)
    assert held is not None
    held.close()
