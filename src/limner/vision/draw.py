"""Faces marked in a picture: framed, blurred or pixelated."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision.faces import Face

Pixels = npt.NDArray[np.uint8]


def boxes(image: Pixels, faces: Sequence[Face]) -> None:
    for face in faces:
        b = face.box
        cv2.rectangle(image, (int(b.x), int(b.y)), (int(b.x + b.width), int(b.y + b.height)), (0, 220, 160), 2)


def blur(image: Pixels, faces: Sequence[Face]) -> None:
    pixelate(image, faces)


def pixelate(image: Pixels, faces: Sequence[Face]) -> None:
    for face in faces:
        b = face.box
        patch = image[max(0, int(b.y)) : int(b.y + b.height), max(0, int(b.x)) : int(b.x + b.width)]
        if patch.size:
            patch[:] = cv2.resize(
                cv2.resize(patch, (8, 8), interpolation=cv2.INTER_AREA),
                (patch.shape[1], patch.shape[0]),
                interpolation=cv2.INTER_NEAREST,
            )
