"""The operation `misbehave`: crashes, hangs or uses too much memory, like a faulty native library."""

import ctypes
import os
import time
from typing import Literal

import numpy as np

from limner.context import Context
from limner.operation import PhotoParams, Result, operation
from limner.operations import CATALOGUE


class MisbehaveParams(PhotoParams):
    """How to misbehave, and for how long."""

    how: Literal["abort", "exit", "hang_with_lock", "hang_without_lock", "hoard", "steps", "key_error"]
    seconds: float = 60


class MisbehaveResult(Result):
    """The process that ran the job."""

    pid: int


@operation(version=1)
def misbehave(params: MisbehaveParams, ctx: Context) -> MisbehaveResult:
    """Crash, hang or use too much memory."""
    match params.how:
        case "abort":
            os.abort()
        case "exit":
            os._exit(0)
        case "hang_with_lock":  # PyDLL keeps the interpreter's lock: no other thread of this process can run
            ctypes.PyDLL(None).sleep(int(params.seconds))
        case "hang_without_lock":
            ctypes.CDLL(None).sleep(int(params.seconds))
        case "hoard":
            hoard = [np.ones(2**27) for _ in range(64)]  # 64 GiB
            raise AssertionError(f"there was room for {len(hoard)} GiB")
        case "steps":
            end = time.monotonic() + params.seconds
            while time.monotonic() < end:
                with ctx.stage("step"):
                    time.sleep(0.02)
                ctx.step(1, 2, np.full((8, 8, 3), 200, np.uint8))
        case "key_error":
            return MisbehaveResult(pid=int({"a": "b"}["c"]))
    return MisbehaveResult(pid=os.getpid())


def add() -> None:
    """Add the operation to the catalogue of this process."""
    CATALOGUE["misbehave"] = misbehave
