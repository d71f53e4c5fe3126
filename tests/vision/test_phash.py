"""The perceptual hash: small distances for the same photo, large ones for others."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from limner.vision import header, image, phash


@pytest.mark.parametrize("quality", [20, 50, 92])
def test_a_re_encoded_photo_is_the_same(astronaut: npt.NDArray[np.uint8], quality: int) -> None:
    again = image.decode(image.encode(astronaut, "jpeg", quality=quality), header.Limits())
    assert _apart(astronaut, again) <= phash.SAME_PHOTO


@pytest.mark.parametrize("scale", [0.4, 2.0])
def test_a_resized_photo_is_the_same(astronaut: npt.NDArray[np.uint8], scale: float) -> None:
    again = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert _apart(astronaut, np.asarray(again, np.uint8)) <= phash.SAME_PHOTO


def test_other_photos_are_far(astronaut: npt.NDArray[np.uint8]) -> None:
    others = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket(), astronaut[:, ::-1]]
    assert min(_apart(astronaut, other) for other in others) > 3 * phash.SAME_PHOTO


def test_is_64_bits_and_half_of_them_set(astronaut: npt.NDArray[np.uint8]) -> None:
    assert phash.perceptual_hash(astronaut).bit_count() == 32
    assert phash.perceptual_hash(astronaut) < 1 << 64
    assert phash.perceptual_hash(np.zeros((1, 1, 3), np.uint8)) == 0


def test_hamming_counts_bits() -> None:
    assert phash.hamming(0b1011, 0b0010) == 2


def _apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> int:
    return phash.hamming(phash.perceptual_hash(one), phash.perceptual_hash(other))
