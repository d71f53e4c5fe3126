"""What ONNX Runtime and OpenCV raise when there is no memory left."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from limner.vision.memory import is_out_of_memory
from tests.conftest import MODELS

LIMITED = """
import resource
import sys
from pathlib import Path
import cv2
import numpy as np
from limner.vision.memory import is_out_of_memory
from limner.vision.runtime import session

small = np.zeros((64, 64, 3), np.uint8)
blob = np.zeros((1, 3, 1280, 1280), np.float32)
network = session(Path(sys.argv[2]))
cv2.resize(small, (128, 128))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000, resource.RLIM_INFINITY))
try:
    if sys.argv[1] == "onnxruntime":
        network.run(None, {network.get_inputs()[0].name: blob})
    else:
        cv2.resize(small, (16_000, 16_000))
except Exception as error:
    print(type(error).__name__, is_out_of_memory(error))
"""


@pytest.mark.parametrize(("library", "raises"), [("onnxruntime", "Fail"), ("opencv", "error")])
def test_a_library_that_lacks_memory_is_recognised(library: str, raises: str) -> None:
    network = next(MODELS.glob("face_detection_yunet*.prepared*.onnx"))
    done = subprocess.run([sys.executable, "-c", LIMITED, library, network], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [raises, "True"], done.stderr


def test_other_errors_are_not_a_lack_of_memory() -> None:
    with pytest.raises(cv2.error) as error:
        cv2.resize(np.zeros((4, 4, 3), np.uint8), (0, 0))
    assert not is_out_of_memory(error.value)
    assert not is_out_of_memory(ValueError("Failed to allocate memory"))
