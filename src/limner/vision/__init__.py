"""Pictures in, numbers and pictures out: pure functions on arrays, one model or one idea a file.

Read `faces.py` (the vocabulary), `image.py` (bytes to pixels and back), then `yunet.py`.
Pictures are upright RGB, (H, W, 3) uint8, unless a docstring says otherwise. Coordinates are pixels, origin top left,
x to the right, y down; a pixel's centre is at (+0.5, +0.5). *Left* and *right* are as seen in the picture.
"""
