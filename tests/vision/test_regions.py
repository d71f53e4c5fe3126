"""Regions as masks: which exist, where they lie, and that none covers another label."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.domain.errors import InvalidRequestError, TooLargeError
from limner.vision import labels, outlines, regions
from limner.vision.header import Limits
from tests.conftest import as_jpeg
from tests.vision import synthetic

Mask = npt.NDArray[np.uint8]
SHAPE = (synthetic.SIDE, synthetic.SIDE)


@pytest.fixture(scope="module")
def face() -> outlines.Outlines:
    return outlines.outlines(synthetic.landmarks_68(), 2.2)


@pytest.fixture(scope="module")
def label_map() -> Mask:
    return synthetic.label_map()


@pytest.fixture(scope="module")
def with_map(face: outlines.Outlines, label_map: Mask) -> dict[str, Mask]:
    return regions.named(face, SHAPE, regions.label_parts(label_map, labels.MEANINGS))


def as_png(pixels: Mask) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def middle(mask: Mask) -> tuple[float, float]:
    y, x = np.nonzero(mask)
    return float(x.mean()), float(y.mean())


def test_with_a_map_every_named_region_is_there(with_map: dict[str, Mask]) -> None:
    assert set(with_map) == {*regions.NAMED, "lower_face"}


def test_without_a_map_ears_and_hair_are_not(face: outlines.Outlines) -> None:
    drawn = regions.named(face, SHAPE)
    assert set(regions.NAMED) - set(drawn) == {"left_ear", "right_ear", "hair"}


def test_no_region_covers_another_label(with_map: dict[str, Mask], label_map: Mask) -> None:
    value_of = {meaning: value for value, meaning in labels.MEANINGS.items()}
    for name, mask in with_map.items():
        assert set(np.unique(label_map[mask > 0])) == {value_of.get(name, value_of["skin"])}, name


@pytest.mark.parametrize("mapped", [True, False])
def test_regions_do_not_overlap(face: outlines.Outlines, with_map: dict[str, Mask], mapped: bool) -> None:
    masks = with_map if mapped else regions.named(face, SHAPE)
    together = sum((masks[name] > 0).astype(int) for name in masks if name != "lower_face")
    assert np.count_nonzero(together > 1) == 0


def test_regions_lie_where_their_names_say(with_map: dict[str, Mask]) -> None:
    at = {name: middle(mask) for name, mask in with_map.items()}
    centre = synthetic.SIDE / 2
    for part in ("brow", "eye", "under_eye", "cheek", "ear"):
        assert at[f"left_{part}"][0] < centre < at[f"right_{part}"][0]
        assert at[f"left_{part}"][1] == pytest.approx(at[f"right_{part}"][1], abs=6)
    order = ["hair", "forehead", "left_brow", "left_eye", "left_under_eye", "left_cheek", "mouth", "chin"]
    heights = [at[name][1] for name in order]
    assert heights == sorted(heights)


def test_the_forehead_reaches_the_hairline(with_map: dict[str, Mask]) -> None:
    column = slice(synthetic.SIDE // 2 - 5, synthetic.SIDE // 2 + 5)
    lowest_hair = np.nonzero(with_map["hair"][: synthetic.SIDE // 2, column].any(axis=1))[0].max()
    highest = np.nonzero(with_map["forehead"][:, column].any(axis=1))[0].min()
    assert highest - lowest_hair <= 5


def test_the_under_eye_follows_the_lid(with_map: dict[str, Mask]) -> None:
    eye, below = with_map["left_eye"], with_map["left_under_eye"]
    columns = np.nonzero(below.any(axis=0))[0]
    inner = columns[len(columns) // 4 : -len(columns) // 4]
    lid = [int(np.nonzero(eye[:, column])[0].max()) for column in inner]
    top = [int(np.nonzero(below[:, column])[0].min()) for column in inner]
    gap = np.array(top) - np.array(lid)
    assert gap.min() >= 1
    assert np.ptp(gap) <= 0.02 * synthetic.SIDE


def test_without_labels_of_features_they_are_drawn_on_skin(face: outlines.Outlines, label_map: Mask) -> None:
    only_skin = np.where((label_map > 0) & (label_map < 10), 1, label_map).astype(np.uint8)
    masks = regions.named(face, SHAPE, regions.label_parts(only_skin, labels.MEANINGS))
    assert {"left_brow", "right_eye", "nose", "upper_lip"} <= set(masks)
    assert all((only_skin[masks[name] > 0] == 1).all() for name in masks if name != "hair")


def test_a_map_from_the_persons_view_is_detected(label_map: Mask) -> None:
    parts = regions.label_parts(label_map, labels.MEANINGS)
    assert not regions.swapped_sides(parts)
    exchanged = regions.with_sides_swapped(parts)
    assert regions.swapped_sides(exchanged)
    assert np.array_equal(regions.with_sides_swapped(exchanged)["left_eye"], parts["left_eye"])


def test_labels_scheme_is_the_map_itself(label_map: Mask) -> None:
    masks = regions.by_label(label_map)
    assert set(masks) == {str(value) for value in range(1, 11)}
    assert all(np.array_equal(mask > 0, label_map == int(value)) for value, mask in masks.items())


def test_own_regions_stay_on_the_head(label_map: Mask) -> None:
    points = synthetic.landmarks_68()
    head = (label_map > 0).astype(np.uint8) * np.uint8(255)
    masks = regions.own(points, {"jaw": [*range(17)], "spot": [30, 30, 30]}, SHAPE, head)
    assert (label_map[masks["jaw"] > 0] > 0).all()


@pytest.mark.parametrize(("width", "height"), [(600, 600), (300, 300), (1199, 1201)])
def test_a_map_of_the_photos_aspect_passes(width: int, height: int, label_map: Mask) -> None:
    assert labels.check(label_map, width, height) == list(range(11))


def test_a_picture_that_is_no_label_map_is_refused(label_map: Mask) -> None:
    with pytest.raises(InvalidRequestError, match="aspect"):
        labels.check(label_map, 600, 585)
    many = np.arange(200 * 200, dtype=np.uint32).reshape(200, 200).astype(np.uint8)
    with pytest.raises(InvalidRequestError, match="256 values"):
        labels.check(many, 200, 200)
    with pytest.raises(InvalidRequestError, match="empty"):
        labels.check(np.zeros((20, 20), np.uint8), 20, 20)
    with pytest.raises(InvalidRequestError, match="8-bit"):
        labels.check(np.zeros((20, 20, 3), np.uint8), 20, 20)


def test_maps_are_read_from_files(label_map: Mask, astronaut: Mask) -> None:
    assert np.array_equal(labels.decode(as_png(label_map), Limits()), label_map)
    assert np.array_equal(labels.decode(as_png(np.dstack([label_map] * 3)), Limits()), label_map)
    with pytest.raises(InvalidRequestError, match="label picture"):
        labels.decode(as_jpeg(astronaut), Limits())
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        labels.decode(b"no picture", Limits())
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        labels.decode(as_png(label_map)[:300], Limits())
    with pytest.raises(TooLargeError):
        labels.decode(as_png(label_map), Limits(max_pixels=1000))
