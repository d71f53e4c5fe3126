"""The SVG: well-formed, escaped, without external references, with readable labels."""

import base64
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.domain.errors import InvalidRequestError
from limner.vision import lettering, regions, smooth, svg
from limner.vision.colours import rgb
from limner.vision.style import HUES, PART_HUES, STYLES, Style

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def parsed(text: str) -> ET.Element:
    """The document; ParseError if it is not well-formed."""
    return ET.fromstring(text)


def shape(key: str = "nose", title: str = "nose", text: str | None = "nose") -> svg.Shape:
    mask = np.zeros((200, 200), np.uint8)
    cv2.circle(mask, (100, 100), 60, 255, -1)
    cv2.circle(mask, (100, 100), 25, 0, -1)
    return svg.Shape(key, title, text, smooth.outline(mask, strength=0.4, unit=400.0))


def drawn(face: float = 200.0, **options: object) -> ET.Element:
    return parsed(svg.document(200, 200, [shape()], STYLES["classic"], face=face, **options).text)  # type: ignore[arg-type]


def test_has_a_group_per_region() -> None:
    root = drawn()
    assert root.get("viewBox") == "0 0 200 200"
    assert root.get("version") == "1.1"
    (group,) = root.findall(f"{SVG}g/{SVG}g")
    assert (group.get("id") or "").endswith("-nose")
    assert group.get("data-region") == "nose"
    assert group.get("class") == "region"
    title = group.find(f"{SVG}title")
    path = group.find(f"{SVG}path")
    assert title is not None
    assert title.text == "nose"
    assert path is not None
    data = path.get("d") or ""
    assert data.count("M") == data.count("z") == 2


def test_the_styles() -> None:
    group = drawn(face=400).find(f"{SVG}g")
    assert group is not None
    wanted = {"fill-opacity": "0.5", "stroke-width": "2", "stroke-dasharray": "5,5"}
    assert {name: group.get(name) for name in wanted} == wanted
    region = group.find(f"{SVG}g")
    assert region is not None
    assert (region.get("fill"), region.get("stroke")) == ("#A16AA9", "#A16AA9")
    light = STYLES["light"]
    assert (light.fill, light.opacity, light.stroke, light.dash) == ("#AFC0C4", 0.5, "#80929C", (4.0, 2.0))


