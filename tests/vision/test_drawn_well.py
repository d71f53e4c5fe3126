"""Properties of every drawing: mirrored photo, mirrored regions; no overlap; even gaps; names inside and apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from limner.vision import align, lettering, outlines
from limner.vision.contours import Contours, Options, trace
from limner.vision.faces import Face
from limner.vision.mesh import FaceMesh
from limner.vision.models import Models
from tests.vision import synthetic

Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
SVG = "{http://www.w3.org/2000/svg}"
FINE = 6  # masks are drawn so many times finer than the photo


@pytest.fixture(scope="module")
def mesh(models_dir: Path) -> FaceMesh:
    return Models(models_dir).mesh()


@pytest.fixture(scope="module")
def face_of(models_dir: Path) -> Any:
    detector = Models(models_dir).detector()

    def largest(photo: Pixels) -> Face:
        return max(detector.detect(photo, min_score=0.5), key=lambda face: face.box.width)

    return largest


def contours_of(photo: Pixels, mesh: FaceMesh, face: Face, **options: Any) -> Contours:
    points = mesh.fit(photo, [face], symmetric=True)[0].points[:, :2].astype(np.float64)
    return trace(photo, points, None, Options(photo=False, **options), landmarks_source="server")


@pytest.fixture(scope="module")
def portrait(astronaut: Pixels, mesh: FaceMesh, face_of: Any) -> Contours:
    return contours_of(astronaut, mesh, face_of(astronaut))


@pytest.fixture(scope="module")
def mapped() -> Contours:
    return trace(synthetic.photo(), synthetic.landmarks_68(), synthetic.label_map(), Options(photo=False))


def masks(drawn: Contours, scale: float) -> dict[str, Pixels]:
    """The polygons, drawn `scale` times larger."""
    shape = (round(drawn.crop.height * scale), round(drawn.crop.width * scale))
    found = {}
    for name, rings in drawn.mask_contours.items():
        found[name] = np.zeros(shape, np.uint8)
        cv2.fillPoly(found[name], [np.round(np.array(ring) * scale - 0.5).astype(np.int32) for ring in rings], 1)
    return found


def in_photo(drawn: Contours, side: int) -> dict[str, Pixels]:
    """The polygons in the photo's frame, `FINE` times larger."""
    back = align.scaling(FINE, FINE) @ align.inverse(drawn.transform)
    found = {}
    for name, rings in drawn.mask_contours.items():
        found[name] = np.zeros((side * FINE, side * FINE), np.uint8)
        polygons = [np.round(align.apply(back, np.array(ring))).astype(np.int32) for ring in rings]
        cv2.fillPoly(found[name], polygons, 1)
    return found


def outline(mask: Pixels) -> Pixels:
    """The pixels of a mask at its edge."""
    return mask - np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)), np.uint8)


