"""Previews: a linear map from a model's latents to colours, fitted to its own decoder when it is loaded.

A decoder is nearly linear in how it codes colour: one latent cell is a block of 8×8 pixels of about one colour. The map
takes a fraction of a millisecond; decoding takes seconds.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from limner.painters.painter import RGB

_SIDE = 96  # pixels of the picture that the map is fitted with
_RIDGE = 1e-3


@dataclass(frozen=True)
class LinearPreview:
    """RGB 0 to 1 = latents · `weights` + `bias`."""

    weights: "NDArray[np.float32]"
    """(channels, 3)."""
    bias: "NDArray[np.float32]"
    """(3,)."""

    def of(self, latents: "torch.Tensor", cells: tuple[int, int], *, is_packed: bool) -> "RGB":
        """One pixel for each cell. `cells`: height and width; `is_packed`: sequences as FLUX has them."""
        import torch

        planes = unpacked(latents, cells) if is_packed else latents
        first = planes[0].detach().to("cpu", torch.float32).numpy()
        return self._coloured(first)

    def _coloured(self, planes: "NDArray[np.float32]") -> "RGB":
        colours = np.tensordot(planes, self.weights, axes=(0, 0)) + self.bias
        return np.asarray(np.nan_to_num(colours).clip(0, 1) * 255 + 0.5, np.uint8)


def unpacked(latents: "torch.Tensor", cells: tuple[int, int]) -> "torch.Tensor":
    """(1, C, H, W) of (1, H/2 · W/2, 4C)."""
    height, width = cells
    count, _, depth = latents.shape
    parts = latents.reshape(count, height // 2, width // 2, depth // 4, 2, 2)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(count, depth // 4, height, width)


def fit(vae: Any, device: "torch.device") -> LinearPreview:
    """The map that suits a decoder best, by least squares over the cells of a colourful picture."""
    import torch

    width = torch.float32 if getattr(vae.config, "force_upcast", False) else vae.dtype
    before = vae.dtype
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scale = vae.config.scaling_factor
    picture = torch.from_numpy(_colours(_SIDE)).permute(2, 0, 1)[None] * 2 - 1
    vae.to(dtype=width)
    try:
        with torch.no_grad():
            coded = vae.encode(picture.to(device, width))
            latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
            decoded = vae.decode(latents, return_dict=False)[0]
            blocks = torch.nn.functional.interpolate(decoded.float(), size=latents.shape[-2:], mode="area")
            given = ((latents.float() - shift) * scale)[0].flatten(1).T.cpu().numpy()
            wanted = (blocks[0].flatten(1).T / 2 + 0.5).cpu().numpy()
    finally:
        vae.to(dtype=before)
    return _solved(np.nan_to_num(given), np.nan_to_num(wanted).clip(0, 1))


def _solved(given: "NDArray[np.float32]", wanted: "NDArray[np.float32]") -> LinearPreview:
    """Ridge regression; `given`: (cells, channels), `wanted`: (cells, 3)."""
    middle, mean = given.mean(axis=0), wanted.mean(axis=0)
    away = (given - middle).astype(np.float64)
    square = away.T @ away
    square += np.eye(len(square)) * (_RIDGE * np.trace(square) / len(square) + 1e-9)
    weights = np.linalg.solve(square, away.T @ (wanted - mean)).astype(np.float32)
    return LinearPreview(weights, (mean - middle @ weights).astype(np.float32))


def _colours(side: int) -> "NDArray[np.float32]":
    """(side, side, 3), 0 to 1: soft patches of all colours, the same each time."""
    import cv2

    drawn = np.random.default_rng(0).random((6, 6, 3), np.float32)
    return np.asarray(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_CUBIC), np.float32).clip(0, 1)