def _lab(colour: str, sees: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The colour in CIE L*a*b* as a person with this matrix for linear RGB sees it."""
    srgb = np.array(rgb(colour)) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ (sees @ linear)
    f = np.cbrt(np.maximum(xyz / (0.9505, 1.0, 1.089), 1e-6))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# G. Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009)
SIGHTS = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_hues_differ_for_the_colour_blind(sight: str) -> None:
    seen = [_lab(colour, np.array(SIGHTS[sight])) for colour in HUES]
    assert min(float(np.hypot.reduce(one - other)) for one, other in combinations(seen, 2)) > 14


def test_mirrored_regions_have_one_colour_and_neighbours_different_ones() -> None:
    style = STYLES["default"]
    hue = {name: style.colour_of(name, name, 0) for name in regions.NAMED}
    for part in ("brow", "eye", "under_eye", "cheek", "ear"):
        assert hue[f"left_{part}"] == hue[f"right_{part}"]
    touching = ["forehead brow", "forehead nose", "forehead hair", "brow eye", "eye under_eye", "under_eye cheek"]
    touching += ["cheek nose", "cheek jaw", "jaw chin", "chin lower_lip", "lower_lip mouth", "cheek ear", "cheek hair"]
    for one, other in (pair.split() for pair in touching):
        assert PART_HUES[one] != PART_HUES[other], (one, other)
    assert set(hue.values()) == set(HUES)


def test_lines_and_letters_follow_the_face() -> None:
    small, large = (svg.document(200, 200, [shape()], Style(), face=face, scale=4.0).text for face in (50, 200))
    for name in ("stroke-width", "stroke-dasharray"):
        one, other = (float((parsed(text).find(f"{SVG}g").get(name) or "").split(",")[0]) for text in (small, large))  # type: ignore[union-attr]
        assert other == pytest.approx(4 * one, rel=0.05)
    exact = Style(exact_line=3.0, exact_dash=(7.0,))
    group = parsed(svg.document(200, 200, [shape()], exact, face=50, scale=4.0).text).find(f"{SVG}g")
    assert group is not None
    assert (group.get("stroke-width"), group.get("stroke-dasharray")) == ("0.75", "1.75"), "pixels as drawn"


def test_scale_changes_the_drawing_but_not_the_view_box() -> None:
    root = drawn(scale=2.0)
    assert (root.get("width"), root.get("viewBox")) == ("400", "0 0 200 200")


def test_ids_of_different_drawings_differ() -> None:
    clip = [np.array([[0.0, 0], [9, 0], [9, 9]])]
    texts = [
        svg.document(200, 200, [shape()], Style(), face=200, photo=svg.Photo(data, "image/jpeg"), clip=clip).text
        for data in (b"a", b"b")
    ]
    one, other = ({e.get("id") for e in parsed(text).iter() if e.get("id")} for text in texts)
    assert len(one) == len(other) == 2
    assert not one & other


def test_the_photo_is_inside() -> None:
    root = drawn(photo=svg.Photo(b"\xff\xd8\xff", "image/jpeg"), clip=[np.array([[0.0, 0], [9, 0], [9, 9]])])
    image = root.find(f".//{SVG}image")
    assert image is not None
    reference = image.get(LINK) or ""
    assert base64.b64decode(reference.removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8\xff"
    assert len(root.findall(f".//{SVG}clipPath")) == 1


def test_no_photo_no_image() -> None:
    assert drawn().find(f".//{SVG}image") is None


@given(st.text(st.characters(exclude_categories=("C",)), min_size=1, max_size=40))
def test_any_name_is_escaped(name: str) -> None:
    root = parsed(svg.document(200, 200, [shape(name, name, name)], Style(), face=200).text)
    (group,) = root.findall(f"{SVG}g/{SVG}g")
    text = group.find(f"{SVG}text")
    assert text is not None
    assert (group.get("data-region"), text.text) == (name, name)
    assert (group.get("id") or " ").isascii()
    assert not any(c.isspace() for c in group.get("id") or " ")
    allowed = {f"{SVG}{tag}" for tag in ("svg", "g", "title", "path", "text", "circle")}
    assert {element.tag for element in root.iter()} <= allowed


def test_ids_of_different_names_differ() -> None:
    names = ["a b", "a_b", "a-b", "a.b", "1", "region-1", "ä", "a_20_b"]
    shapes = [shape(name, name, None) for name in names]
    root = parsed(svg.document(200, 200, shapes, Style(), face=200).text)
    assert len({group.get("id") for group in root.findall(f"{SVG}g/{SVG}g")}) == len(names)


@pytest.mark.parametrize("colour", ["red;x", '"/><script>', "#12", "url(http://x)", "", "#ggg"])
def test_an_invalid_colour_is_refused(colour: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a colour"):
        Style(fill=colour).checked()
    with pytest.raises(InvalidRequestError, match="not a colour"):
        Style(fills={"nose": colour}).checked()


@pytest.mark.parametrize(
    "style", [{"opacity": 1.5}, {"exact_line": -1.0}, {"exact_dash": (-1.0,)}, {"opacity": float("nan")}]
)
def test_a_number_out_of_range_is_refused(style: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        Style(**style).checked()


def test_the_pole_lies_inside_where_the_centroid_does_not() -> None:
    mask = np.zeros((200, 200), np.uint8)
    cv2.ellipse(mask, (100, 100), (80, 80), 0, 20, 200, 255, 24)
    rings = smooth.outline(mask, strength=0.4, unit=400.0)
    x, y, around = lettering.inner_pole(rings)
    assert mask[int(y), int(x)] == 255
    assert around == pytest.approx(12, abs=3)


def test_the_pole_of_a_long_shape_is_its_middle() -> None:
    mask = np.zeros((60, 300), np.uint8)
    mask[20:40, 20:280] = 255
    x, y, _ = lettering.inner_pole(smooth.outline(mask, strength=0.4, unit=400.0))
    assert (x, y) == (pytest.approx(150, abs=4), pytest.approx(30, abs=4))


def test_rounding_of_path_data_does_not_accumulate() -> None:
    (ring, _) = shape().rings
    numbers = svg.path_data(ring.beziers)
    start, *curves = numbers.replace("z", "").replace("-", " -").split("c")
    at = np.array([float(part) for part in start[1:].split()])
    for curve in curves:
        at = at + np.array([float(part) for part in curve.split()])[4:]
    assert np.abs(at - ring.beziers[0, 0]).max() < 0.06
