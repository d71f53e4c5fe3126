"""Every drawn style on small pictures: shapes, repeatability, odd sizes, and what each style must look like."""

import subprocess
import sys
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from limner.painters.drawn import paint as paint_module
from limner.painters.drawn import styles
from limner.painters.drawn.low_poly import corners
from limner.painters.drawn.paint import paint
from limner.painters.drawn.scale import natural_size
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import DRAWN_STYLES, DrawnStyle
from limner.vision.faces import Box
from tests.painters.pictures import EYE_CORNERS, FACE, HEIGHT, SCALE, WIDTH, Pixels, blocks, mesh, portrait, ramp

BY_CHANCE = {styles.Pencil, styles.Oil, styles.Watercolour, styles.Pointillism, styles.LowPoly}
SIZE = (180, 225)


def drawn(style: Any, photo: Pixels | None = None, **options: Any) -> Pixels:
    """`photo`, or the portrait, at `SIZE` unless told."""
    options.setdefault("faces", [FACE] if photo is None else [])
    options.setdefault("size", SIZE if photo is None else (photo.shape[1], photo.shape[0]))
    return paint(portrait() if photo is None else photo, style, **options)


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
def test_the_same_seed_gives_the_same_pixels_and_another_seed_others_where_chance_plays(style: Any) -> None:
    first, second, other = (drawn(style(), meshes=[mesh()], seed=seed) for seed in (1, 1, 2))
    assert first.shape == (SIZE[1], SIZE[0], 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert np.array_equal(first, other) == (style not in BY_CHANCE)


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (1, 300), (301, 3), (31, 29)])
def test_any_shape_is_drawn(style: Any, width: int, height: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    result = paint(photo, style())
    assert (result.shape[1], result.shape[0]) == natural_size(width, height, [])
    assert drawn(style(), photo, size=(17, 9)).shape == (9, 17, 3)


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_picture_stays_even(style: Any, level: int) -> None:
    result = drawn(style(), np.full((24, 30, 3), level, np.uint8))
    tones = blocks(result, 5, 4)[1:-1, 1:-1].mean(axis=2)  # without the border: watercolour has a margin
    assert np.ptp(tones) < 45
    if level and style is not styles.Pencil:  # it leaves flat areas nearly white
        darker = drawn(style(), np.full((24, 30, 3), max(level - 128, 0), np.uint8))
        assert result.mean() >= darker.mean() - 1


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
def test_the_face_is_still_there(style: Any) -> None:
    """Eyes and mouth are darker than the cheeks beside them, at an eighth of the size, as one sees it from afar."""
    result = drawn(style(), meshes=[mesh()])
    tone = cv2.resize(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY), (WIDTH // 3, HEIGHT // 3), interpolation=cv2.INTER_AREA)
    eyes = tone[64 // 3, [48 // 3, 72 // 3]].astype(float)
    cheeks = tone[82 // 3, [46 // 3, 74 // 3]].astype(float)
    assert eyes.mean() < cheeks.mean() - 15


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
def test_every_parameter_does_something_at_both_of_its_bounds(style: Any) -> None:
    usual = drawn(style(), meshes=[mesh()])
    for name, field in style.model_fields.items():
        if name == "style":
            continue
        choices = [m.ge for m in field.metadata if hasattr(m, "ge")] + [
            m.le for m in field.metadata if hasattr(m, "le")
        ]
        choices = choices or [other for other in get_args(field.annotation) or (True, False) if other != field.default]
        assert choices
        for choice in choices:
            assert not np.array_equal(drawn(style(**{name: choice}), meshes=[mesh()]), usual), (name, choice)


def test_every_style_has_its_effect_and_its_place_in_the_union() -> None:
    assert set(paint_module._EFFECTS) == set(DRAWN_STYLES.values())
    union: TypeAdapter[Any] = TypeAdapter(DrawnStyle)
    for name, style in DRAWN_STYLES.items():
        assert type(union.validate_python({"style": name})) is style
    with pytest.raises(ValidationError):
        union.validate_python({"style": "ink", "tones": 3})


def test_the_styles_load_nothing_that_works_on_pixels() -> None:
    code = "import sys, limner.painters.drawn.styles; print({'numpy', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_cartoon_has_as_few_tones_as_asked_for() -> None:
    def tones(picture: Pixels) -> float:
        """How many tones would be as varied, if each had the same area: the exponential of the entropy."""
        share = np.bincount(picture[..., 1].ravel() // 4) / picture[..., 1].size
        return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))

    few, many = (tones(drawn(styles.Cartoon(tones=n, outlines=0), ramp(), size=(640, 320))) for n in (4, 12))
    assert few < 0.8 * many
    assert few < 0.6 * tones(ramp())


def test_cartoon_has_outlines_that_can_be_left_out() -> None:
    bare, outlined = (drawn(styles.Cartoon(outlines=outlines), size=(360, 450)) for outlines in (0, 1.5))
    assert (outlined.max(axis=2) < 40).mean() > (bare.max(axis=2) < 40).mean() + 0.01


def test_ink_is_two_tone_and_its_lines_lie_on_edges() -> None:
    photo = np.full((160, 160, 3), 240, np.uint8)
    cv2.circle(photo, (80, 80), 50, (170, 170, 170), -1, cv2.LINE_AA)
    result = drawn(styles.Ink(blacks=0), photo, size=(480, 480)).astype(int)
    paper, black = np.array((250, 246, 237)), np.array((22, 24, 32))
    near = [np.abs(result - colour).max(axis=2) < 25 for colour in (paper, black)]
    assert (near[0] | near[1]).mean() > 0.95
    y, x = np.nonzero(near[1])
    distance = np.hypot(x - 241, y - 241)
    assert np.all(np.abs(distance - 150) < 12)
    angles = np.unique(np.round(np.degrees(np.arctan2(y - 241, x - 241)) / 10))
    assert len(angles) >= 24  # nearly all round


def test_ink_fills_hair_and_never_skin() -> None:
    for skin in ((236, 205, 190), (92, 58, 42)):
        result = drawn(styles.Ink(), portrait(skin), faces=[FACE], size=(WIDTH, HEIGHT))
        tone = result.mean(axis=2)
        assert tone[80:86, 45:52].mean() > 200  # a cheek
        assert tone[30:36, 50:70].mean() < 90  # hair


def test_lines_are_sharper_the_larger_they_are_drawn() -> None:
    """They are cut from a smooth field at the output's size: enlarged pixels would stay as blurred."""

    def blurred_share(factor: int) -> float:
        tone = drawn(styles.Ink(), size=(WIDTH * 4 * factor, HEIGHT * 4 * factor)).mean(axis=2)
        return float(((tone > 70) & (tone < 200)).sum() / (tone <= 70).sum())

    assert blurred_share(3) < 0.6 * blurred_share(1)


@pytest.mark.parametrize("style", [styles.Halftone(), styles.Halftone(inks="black"), styles.Engraving()])
def test_printed_tones_follow_the_photo(style: Any) -> None:
    result = drawn(style, ramp(), size=(960, 480))
    tones = blocks(result, 8, 1).mean(axis=2)[0]
    assert np.all(np.diff(tones) > -3)
    assert tones[-1] - tones[0] > 150
    wanted = blocks(ramp(), 8, 1).mean(axis=2)[0]
    assert np.abs(tones - wanted).mean() < 45


def test_halftone_keeps_colours_apart() -> None:
    photo = np.zeros((60, 180, 3), np.uint8)
    for channel in range(3):
        photo[:, channel * 60 : channel * 60 + 60] = np.eye(3, dtype=np.uint8)[channel] * 150 + 60
    means = blocks(drawn(styles.Halftone(), photo, size=(540, 180)), 3, 1)[0]
    assert means.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("style", [styles.Pointillism(), styles.Oil(), styles.LowPoly(), styles.Pixel()])
def test_colours_follow_the_photo(style: Any) -> None:
    result, photo = blocks(drawn(style), 6, 8), blocks(portrait(), 6, 8)
    assert np.corrcoef(result.ravel(), photo.ravel())[0, 1] > 0.93


def test_pixel_squares_are_even_and_colours_few() -> None:
    result = drawn(styles.Pixel(across_face=20, colours=8), size=(600, 750))
    assert len(np.unique(result.reshape(-1, 3), axis=0)) <= 8
    changes = np.nonzero((np.diff(result.astype(int), axis=1) != 0).any(axis=(0, 2)))[0]
    assert 20 < len(changes) < 60  # about 49 columns, not 600
    assert np.diff(changes).min() >= 600 // 60


def test_low_poly_has_corners_at_the_eyes() -> None:
    study = Study(portrait(), [FACE], [mesh()], 0, SIZE)
    points = corners(study, 200)
    for x, y in EYE_CORNERS.values():
        wanted = np.array([x * SCALE + 0.5, y * SCALE + 0.5]) * (study.width / 60, study.height / 75) - 0.5
        assert np.hypot(*(points - wanted).T).min() < 0.01
    assert 200 < len(points) < 900


def test_low_poly_covers_the_whole_picture() -> None:
    result = drawn(styles.LowPoly(points=100), size=(WIDTH, HEIGHT))
    assert len(np.unique(result.reshape(-1, 3), axis=0)) < 0.5 * WIDTH * HEIGHT
    assert np.abs(result[0].astype(int) - (150, 165, 180)).mean() < 30


@pytest.mark.parametrize("palette", ["sunset", "ocean", "candy", "forest"])
def test_pop_art_prints_few_inks(palette: Any) -> None:
    result = drawn(styles.PopArt(palette=palette), size=(300, 375)).reshape(-1, 3).astype(int)
    colours, counts = np.unique(result // 8, axis=0, return_counts=True)
    assert np.sort(counts)[-5:].sum() > 0.4 * len(result)
    assert len(colours) > 4


def test_pop_art_puts_dots_of_a_lighter_ink_where_the_photo_is_lighter() -> None:
    result = drawn(styles.PopArt(palette="ocean"), ramp(), size=(960, 480))
    tones = blocks(result, 16, 1).mean(axis=2)[0]
    assert np.all(np.diff(tones) > -6)
    assert len(np.unique(np.round(tones / 6))) > 7  # dots make more tones than there are inks
    assert np.abs(result[:, -30:].astype(int) - (247, 243, 200)).mean() < 10


def test_watercolour_has_a_margin_that_can_be_left_out() -> None:
    paper = np.array([0.985, 0.975, 0.95]) * 255
    with_margin, without = (drawn(styles.Watercolour(margin=margin))[:2, :2] for margin in (True, False))
    assert np.abs(with_margin - paper).max() < 6
    assert np.abs(without - paper).max() > 30


def test_watercolour_keeps_the_eyes() -> None:
    photo = portrait((150, 105, 85))
    made = drawn(styles.Watercolour(margin=False), photo, faces=[FACE], size=(4 * WIDTH, 4 * HEIGHT))

    def contrast(picture: Pixels) -> float:
        scale = picture.shape[1] / WIDTH
        left, top, right, bottom = (int(place * scale) for place in (42, 60, 54, 70))
        return float(picture[top:bottom, left:right].std())

    assert contrast(made) > 0.88 * contrast(photo)  # painted as broadly as the rest, it would be 0.81


def test_ink_tells_white_hair_from_a_window_behind_a_dark_face() -> None:
    photo = np.full((240, 200, 3), 240, np.uint8)
    cv2.ellipse(photo, (100, 110), (60, 80), 0, 0, 360, (170, 170, 170), -1)  # hair
    cv2.ellipse(photo, (100, 125), (42, 58), 0, 0, 360, (80, 60, 52), -1)  # the face
    result = drawn(styles.Ink(), photo, faces=[Box(58, 70, 84, 110)])
    crown = result[20:45, 90:110].mean(axis=2)
    assert (crown.min(axis=0) < 100).all()


def test_pencil_is_grey_and_hatching_darkens_only_the_dark() -> None:
    bare, hatched = (drawn(styles.Pencil(hatching=hatching)).astype(int) for hatching in (0.0, 1.0))
    assert np.ptp(hatched, axis=2).max() <= 8
    tone = [blocks(picture, 12, 15).mean(axis=2) for picture in (bare, hatched)]
    assert tone[1][3, 6] < tone[0][3, 6] - 25  # hair
    assert tone[1][13, 6] < tone[0][13, 6] - 12  # the shirt, not as dark
    assert abs(tone[1][8, 5] - tone[0][8, 5]) < 15  # a cheek


@pytest.mark.parametrize("style", [styles.Cartoon, styles.Oil, styles.Watercolour, styles.Pixel, styles.LowPoly])
def test_nobodys_skin_is_repainted(style: Any) -> None:
    """Drawn in colour, dark skin stays darker than light skin by at least half of the difference."""
    cheeks = []
    for skin in ((236, 205, 190), (92, 58, 42)):
        result = drawn(style(), portrait(skin), faces=[FACE], meshes=[mesh()], size=(WIDTH, HEIGHT))
        cheeks.append(float(result[80:86, 45:52].mean()))
    assert cheeks[0] - cheeks[1] > 0.5 * (210 - 64)


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
def test_what_there_is_so_far_is_shown(style: Any) -> None:
    shown: list[tuple[float, Pixels]] = []

    def show(part: float, picture: Pixels | None) -> None:
        if picture is not None:
            shown.append((part, picture.copy()))

    size = (WIDTH * 8, HEIGHT * 8)
    result = drawn(style(), meshes=[mesh()], size=size, show=show)
    parts = [part for part, _ in shown]
    assert parts == sorted(parts)
    assert np.array_equal(result, drawn(style(), meshes=[mesh()], size=size)), "showing changes nothing"
    if style not in (styles.Pixel, styles.LowPoly):  # quick at any size
        assert len(shown) >= 3
        last = cv2.resize(shown[-1][1], size, interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(last - result).mean() < 1
        assert np.abs(shown[0][1].mean() - result.mean()) > 0.1


def test_it_stops_where_it_shows() -> None:
    class StopError(Exception):
        pass

    def show(part: float, picture: Pixels | None) -> None:
        raise StopError

    with pytest.raises(StopError):
        drawn(styles.Oil(), show=show)


@pytest.mark.parametrize("style", DRAWN_STYLES.values())
def test_a_draft_is_like_the_picture(style: Any) -> None:
    full = drawn(style(), meshes=[mesh()])
    draft = drawn(style(), meshes=[mesh()], draft=True)
    assert draft.shape == full.shape
    assert np.corrcoef(blocks(draft, 18, 15).ravel(), blocks(full, 18, 15).ravel())[0, 1] > 0.9
