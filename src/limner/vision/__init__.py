"""Computer vision as pure functions on arrays, one model or one algorithm per file. Read `faces.py`, then `image.py`.

Pictures are upright RGB, (H, W, 3) uint8; origin top left, y down, pixel centres at +0.5; left is the picture's left.
"""
