"""Loads a model, keeps it between jobs, and unloads it when nobody asks for it. One model at a time in a process.

Everything comes from a folder of this machine, from safetensors files only. Read `Keeper.use`.
"""

import gc
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limner.domain.errors import LimnerError, PainterNotReadyError
from limner.painters.diffusion import devices
from limner.painters.diffusion.entries import FOLDER
from limner.painters.diffusion.plans import Model
from limner.vision.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

    from limner.painters.diffusion.previews import LinearPreview

log = logging.getLogger(__name__)

_WAIT_S = 0.1


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    device: "torch.device"
    first: Any
    """The pipeline that was loaded; others share its networks."""
    preview: "LinearPreview"
    others: dict[str, Any] = field(default_factory=dict)

    def pipeline(self, *, with_photo: bool) -> Any:
        """The pipeline of diffusers that paints from a photo, or from words alone."""
        import diffusers

        wanted = _class_name(self.model, with_photo=with_photo)
        if type(self.first).__name__ == wanted:
            return self.first
        if wanted not in self.others:
            made = getattr(diffusers, wanted).from_pipe(self.first)
            made.set_progress_bar_config(disable=True)
            self.others[wanted] = made
        return self.others[wanted]


class Keeper:
    """Has at most one model in memory."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._loaded: Loaded | None = None
        self._key: object = None
        self._used = 0.0
        self._timer: threading.Timer | None = None

    def has(self, model: Model) -> bool:
        """Whether the model is in memory."""
        return self._loaded is not None and self._key == _key(model)

    @contextmanager
    def use(
        self, model: Model, size: tuple[int, int], *, with_photo: bool, wait: Callable[[], None]
    ) -> Iterator[Loaded]:
        """The model, for this thread alone.

        `wait` is called again and again meanwhile; what it raises ends the wait, but loading goes on, for the next job.
        JobMemoryError if it does not fit, PainterNotReadyError if it cannot be loaded.
        """
        while not self._busy.acquire(timeout=_WAIT_S):
            wait()
        handed_over = False
        try:
            self._stop_timer()
            device = _device(model, wait)
            if not self.has(model):
                self._drop()
                handed_over = True
                self._load(model, size, device, with_photo=with_photo, wait=wait)
                handed_over = False
            else:
                devices.check_memory(model.name, device, 0, model.activations(size), size)
            assert self._loaded is not None
            _set_threads(model, device)  # OpenMP counts for each thread by itself, and another one has loaded the model
            yield self._loaded
        finally:
            if not handed_over:
                self._release()

    def _load(
        self, model: Model, size: tuple[int, int], device: "torch.device", *, with_photo: bool, wait: Callable[[], None]
    ) -> None:
        """Load in a thread of its own, so that a job can stop meanwhile. The lock is released by whoever is last."""
        errors: list[Exception] = []
        abandoned = False
        done = threading.Event()
        gate = threading.Lock()

        def work() -> None:
            try:
                devices.check_memory(model.name, device, model.resident(), model.activations(size), size)
                started = time.monotonic()
                self._loaded = _load(model, device, with_photo=with_photo)
                self._key = _key(model)
                log.info("model loaded", extra={"model": model.name, "ms": round((time.monotonic() - started) * 1000)})
            except Exception as error:  # noqa: BLE001  # raised in the thread that waits
                errors.append(error)
            finally:
                with gate:
                    done.set()
                    if abandoned:
                        self._release()

        threading.Thread(target=work, name="diffusion-load", daemon=True).start()
        try:
            while not done.wait(_WAIT_S):
                wait()
        except BaseException:
            with gate:
                if done.is_set():
                    self._release()
                else:
                    abandoned = True
            raise
        if errors:
            errors[0].__traceback__ = None  # it holds what was loaded
            _empty_cache()
            self._release()
            raise _told(errors[0], model)

    def _release(self) -> None:
        """Give the model free, and unload it later if nobody uses it again."""
        self._used = time.monotonic()
        if self._loaded is not None:
            self._timer = threading.Timer(self._loaded.model.entry.unload_after_s, self._unload_if_idle, [self._used])
            self._timer.daemon = True
            self._timer.start()
        self._busy.release()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unload_if_idle(self, used: float) -> None:
        if not self._busy.acquire(blocking=False):
            return  # it is in use
        try:
            if self._used == used and self._loaded is not None:
                name = self._loaded.model.name
                self._drop()
                log.info("model unloaded", extra={"model": name})
        finally:
            self._busy.release()

    def unload(self) -> None:
        """Unload the model now, when nobody uses it."""
        with self._busy:
            self._stop_timer()
            self._drop()

    def _drop(self) -> None:
        if self._loaded is not None:
            self._loaded = self._key = None
            _empty_cache()


def _key(model: Model) -> object:
    return model.name, model.entry.model_copy(update={"presets": {}}), model.weights.mark


def _empty_cache() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _told(error: Exception, model: Model) -> Exception:
    """The error as clients learn it."""
    if isinstance(error, LimnerError):
        return error
    if is_out_of_memory(error):
        return MemoryError(str(error))
    first = str(error).strip().partition("\n")[0][:200]
    return PainterNotReadyError(f"{FOLDER}/{model.name}.toml: the model cannot be loaded: {first}")


def _class_name(model: Model, *, with_photo: bool) -> str:
    family = model.weights.family
    return family.with_photo if with_photo or family.without_photo is None else family.without_photo


def _device(model: Model, wait: Callable[[], None]) -> "torch.device":
    if model.entry.device == "cuda":
        return devices.claim_gpu(wait)
    import torch

    return torch.device("cpu")


def prepare_libraries() -> None:
    """Have the libraries ask no server and log no words. Call it before they are imported."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ[name] = "1"
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    warnings.filterwarnings("ignore", module=r"(diffusers|transformers|peft|accelerate)\b")  # of their own future


