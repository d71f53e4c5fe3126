"""The SVG: well-formed, escaped, without external references, with readable labels."""

import base64
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.domain.errors import InvalidRequestError
from limner.vision import smooth, svg
from limner.vision.style import STYLES, Style

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


def drawn(**options: object) -> ET.Element:
    return parsed(svg.document(200, 200, [shape()], Style(), **options))  # type: ignore[arg-type]


def test_has_a_group_per_region() -> None:
    root = drawn()
    assert root.get("viewBox") == "0 0 200 200"
    assert root.get("version") == "1.1"
    (group,) = root.findall(f"{SVG}g/{SVG}g")
    assert group.get("id") == "nose"
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
    group = drawn().find(f"{SVG}g")
    assert group is not None
    wanted = {"fill": "#A16AA9", "fill-opacity": "0.5", "stroke-width": "2", "stroke-dasharray": "5,5"}
    assert {name: group.get(name) for name in wanted} == wanted
    light = STYLES["light"]
    assert (light.fill, light.opacity, light.stroke, light.dash) == ("#AFC0C4", 0.5, "#80929C", (4.0, 2.0))


def test_size_changes_the_drawing_but_not_the_view_box() -> None:
    root = drawn(size=(400, 400))
    assert (root.get("width"), root.get("viewBox")) == ("400", "0 0 200 200")
    group = root.find(f"{SVG}g")
    assert group is not None
    assert group.get("stroke-width") == "1"  # two pixels as drawn


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
    root = parsed(svg.document(200, 200, [shape(name, name, name)], Style()))
    (group,) = root.findall(f"{SVG}g/{SVG}g")
    text = group.find(f"{SVG}text")
    assert text is not None
    assert (group.get("data-region"), text.text) == (name, name)
    assert (group.get("id") or " ").isascii()
    assert not any(c.isspace() for c in group.get("id") or " ")
    assert {element.tag for element in root.iter()} <= {f"{SVG}{tag}" for tag in ("svg", "g", "title", "path", "text")}


def test_ids_of_different_names_differ() -> None:
    names = ["a b", "a_b", "a-b", "a.b", "1", "region-1", "ä", "a_20_b"]
    shapes = [shape(name, name, None) for name in names]
    root = parsed(svg.document(200, 200, shapes, Style()))
    assert len({group.get("id") for group in root.findall(f"{SVG}g/{SVG}g")}) == len(names)


@pytest.mark.parametrize("colour", ["red;x", '"/><script>', "#12", "url(http://x)", "", "#ggg"])
def test_an_invalid_colour_is_refused(colour: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a colour"):
        Style(fill=colour).checked()
    with pytest.raises(InvalidRequestError, match="not a colour"):
        Style(fills={"nose": colour}).checked()


@pytest.mark.parametrize(
    "style", [{"opacity": 1.5}, {"stroke_width": -1.0}, {"dash": (-1.0,)}, {"opacity": float("nan")}]
)
def test_a_number_out_of_range_is_refused(style: dict[str, float]) -> None:
    with pytest.raises(InvalidRequestError):
        Style(**style).checked()  # type: ignore[arg-type]


def test_the_pole_lies_inside_where_the_centroid_does_not() -> None:
    mask = np.zeros((200, 200), np.uint8)
    cv2.ellipse(mask, (100, 100), (80, 80), 0, 20, 200, 255, 24)
    rings = smooth.outline(mask, strength=0.4, unit=400.0)
    x, y, around, _ = svg.inner_pole(rings)
    assert mask[int(y), int(x)] == 255
    assert around == pytest.approx(12, abs=3)


def test_the_pole_of_a_long_shape_is_its_middle() -> None:
    mask = np.zeros((60, 300), np.uint8)
    mask[20:40, 20:280] = 255
    x, y, _, _ = svg.inner_pole(smooth.outline(mask, strength=0.4, unit=400.0))
    assert (x, y) == (pytest.approx(150, abs=4), pytest.approx(30, abs=4))


def test_rounding_of_path_data_does_not_accumulate() -> None:
    (ring, _) = shape().rings
    numbers = svg.path_data(ring.beziers)
    start, *curves = numbers.replace("z", "").replace("-", " -").split("c")
    at = np.array([float(part) for part in start[1:].split()])
    for curve in curves:
        at = at + np.array([float(part) for part in curve.split()])[4:]
    assert np.abs(at - ring.beziers[0, 0]).max() < 0.06