def test_a_mirrored_photo_gives_mirrored_regions(
    astronaut: Pixels, portrait: Contours, mesh: FaceMesh, face_of: Any
) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    one = in_photo(portrait, len(astronaut))
    other = in_photo(contours_of(mirrored, mesh, face_of(mirrored)), len(astronaut))
    swap = {"left": "right", "right": "left"}
    for name, mask in one.items():
        side, _, part = name.partition("_")
        twin = other[f"{swap[side]}_{part}" if side in swap else name][:, ::-1]
        overlap = np.count_nonzero(mask & twin) / np.count_nonzero(mask | twin)
        # The upper lip is two pixels of this photo thick and the lower one five, so 0.2 px are much of their area.
        assert overlap >= {"upper_lip": 0.7, "lower_lip": 0.8}.get(name, 0.9), (name, overlap)
        apart = cv2.distanceTransform(1 - outline(twin), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[outline(mask) > 0] / FINE
        assert apart.mean() < 0.4, (name, apart.mean())  # pixels of the photo; measured: 0.09 to 0.29
        assert np.percentile(apart, 95) < 1, name


@pytest.mark.parametrize("which", ["portrait", "mapped"])
def test_regions_do_not_overlap(which: str, request: pytest.FixtureRequest) -> None:
    drawn: Contours = request.getfixturevalue(which)
    count = sum(mask.astype(int) for mask in masks(drawn, 4.0).values())
    assert np.count_nonzero(np.asarray(count) > 1) == 0


def test_gaps_are_even(portrait: Contours) -> None:
    """Where two regions run along each other, their distance is the same, within the smoothing's tolerance."""
    scale = 8.0
    drawn = masks(portrait, scale)
    face = float(np.ptp(portrait.landmarks[:, 0])) * scale
    gaps = {}
    for one, other in (
        ("left_under_eye", "left_cheek"),
        ("right_under_eye", "right_cheek"),
        ("left_eye", "left_under_eye"),
        ("right_eye", "right_under_eye"),
        ("left_cheek", "nose"),
        ("right_cheek", "nose"),
        ("forehead", "left_brow"),
        ("forehead", "right_brow"),
        ("jaw", "chin"),
        ("left_cheek", "jaw"),
        ("chin", "lower_lip"),
    ):
        distance = cv2.distanceTransform(1 - drawn[one], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near = distance[outline(drawn[other]) > 0]
        gaps[one, other] = np.percentile(near[near < 0.03 * face], [5, 50]) / face
    for pair, (closest, usual) in gaps.items():
        assert closest > 0.013, (pair, closest)  # measured: 0.0147 to 0.0156 of the face's width
        assert 0.015 < usual < 0.019, (pair, usual)  # 0.0162 to 0.0173


def boxes(drawn: Contours) -> list[tuple[str, float, float, float, float, bool]]:
    """Each name with its box in the view, and whether it has a line to its region."""
    found = []
    for group in ET.fromstring(drawn.svg).iter(f"{SVG}g"):
        text = group.find(f"{SVG}text[@class='name']")
        if group.get("class") != "region" or text is None:
            continue
        font = float(text.get("font-size", 0))
        width = lettering.text_width(text.text or "", font)
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.get("text-anchor", "")]
        has_line = group.find(f"{SVG}path[@class='leader']") is not None
        found.append((group.get("data-region", ""), left, y - 0.4 * font, left + width, y + 0.4 * font, has_line))
    return found


def drawings(portrait: Contours, mapped: Contours) -> Sequence[Contours]:
    """The portrait, with a map, tilted by 90°, at the photo's edge, and with many names of one's own."""
    photo, points = synthetic.photo(), synthetic.landmarks_68()
    tilted = trace(photo, synthetic.landmarks_68(roll=90), None, Options(photo=False))
    cut = trace(photo, points - [220, 0], None, Options(photo=False), landmarks_source="server")
    own = {f"part number {number}": [number, number + 1, 30] for number in range(60)}
    many = trace(photo, points, None, Options(photo=False, scheme="own", regions=own))
    return (portrait, mapped, tilted, cut, many)


def test_names_are_inside_their_region_or_have_a_line(portrait: Contours, mapped: Contours) -> None:
    for drawn in drawings(portrait, mapped):
        painted = masks(drawn, 4.0)
        assert {name for name, *_ in boxes(drawn)} == set(painted)
        for name, left, top, right, bottom, has_line in boxes(drawn):
            if not has_line:
                area = painted[name][round(top * 4) : round(bottom * 4), round(left * 4) : round(right * 4)]
                assert area.mean() > 0.97, name


def test_names_do_not_touch_each_other_and_lie_in_the_view(portrait: Contours, mapped: Contours) -> None:
    for drawn in drawings(portrait, mapped):
        x, y, width, height = map(float, (ET.fromstring(drawn.svg).get("viewBox") or "").split())
        placed = boxes(drawn)
        sizes = {text.get("font-size") for text in ET.fromstring(drawn.svg).iter(f"{SVG}text")}
        assert len(sizes) == 1, "one size of letters"
        for index, (name, left, top, right, bottom, _) in enumerate(placed):
            assert x <= left < right <= x + width, name
            assert y <= top < bottom <= y + height, name
            for other, a, b, c, d, _ in placed[index + 1 :]:
                assert right <= a or c <= left or bottom <= b or d <= top, (name, other)


@pytest.mark.parametrize(("scheme", "labels", "first"), [
    ("named", None, "forehead"), ("named", "numbers", "1"), ("named", "none", None),
    ("seven", None, "1"), ("seven", "names", "forehead"), ("labels", "names", "skin"), ("labels", None, "1"),
])  # fmt: skip
def test_what_is_written(scheme: Any, labels: Any, first: str | None) -> None:
    options = Options(photo=False, scheme=scheme, labels=labels)
    drawn = trace(synthetic.photo(), synthetic.landmarks_68(), synthetic.label_map(), options)
    text = ET.fromstring(drawn.svg).find(f".//{SVG}text")
    assert (None if text is None else text.text) == first


def test_a_small_face_is_drawn_large(astronaut: Pixels, portrait: Contours) -> None:
    small = cv2.resize(astronaut, (210, 210), interpolation=cv2.INTER_AREA)
    drawn = trace(small.astype(np.uint8), portrait.landmarks * 210 / 512, None, Options())
    assert max(drawn.crop.width, drawn.crop.height) < 110
    assert min(drawn.drawn) >= 512
    lines = [ET.fromstring(each.svg).find(f"{SVG}g[@class='regions']") for each in (drawn, portrait)]
    shares = [
        float(line.get("stroke-width", 0)) / each.crop.width
        for line, each in zip(lines, (drawn, portrait), strict=True)
        if line is not None
    ]
    assert shares[0] == pytest.approx(shares[1], rel=0.25), "lines are as thick on any face"


def test_the_under_eye_is_a_crescent_from_corner_to_corner(portrait: Contours) -> None:
    level = align.apply(portrait.transform, portrait.landmarks)
    for name, outer, inner in (("left_under_eye", 33, 133), ("right_under_eye", 263, 362)):
        (ring,) = (np.array(each) for each in portrait.mask_contours[name])
        eye = abs(level[outer, 0] - level[inner, 0])
        assert np.ptp(ring[:, 0]) > 0.75 * eye
        deepest = ring[ring[:, 1].argmax()]
        lid = level[[145] if name.startswith("left") else [374], 1].mean()
        assert 0.38 * eye < deepest[1] - lid < 0.62 * eye
        share = (deepest[0] - level[outer, 0]) / (level[inner, 0] - level[outer, 0])
        assert 0.3 < share < 0.55, "a little outside the middle"


def test_the_cheek_rises_beside_the_nose_and_to_the_temple(portrait: Contours) -> None:
    level = align.apply(portrait.transform, portrait.landmarks)
    cheek, under_eye = (np.array(portrait.mask_contours[name][0]) for name in ("left_cheek", "left_under_eye"))
    lowest = under_eye[:, 1].max()
    left, right = cheek[cheek[:, 0] < level[33, 0]], cheek[cheek[:, 0] > under_eye[:, 0].max() - 1]
    assert left[:, 1].min() < lowest - 0.5 * np.ptp(under_eye[:, 1])
    assert right[:, 1].min() < lowest - 0.3 * np.ptp(under_eye[:, 1])
    assert cheek[:, 1].max() > level[61, 1], "it ends below the mouth's line"


def test_closed_lips_have_no_mouth(astronaut: Pixels, portrait: Contours) -> None:
    assert "mouth" in portrait.mask_contours
    points = portrait.landmarks.copy()
    for upper, lower in ((82, 87), (13, 14), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318)):
        points[[upper, lower]] = points[[upper, lower]].mean(axis=0)
    closed = trace(astronaut, points, None, Options(photo=False))
    assert "mouth" not in closed.mask_contours
    assert {"upper_lip", "lower_lip"} <= set(closed.mask_contours)


