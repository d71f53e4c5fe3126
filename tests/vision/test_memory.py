"""When memory runs out while a picture is decoded, that is said, and not that the picture is broken or we are."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from limner.vision.memory import is_out_of_memory
from tests.hostile.pictures import container, extent, grid, noise, saved, tile

SIDE = 3072
ROOM = 12_000_000  # bytes; the pixels take 28 MB
CODE = """
import resource, sys
from pathlib import Path
import cv2, numpy, pi_heif
from PIL import Image
from limner.domain.errors import BadImageError
from limner.vision import image
from limner.vision.header import Limits
from tests.hostile.pictures import noise, saved
cv2.setNumThreads(1)
for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"):
    image.decode(saved(noise(), kind), Limits())
data = Path(sys.argv[1]).read_bytes()
size = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]), -1))
try:
    image.decode_picture(data, Limits(max_bytes=len(data)))
except MemoryError:
    print("memory")
except BadImageError:
    print("broken")
"""


def _heic() -> bytes:
    code, data = tile(b"heic", SIDE // 4, SIDE // 4)
    items = [(b"grid", [3], grid(4, 4, SIDE, SIDE)), *[(b"hvc1", [1, 2], data)] * 16]
    sizes = [extent(SIDE // 4, SIDE // 4), extent(SIDE, SIDE)]
    return container(b"heic", items, [code, *sizes], [(b"dimg", 1, range(2, 18))])


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(noise(SIDE, SIDE), "JPEG"),
    "PNG": lambda: saved(noise(SIDE, SIDE), "PNG", compress_level=1),
    "WebP": lambda: saved(noise(SIDE, SIDE), "WEBP", method=0),
    "GIF": lambda: saved(noise(SIDE, SIDE), "GIF"),
    "BMP": lambda: saved(noise(SIDE, SIDE), "BMP"),
    "TIFF": lambda: saved(noise(SIDE, SIDE), "TIFF", compression="tiff_lzw"),
    "AVIF": lambda: saved(noise(SIDE, SIDE), "AVIF", speed=10),
    "HEIC": _heic,
}
SAYS_ONLY_BROKEN = {"AVIF", "HEIC"}  # their libraries do not tell why they failed


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS counts there")
@pytest.mark.parametrize("kind", FILES)
def test_no_memory_for_a_picture(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(FILES[kind]())
    for room, wanted in ((ROOM, {"memory"} | ({"broken"} if kind in SAYS_ONLY_BROKEN else set())), (10**9, {""})):
        command = [sys.executable, "-c", CODE, str(path), str(room)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        assert done.stdout.strip() in wanted, done.stderr


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(cv2.error) as caught:
        cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**30))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert is_out_of_memory(caught.value) == (caught.value.code == -4)
    assert not is_out_of_memory(ValueError("no memory of it"))
    assert not is_out_of_memory(KeyError("code"))
    assert is_out_of_memory(ImportError("/x/y.so: failed to map segment from shared object"))
    assert not is_out_of_memory(ImportError("No module named 'y'"))
