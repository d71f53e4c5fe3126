"""What an effect draws from (`Study`) and on (`Canvas`): tones at the worked size, lines at the output's."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from limner.painters.drawn.exposure import exposed
from limner.painters.drawn.fields import Field, Pixels, blurred, to_pixels
from limner.painters.drawn.scale import Scale, scale_of
from limner.vision.faces import Box

Show = Callable[[float, Pixels | None], None]
"""Called with the part that is done, 0..1, and what the picture looks like so far. It may raise, to stop the work."""

_BANDS_FROM = 0.5  # the part that is done when the first band is drawn, about
_BAND_AREA = 400_000  # pixels that are drawn at a time: little memory, and they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Band:
    """Rows `top` to `top + height` of the canvas."""

    canvas: "Canvas"
    top: int
    height: int

    @property
    def width(self) -> int:
        return self.canvas.width

    def of(self, field: Field) -> Field:
        """A field of the worked size, enlarged bicubically to the canvas: the part in this band. It may overshoot."""
        height, width = field.shape[:2]
        scale_x, scale_y = self.canvas.width / width, self.canvas.height / height
        if scale_x == scale_y == 1.0:
            return field[self.top : self.top + self.height]
        # Pixel centres: canvas = (worked + 0.5) * scale - 0.5.
        matrix = np.array(
            [[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5 - self.top]], np.float64
        )
        return np.asarray(
            cv2.warpAffine(
                field, matrix, (self.width, self.height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            ),
            np.float32,
        )

    def grid(self) -> tuple[Field, Field]:
        """x and y of every pixel of the band, in pixels of the canvas."""
        x, y = np.meshgrid(
            np.arange(self.width, dtype=np.float32),
            np.arange(self.top, self.top + self.height, dtype=np.float32),
        )
        return x, y


@dataclass(frozen=True, slots=True)
class Canvas:
    """`width`, `height`: pixels. `scale`: canvas pixels per pixel of the worked size, at least 1 but for rounding."""

    width: int
    height: int
    scale: float
    show: Show

    def bands(self, drawn: Pixels) -> Iterator[Band]:
        """The bands, to be drawn into `drawn`, which is shown after each."""
        rows = max(1, _BAND_AREA // self.width)
        for top in range(0, self.height, rows):
            yield Band(self, top, min(rows, self.height - top))
            done = min(top + rows, self.height) / self.height
            self.show(_BANDS_FROM + (1 - _BANDS_FROM) * done, drawn)

    def empty(self) -> Pixels:
        """White paper."""
        return np.full((self.height, self.width, 3), 255, np.uint8)


class Study:
    """A photo prepared for drawing: worked size, exposure, stroke unit. Fields are float32, 0..1."""

    def __init__(
        self,
        photo: Pixels,
        faces: Sequence[Box],
        meshes: Sequence[Field],
        seed: int,
        size: tuple[int, int],
        *,
        expose: bool = True,
        draft: bool = False,
        show: Show = lambda _part, _picture: None,
    ) -> None:
        """photo: (H, W, 3) RGB uint8. faces, meshes ((N, 2 or more)): its pixels. size: width and height asked for.
        expose: whether colours are made as light as suits drawing; tones for lines always are."""
        height, width = photo.shape[:2]
        scale: Scale = scale_of(width, height, faces, draft=draft)
        self.width, self.height, self.unit = scale.width, scale.height, scale.unit
        factor_x, factor_y = self.width / width, self.height / height
        self.faces = [
            Box(box.x * factor_x, box.y * factor_y, box.width * factor_x, box.height * factor_y) for box in faces
        ]
        self.meshes = [np.asarray((mesh[:, :2] + 0.5) * (factor_x, factor_y) - 0.5, np.float32) for mesh in meshes]
        small = self.width * self.height < width * height
        worked = cv2.resize(
            photo, (self.width, self.height), interpolation=cv2.INTER_AREA if small else cv2.INTER_CUBIC
        )
        self.colour: Field  # (H, W, 3) RGB
        self.tone: Field  # (H, W) lightness
        colour = np.asarray(worked, np.float32) / np.float32(255.0)
        exposed_colour, self.tone = exposed(colour, self.faces)
        self.colour = exposed_colour if expose else colour
        # A small output is drawn at the worked size and reduced at the end, so that lines stay smooth.
        enlarged = max(size[0] / self.width, size[1] / self.height)
        self.canvas = (
            Canvas(size[0], size[1], math.sqrt(size[0] * size[1] / (self.width * self.height)), show)
            if enlarged > 1.0
            else Canvas(self.width, self.height, 1.0, show)
        )
        self._seed = seed
        self._show = show

    def show(self, part: float, colour: Field) -> None:
        """Show what an effect has so far at the worked size, before it draws bands; `part`: 0 to 0.5."""
        self._show(part, to_pixels(colour))

    def in_faces(self) -> Field:
        """(H, W): 1 in the faces and the hair round them, decreasing to 0 beside them."""
        inside = np.zeros((self.height, self.width), np.float32)
        for box in self.faces:
            centre = (box.x + box.width / 2, box.y + 0.45 * box.height)
            cv2.ellipse(inside, (centre, (1.25 * box.width, 1.25 * box.height), 0.0), 1.0, -1)
        return blurred(inside, 5.0 * self.unit)

    def rng(self) -> np.random.Generator:
        """A generator that gives the same numbers for the same seed."""
        return np.random.default_rng(self._seed)
