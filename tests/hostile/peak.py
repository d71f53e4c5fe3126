"""Decodes a file as a worker does and prints how much memory that took at most: `python -m tests.hostile.peak FILE`."""

import re
import sys
from pathlib import Path

import cv2
from PIL import Image

from limner.vision import image
from limner.vision.header import Limits


def resident_peak() -> int:
    """The most bytes that were resident since the last reset."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def main() -> None:
    """One decoding, after everything that a worker has loaded before its first job."""
    cv2.setNumThreads(2)
    Image.init()
    data = Path(sys.argv[1]).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    before = resident_peak()
    picture = image.decode_picture(data, Limits(max_bytes=len(data)))
    height, width = picture.pixels.shape[:2]
    print(width, height, resident_peak() - before)


if __name__ == "__main__":
    main()
