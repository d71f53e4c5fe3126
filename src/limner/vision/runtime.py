"""Inference sessions of ONNX Runtime: how every network here is loaded.

One thread a session and several workers beat one session with many threads; a session may be shared by threads.
Never fork a process after a session is loaded: its locks and threads do not survive that.
"""

import os
from pathlib import Path

# Before the import: from 1.31 on the runtime would report to its maker, and keep a device id in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort  # type: ignore[import-untyped]

from limner.domain.errors import ModelError


def giving_back() -> ort.RunOptions:
    """For `run` of a session of `any_size`: most of its memory is given back afterwards."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def session(file: Path, *, any_size: bool = False) -> ort.InferenceSession:
    """A session on the CPU: one thread, no spinning, operators one after the other. ModelError when it cannot load.

    The memory arena only grows, so callers pad their inputs to a few fixed shapes. Those that cannot ask for
    `any_size`, which plans no memory beforehand, and run with `giving_back`. (Without an arena, a megapixel took twice
    the time and the memory.)
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = not any_size
    options.log_severity_level = 3  # errors only; the converters' leftovers are not news
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises classes of its own that share no public base
        raise ModelError(f"{file.name} cannot be loaded: {error}") from error
