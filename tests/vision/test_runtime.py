"""What ONNX Runtime and OpenCV raise when there is no memory left."""

import subprocess
import sys
from pathlib import Path

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


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from limner.vision.onnx_graph import GraphWriter, free_input_size
from limner.vision.runtime import giving_back, session

graph, name, shape = GraphWriter(), "in", [1, 3, 64, 64]
graph.input(name, shape)
for number in range(4):
    weights = np.full((32, 3 if number == 0 else 32, 3, 3), 0.01, np.float32)
    kernel = graph.constant(f"weights {number}", weights)
    name = graph.node("Conv", [name, kernel], f"wide {number}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
graph.output(name, [1, 32, 64, 64])
Path(sys.argv[1]).write_bytes(free_input_size(graph.to_bytes()))
any_size = sys.argv[2] == "any"
network = session(Path(sys.argv[1]), any_size=any_size)

def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) // 1000

before = resident()
for height, width in ((600, 800), (800, 600), (500, 950), (950, 500), (400, 1200), (1200, 400), (700, 690)):
    network.run(None, {"in": np.ones((1, 3, height, width), np.float32)}, giving_back() if any_size else None)
    print(resident() - before)
"""


def test_memory_for_pictures_of_any_size_does_not_add_up(tmp_path: Path) -> None:
    def kept(kind: str) -> int:
        command = [sys.executable, "-c", MEMORY, tmp_path / "wide.onnx", kind]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    any_size, few = kept("any"), kept("few")
    assert any_size < 150
    assert any_size < 0.6 * few


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