def test_regions_turned_away_are_left_out(astronaut: Pixels, portrait: Contours) -> None:
    points = portrait.landmarks.copy()
    middle = points[1, 0]
    away = points[:, 0] > middle
    points[away, 0] = middle + (points[away, 0] - middle) * 0.15  # a profile, as seen from the left
    drawn = trace(astronaut, points, None, Options(photo=False), landmarks_source="server")
    assert {"left_cheek", "left_under_eye", "left_eye"} <= set(drawn.mask_contours)
    assert not {"right_cheek", "right_under_eye", "right_eye", "right_brow"} & set(drawn.mask_contours)
    assert any("turned away" in each and "right_cheek" in each for each in drawn.assumptions)


def test_the_forehead_of_a_profile_ends_at_its_middle(astronaut: Pixels, portrait: Contours) -> None:
    for side, keeps in (("right", -1), ("left", 1)):
        points = portrait.landmarks.copy()
        middle = points[1, 0]
        away = (points[:, 0] - middle) * keeps < 0
        points[away, 0] = middle + (points[away, 0] - middle) * 0.2
        drawn = trace(astronaut, points, None, Options(photo=False), landmarks_source="server")
        assert not {f"{side}_eye", f"{side}_brow", f"{side}_under_eye", f"{side}_cheek"} & set(drawn.mask_contours)
        level = align.apply(drawn.transform, drawn.landmarks)
        forehead = np.array(drawn.mask_contours["forehead"][0])
        face = float(np.ptp(level[:, 0]))
        assert ((forehead[:, 0] - level[[8, 10], 0].mean()) * keeps).min() > -0.05 * face


