"""The device that a model works on: which GPU a worker has for itself, and how much memory there is.

`gpu_memory` asks the driver, so that the web process need not load torch; the rest is for workers, which do.
"""

import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from limner.domain.errors import JobMemoryError, PainterNotReadyError

if TYPE_CHECKING:
    import torch

_CLAIM_S = 30.0  # a worker that is being replaced ends within this time, and its device is free
_AGAIN_S = 0.2
_CGROUP = Path("/sys/fs/cgroup")


def gpu_memory() -> int:
    """Bytes of the largest GPU. PainterNotReadyError without one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        raise PainterNotReadyError("No GPU may be used here: CUDA_VISIBLE_DEVICES is empty.")
    return _asked_gpu_memory()


@functools.cache  # devices do not come and go; errors are not remembered
def _asked_gpu_memory() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
            sizes = [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise PainterNotReadyError(
            f'There is no NVIDIA GPU with a driver here ({error}). With device = "cpu" a model works without.'
        ) from None
    if not sizes:
        raise PainterNotReadyError('There is no NVIDIA GPU here. With device = "cpu" a model works without.')
    return max(sizes)


_claimed: "tuple[torch.device, socket.socket] | None" = None


def claim_gpu(wait: Callable[[], None]) -> "torch.device":
    """A GPU that no other process has claimed, for as long as this process runs. `wait` is called while it waits.

    PainterNotReadyError if there is none.
    """
    global _claimed  # noqa: PLW0603  # one for each process
    import torch

    if _claimed is not None:
        return _claimed[0]
    if not torch.cuda.is_available():
        raise PainterNotReadyError("torch finds no GPU that it can use in this worker.")
    deadline = time.monotonic() + _CLAIM_S
    while True:
        for number in range(torch.cuda.device_count()):
            held = _take(str(getattr(torch.cuda.get_device_properties(number), "uuid", number)))
            if held is not None:
                _claimed = torch.device("cuda", number), held
                return _claimed[0]
        if time.monotonic() > deadline:
            raise PainterNotReadyError(
                f"Other workers have all {torch.cuda.device_count()} GPUs; LIMNER_GPU_WORKERS is at most their number."
            )
        wait()
        time.sleep(_AGAIN_S)


def _take(name: str) -> socket.socket | None:
    """A claim, which the system gives up when this process ends; None if another process has it.

    A socket's abstract address leaves no file behind. Only Linux has it; elsewhere there is no CUDA with several users.
    """
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0limner-gpu-{name}")
    except OSError:
        held.close()
        return None
    return held


def check_memory(name: str, device: "torch.device", weights: int, activations: int, size: tuple[int, int]) -> None:
    """JobMemoryError with the numbers if the device has not so much memory; `weights`: bytes still to be loaded."""
    import torch

    needed = weights + activations
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        place = f"the GPU has {total / 1e6:,.0f} MB, of which {free / 1e6:,.0f} MB are free"
    else:
        free = free_memory()
        place = f"this machine has {free / 1e6:,.0f} MB free"
    if needed > free:
        raise JobMemoryError(
            f"The model {name} needs about {needed / 1e6:,.0f} MB more for {size[0]}×{size[1]} pixels; {place}."
        )


def free_memory() -> int:
    """Bytes of memory that can be had without swapping: of the machine, or within the limit of the container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = _CGROUP.joinpath("memory.max").read_text().strip()
        if limit != "max":
            stat = dict(line.split() for line in _CGROUP.joinpath("memory.stat").read_text().splitlines())
            used = int(_CGROUP.joinpath("memory.current").read_text()) - int(stat.get("inactive_file", 0))
            free = min(free, max(0, int(limit) - used))
    except (OSError, ValueError):  # another system, or another version of its control groups
        pass
    return free