def _set_threads(model: Model, device: "torch.device") -> None:
    """How many cores this thread uses on the CPU."""
    import torch

    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(model.entry.threads or max(1, cores // 2))


def _load(model: Model, device: "torch.device", *, with_photo: bool) -> Loaded:
    import diffusers
    import torch
    import transformers

    from limner.painters.diffusion import previews

    diffusers.utils.logging.set_verbosity_error()  # its warnings repeat the words
    transformers.utils.logging.set_verbosity_error()
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    entry = model.entry
    _set_threads(model, device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False  # else the same seed could give other pixels
        torch.backends.cudnn.deterministic = True
    pipeline = getattr(diffusers, _class_name(model, with_photo=with_photo)).from_pretrained(
        str(entry.folder),
        dtype=getattr(torch, model.dtype),
        variant=entry.variant,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    _add_loras(pipeline, model)
    preview = previews.fit(pipeline.vae.to(device), device)
    if entry.offload:
        pipeline.vae.to("cpu")
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return Loaded(model, device, pipeline, preview)


def _add_loras(pipeline: Any, model: Model) -> None:
    """Add the LoRAs to the weights themselves, which costs nothing while painting. ValueError if one does not fit."""
    names = []
    for number, lora in enumerate(model.entry.loras):
        file = model.entry.lora_file(lora)
        pipeline.load_lora_weights(
            str(file.parent), weight_name=file.name, adapter_name=f"lora{number}", local_files_only=True
        )
        if f"lora{number}" not in {name for listed in pipeline.get_list_adapters().values() for name in listed}:
            raise ValueError(f"the LoRA {lora.file} does not fit this model")
        names.append(f"lora{number}")
    if names:
        pipeline.set_adapters(names, [lora.scale for lora in model.entry.loras])
        pipeline.fuse_lora(adapter_names=names)
        pipeline.unload_lora_weights()


KEEPER = Keeper()