def test_a_closed_eye_hides_nothing_else(astronaut: Pixels, portrait: Contours) -> None:
    points = portrait.landmarks.copy()
    lids = ((7, 246), (163, 161), (144, 160), (145, 159), (153, 158), (154, 157), (155, 173))
    for lower, upper in lids:
        middle, opening = points[[lower, upper]].mean(axis=0), points[lower] - points[upper]
        # The lids cross a little, as of a mesh whose eye is closed.
        points[lower], points[upper] = middle - 0.1 * opening, middle + 0.1 * opening
    drawn = trace(astronaut, points, None, Options(photo=False), landmarks_source="server")
    assert set(portrait.mask_contours) - set(drawn.mask_contours) <= {"left_eye"}


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_on_its_side_gives_the_same_regions(
    quarters: int, astronaut: Pixels, portrait: Contours, mesh: FaceMesh, face_of: Any
) -> None:
    turned = np.ascontiguousarray(np.rot90(astronaut, quarters))
    drawn = contours_of(turned, mesh, face_of(turned))
    assert drawn.crop.width == pytest.approx(portrait.crop.width, rel=0.03)
    one, other = in_photo(portrait, len(astronaut)), in_photo(drawn, len(astronaut))
    assert set(one) == set(other)
    for name, mask in one.items():
        back = np.rot90(other[name], -quarters)
        overlap = np.count_nonzero(mask & back) / np.count_nonzero(mask | back)
        assert overlap >= (0.7 if "lip" in name or name == "mouth" else 0.85), (name, overlap)


def test_regions_end_where_the_photo_does(astronaut: Pixels, portrait: Contours) -> None:
    cut = np.ascontiguousarray(astronaut[:, 225:])
    turn = align.upright(cut.shape[1], cut.shape[0], -12.0)
    tilted = align.warp_image(cut, turn[0], turn[1], turn[2], (0, 0, 0))
    moved = portrait.landmarks - [225, 0]
    for photo, points in ((cut, moved), (tilted, align.apply(turn[0], moved))):
        drawn = trace(photo, points, None, Options(photo=False, padding=0.5), landmarks_source="server")
        back = align.inverse(drawn.transform)
        height, width = photo.shape[:2]
        for name, rings in drawn.mask_contours.items():
            place = align.apply(back, np.concatenate([np.array(ring) for ring in rings]))
            assert place.min() > -1.5, name
            assert (place.max(axis=0) < (width + 1.5, height + 1.5)).all(), name


def test_regions_that_are_not_drawn_are_told(portrait: Contours, astronaut: Pixels) -> None:
    seven = trace(astronaut, portrait.landmarks, None, Options(photo=False, scheme="seven"), landmarks_source="server")
    assert set(seven.mask_contours) == {"1", "2", "3", "4", "5"}
    assert any("6 (right ear) and 7 (left ear) are left out" in each for each in seven.assumptions)
    points = portrait.landmarks.copy()
    middle = points[1, 0]
    away = points[:, 0] > middle
    points[away, 0] = middle + (points[away, 0] - middle) * 0.15
    profile = trace(astronaut, points, None, Options(photo=False, scheme="seven"), landmarks_source="server")
    assert "3" not in profile.mask_contours
    assert any("left out: 3 (right_under_eye)." in each for each in profile.assumptions)


def test_a_clipped_photo_shows_all_that_is_drawn(astronaut: Pixels, portrait: Contours) -> None:
    drawn = trace(astronaut, portrait.landmarks, None, Options(clip=True), landmarks_source="server")
    clip = ET.fromstring(drawn.svg).find(f".//{SVG}clipPath/{SVG}path")
    assert clip is not None
    numbers = (clip.get("d") or "")[1:-1].replace("L", " ").split()
    outline = np.array(numbers, np.float32).reshape(-1, 1, 2)
    for name, rings in drawn.mask_contours.items():
        distances = [cv2.pointPolygonTest(outline, point, True) for ring in rings for point in ring]
        assert min(distances) > -0.1, name


def test_the_forehead_ends_at_the_hair() -> None:
    """Skin that goes on above the mesh up to a dark head of hair; without one, the mesh's edge."""
    points, side = synthetic.landmarks_68(), synthetic.SIDE
    heights = {}
    for hairline in (130, 150, 165):
        photo = np.full((side, side, 3), (224, 172, 140), np.uint8)
        photo[:hairline] = (40, 30, 25)
        drawn = trace(photo, points, None, Options(photo=False, padding=0.5))
        ring = align.apply(align.inverse(drawn.transform), np.array(drawn.mask_contours["forehead"][0]))
        heights[hairline] = ring[:, 1].min()
    for hairline, top in heights.items():
        assert top == pytest.approx(hairline + 4, abs=8)
    bare = np.full((side, side, 3), (224, 172, 140), np.uint8)
    drawn = trace(bare, points, None, Options(photo=False, padding=0.5))
    ring = align.apply(align.inverse(drawn.transform), np.array(drawn.mask_contours["forehead"][0]))
    face = outlines.outlines(points).parts["face"]
    assert ring[:, 1].min() == pytest.approx(face[:, 1].min(), abs=10)
