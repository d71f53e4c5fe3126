"""Paper and ink: the colours between them, by the share of ink."""

import numpy as np

from limner.painters.drawn.fields import Field, Pixels

Colour = tuple[int, int, int]


def inked(cover: Field, paper: Colour, ink: Colour) -> Pixels:
    """RGB of each pixel; `cover`, (H, W): the share of ink, clipped to 0..1."""
    share = np.arange(256)[:, None] / 255.0
    table = np.round(np.array(paper) * (1 - share) + np.array(ink) * share).astype(np.uint8)
    return np.take(table, (np.clip(cover, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), axis=0)
