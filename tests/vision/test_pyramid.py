"""Sizes and places in the pyramid of a picture."""

import numpy as np
import pytest

from limner.vision.pyramid import Pyramid, half


def test_half_averages_and_drops_an_odd_row() -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    small = half(picture)
    assert small.shape == (2, 3, 3)
    assert small[0, 0, 0] == pytest.approx(picture[:2, :2, 0].mean(), abs=0.5)


@pytest.mark.parametrize("factor", [1.3, 1.0, 0.6, 0.31, 0.13, 0.01])
@pytest.mark.parametrize("size", [(640, 480), (1001, 703), (333, 2047)])
def test_a_scaled_picture_has_its_content_where_the_factors_say(size: tuple[int, int], factor: float) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2] = 255
    picture[: height // 2] = 255
    pixels, across, down = Pyramid(picture).scaled(factor)
    assert across == pytest.approx(factor, abs=1 / width + 0.5 / width)
    assert down == pytest.approx(factor, abs=1 / height + 0.5 / height)
    assert abs(int((pixels[-1, :, 0] > 127).sum()) - width // 2 * across) <= 1
    assert abs(int((pixels[:, -1, 0] > 127).sum()) - height // 2 * down) <= 1


@pytest.mark.parametrize(("extent", "side"), [(40, 96), (100, 96), (333, 96), (900, 64)])
def test_a_part_beyond_the_edge_is_cut_there(extent: int, side: int) -> None:
    picture = np.zeros((600, 800, 3), np.uint8)
    picture[590:, 780:] = 200
    left, top = 800 - extent // 2, 600 - extent // 2
    part, across, down = Pyramid(picture).part(left, top, extent, side)
    assert part.shape[0] <= side
    assert part.shape[1] <= side
    assert part.shape[1] / across == pytest.approx(800 - left, abs=extent / side * 2 + 2)
    assert part[-1, -1, 0] > 100
    assert down == pytest.approx(side / extent, rel=0.1)


def test_factor_is_by_area() -> None:
    pyramid = Pyramid(np.zeros((100, 400, 3), np.uint8))
    assert pyramid.factor(10_000) == 0.5
    assert pyramid.factor(160_000) == 1
    assert pyramid.factor(160_000, 1.5) == 1.5


def test_turned() -> None:
    pyramid = Pyramid(np.zeros((100, 400, 3), np.uint8))
    assert pyramid.turned(4) is pyramid
    assert (pyramid.turned(1).width, pyramid.turned(1).height) == (100, 400)
