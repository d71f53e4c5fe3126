"""`contours`: which faces are drawn, what is taken as landmarks and maps, and what is said when a face is unclear."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner import local
from limner.domain.errors import BadImageError, FaceNotFoundError, InvalidRequestError
from limner.local import Made
from limner.operations.contours import CLEAR, UNCLEAR, ContoursResult, contours
from limner.operations.detect import detect
from limner.vision.header import Limits
from limner.vision.models import Models
from tests.conftest import MODELS
from tests.hostile.pictures import case

Pixels = npt.NDArray[np.uint8]
Draw = Callable[..., Made]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture(scope="module")
def draw(models: Models, astronaut: Pixels) -> Draw:
    def draw(given: bytes = saved(astronaut), /, segmentation_map: bytes | None = None, **values: Any) -> Made:
        pictures = {"image": given} | ({"segmentation_map": segmentation_map} if segmentation_map else {})
        return local.run(contours, values, pictures, models=models, limits=Limits())

    return draw


def saved(pixels: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def group(astronaut: Pixels) -> bytes:
    """The same face three times, in three sizes; the middle one of size is on the left."""
    canvas = np.full((520, 1200, 3), 200, np.uint8)
    for x, side in ((10, 300), (330, 512), (870, 200)):
        canvas[4 : 4 + side, x : x + side] = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA)
    return saved(canvas)


def result_of(made: Made) -> ContoursResult:
    assert isinstance(made.result, ContoursResult)
    return made.result


def middle(result: Any) -> float:
    return float(np.mean([point.x for point in result.landmarks]))


def test_one_or_all_faces_are_drawn(draw: Draw, group: bytes) -> None:
    largest, second = draw(group), draw(group, face=2)
    assert list(largest.artifacts) == ["contours.svg"]
    assert 330 < middle(result_of(largest)) < 842
    assert middle(result_of(second)) < 310
    assert "The photo has 3 faces, numbered from the largest." in result_of(largest).assumptions
    every = draw(group, face="all", photo=False)
    assert list(every.artifacts) == ["contours-1.svg", "contours-2.svg", "contours-3.svg"]
    result = result_of(every)
    assert [face.artifact for face in result.faces] == list(every.artifacts)
    assert result.summary() == {"faces_count": 3}
    assert result.mask_contours == result.faces[0].mask_contours == result_of(largest).mask_contours
    assert result.faces[1].landmarks == result_of(second).landmarks
    assert middle(result.faces[2]) > 870
    ids = [set(svg.decode().split('id="')[1:]) for svg in every.artifacts.values()]
    assert not ids[0] & ids[1]


def test_a_face_that_there_is_not(draw: Draw, group: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="no face 4: 3 were found"):
        draw(group, face="4")
    for face in ("0", "smallest", "-1", "1000", True):
        with pytest.raises(InvalidRequestError, match="face"):
            draw(group, face=face)


def covered(photo: Pixels, top: int) -> Pixels:
    """The portrait, its face covered from `top` downwards: below 108 the mesh is hardly sure, below 102 not at all."""
    changed = photo.copy()
    changed[top:190, 175:275] = (120, 140, 160)
    return changed


def test_an_unclear_face_is_drawn_with_a_warning_or_not_at_all(draw: Draw, astronaut: Pixels) -> None:
    assert not any("unclear" in line for line in result_of(draw()).assumptions)
    unsure = result_of(draw(saved(covered(astronaut, 108))))
    assert unsure.presence is not None
    assert UNCLEAR < unsure.presence < CLEAR
    assert any("The face is unclear (presence 0." in line for line in unsure.assumptions)
    with pytest.raises(FaceNotFoundError, match="too unclear"):
        draw(saved(covered(astronaut, 102)))
    together = saved(np.hstack([covered(astronaut, 102), astronaut]))
    result = result_of(draw(together, face="all", photo=False))
    assert len(result.faces) == 1
    assert middle(result) > 512
    assert any("Left out" in line for line in result.assumptions)


def test_what_detect_gives_is_taken_as_landmarks(draw: Draw, models: Models, astronaut: Pixels) -> None:
    found = local.run(
        detect, {"landmarks": "mesh", "mark": "none"}, {"image": saved(astronaut)}, models=models, limits=Limits()
    )
    points = found.result.faces[0].mesh.points  # type: ignore[attr-defined]
    assert len(points[0]) == 3
    drawn = result_of(draw(landmarks=points))
    assert drawn.landmarks_source == "client"
    assert {"left_cheek", "nose"} <= set(drawn.mask_contours)
    pairs = result_of(draw(landmarks=[point[:2] for point in points]))
    assert pairs.mask_contours == drawn.mask_contours


def test_what_mediapipe_gives_is_taken_as_landmarks(draw: Draw, astronaut: Pixels) -> None:
    height, width = astronaut.shape[:2]
    plain = result_of(draw())
    shares = [
        {"x": point.x / width, "y": point.y / height, "z": -0.01, "visibility": 0.0, "presence": 0.0}
        for point in plain.landmarks
    ]
    drawn = result_of(draw(landmarks=shares, landmarks_unit="normalised"))
    assert set(drawn.mask_contours) == set(plain.mask_contours)
    assert middle(drawn) == pytest.approx(middle(plain), abs=0.1)
    with pytest.raises(InvalidRequestError, match="landmarks_unit"):
        draw(landmarks=shares)
    with pytest.raises(InvalidRequestError, match="only with `landmarks`"):
        draw(landmarks_unit="normalised")
    with pytest.raises(InvalidRequestError, match="which face"):
        draw(landmarks=shares, landmarks_unit="normalised", face="all")


@pytest.mark.parametrize("points", [[[1, 2, 3, 4]] * 478, [[1]] * 478, [["a", "b"]] * 478, [[]] * 478, [7] * 478])
def test_other_points_are_refused(draw: Draw, points: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match="landmarks"):
        draw(landmarks=points)


def test_maps_are_read_as_meant(draw: Draw) -> None:
    plain = result_of(draw(segmentation_map=case("map_grey.png"), scheme="labels"))
    assert set(plain.mask_contours) == {"1", "2", "3", "4", "5", "6", "7", "10"}
    by_index = draw(segmentation_map=case("map_optimised_palette.png"), scheme="labels", map_values="indices")
    assert set(result_of(by_index).mask_contours) == {"1", "2", "3", "4", "5", "6", "7", "8"}
    with pytest.raises(InvalidRequestError, match="palette"):
        draw(segmentation_map=case("map_optimised_palette.png"))
    with pytest.raises(InvalidRequestError, match="only with a `segmentation_map`"):
        draw(map_values="indices")
    for name in ("map_broken.avif", "map_jpeg_q95.jpg", "map_resized_bilinear.png", "hostile/map500.tif"):
        with pytest.raises((InvalidRequestError, BadImageError)):
            draw(segmentation_map=case(name))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("map_values", {"map_values": "indices"}),
        ("label_meanings", {"label_meanings": {"1": "skin"}}),
        ("clip", {"clip": True, "photo": False}),
        ("transparent", {"transparent": True, "photo": False}),
        ("landmarks_unit", {"landmarks_unit": "normalised"}),
        ("regions", {"regions": {"a": [1, 2, 3]}}),
        ("regions", {"scheme": "own"}),
    ],
)
def test_what_would_be_ignored_is_refused(draw: Draw, field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        draw(**values)
    assert caught.value.extra["field"] == field


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"face": "smallest"}, "`largest`, `all`, or the number of a face"),
        ({"fill": "#12"}, "not a colour. Use #rgb"),
        ({"fill": "notacolour"}, "not a colour. Use #rgb"),
        ({"landmarks": [[1, 2, 3, 4]] * 478}, "a list of two or three numbers"),
    ],
)
def test_what_is_wanted_is_said_in_words(draw: Draw, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        draw(**values)
    told = str(caught.value)
    assert words in told
    assert not any(part in told for part in ("pattern", "Value error", "^"))


@pytest.mark.parametrize("style", ["default", "classic", "light"])
def test_colours_can_be_changed_one_by_one(draw: Draw, style: str) -> None:
    made = draw(style=style, fill="teal", fills={"nose": "#123456"}, stroke="black", photo=False)
    drawing = made.artifacts["contours.svg"].decode()
    assert drawing.count('fill="teal" stroke="black"') >= 10
    assert drawing.count('fill="#123456" stroke="black"') == 1
    assert any("`fills`" in line and "nosse" in line for line in result_of(draw(fills={"nosse": "red"})).assumptions)
    with pytest.raises(InvalidRequestError, match="not a colour"):
        draw(fill="notacolour")
