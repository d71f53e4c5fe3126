"""Several squares in one call of a network, against one call for each."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from limner.vision import hits, looks
from limner.vision.centerface import CenterFace
from limner.vision.pyramid import Pyramid
from limner.vision.yunet import YuNet

Pixels = npt.NDArray[np.uint8]


@pytest.mark.parametrize("network", [YuNet, CenterFace])
def test_squares_together_give_what_each_gives_alone(
    network: type[YuNet | CenterFace], models_dir: Path, astronaut: Pixels
) -> None:
    loaded, pyramid = network(models_dir), Pyramid(astronaut)
    # The face in the middle, at the left, an empty place, and one beyond the edge of the picture.
    squares = [(134, 30, 180), (170, 40, 200), (0, 300, 150), (480, 480, 90), *[(134, 30, 180)] * 6]
    together = looks.at_squares(loaded, pyramid, squares, 96, 0.5)
    assert [len(each) for each in together] == [1, 1, 0, 0, *[1] * 6]
    for square, found in zip(squares, together, strict=True):
        (alone,) = looks.at_squares(loaded, pyramid, [square], 96, 0.5, at_once=1)
        assert len(alone) == len(found)
        if len(found):
            assert hits.overlaps(alone, found)[0, 0] > 0.8
            assert np.abs(alone[0, 5:] - found[0, 5:]).max() < 8


def test_no_square_is_no_call(models_dir: Path, astronaut: Pixels) -> None:
    assert looks.at_squares(YuNet(models_dir), Pyramid(astronaut), [], 96, 0.5) == []
