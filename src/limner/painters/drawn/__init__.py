"""Drawn effects: a photo restyled by classical picture processing, without weights. Read `styles.py`, then `paint.py`.

Only `styles.py` may be imported where pictures are not worked on: it needs neither NumPy nor OpenCV.
"""
