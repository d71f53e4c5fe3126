"""The ideas that the drawn styles share: scale, exposure, flow, Kuwahara filter, screens, noise."""

import cv2
import numpy as np
import pytest

from limner.painters.drawn.exposure import FACE_LIGHTNESS, exposed, lightened_faces
from limner.painters.drawn.fields import Field, to_lab
from limner.painters.drawn.flow import flow_of, smoothed_along
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.noise import soft_noise, streaks
from limner.painters.drawn.paint import paint
from limner.painters.drawn.scale import MAX_AREA, MAX_FACE, MAX_UNIT, MIN_FACE, natural_size, scale_of
from limner.painters.drawn.screens import dot_screen, tiled
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Pixel
from limner.vision.faces import Box
from tests.painters.pictures import FACE, portrait


def stripes(degrees: float, wavelength: float = 12.0, side: int = 96) -> Field:
    """A wave that runs across lines at `degrees`."""
    y, x = np.mgrid[0:side, 0:side]
    across = x * np.sin(np.radians(degrees)) - y * np.cos(np.radians(degrees))
    return np.asarray(0.5 + 0.4 * np.sin(2 * np.pi * across / wavelength), np.float32)


def test_the_main_face_is_brought_to_a_good_size() -> None:
    small = scale_of(400, 300, [Box(0, 0, 80, 90), Box(0, 0, 40, 50)])
    assert 80 * small.width / 400 == pytest.approx(MIN_FACE, abs=1)
    large = scale_of(3000, 4000, [Box(0, 0, 1200, 1300)])
    assert 1200 * large.width / 3000 == pytest.approx(MAX_FACE, abs=1)
    assert large.unit == pytest.approx(MAX_UNIT)


def test_colours_are_worked_on_at_a_bounded_size() -> None:
    for width, height, faces in [
        (4000, 3000, [Box(0, 0, 300, 300)]),
        (12000, 9000, []),
        (30000, 40, []),
        (64, 4000, [Box(0, 0, 1, 1)]),
    ]:
        scale = scale_of(width, height, faces)
        assert scale.width * scale.height <= MAX_AREA * 1.01
        assert max(scale.width, scale.height) <= 8192
        assert 0 < scale.unit <= MAX_UNIT


def test_a_face_that_fills_a_large_photo_keeps_its_detail() -> None:
    scale = scale_of(3000, 3600, [Box(100, 100, 2700, 3300)])
    assert scale.width * scale.height > 0.45e6
    assert scale.unit == MAX_UNIT


def test_the_natural_size_enlarges_small_faces_and_no_photo_beyond_its_detail() -> None:
    assert natural_size(500, 400, [Box(0, 0, 80, 90)]) == (1225, 980)  # as far as the limit of the area allows
    assert natural_size(1000, 800, [Box(0, 0, 250, 260)]) == (1000, 800)
    width, height = natural_size(4000, 3000, [Box(0, 0, 700, 800)])
    assert 2_000_000 < width * height < 5_000_000


@pytest.mark.parametrize("level", [0.2, 0.45, 0.85])
def test_lines_get_faces_of_one_lightness_and_colours_go_part_of_the_way(level: float) -> None:
    colour = np.full((80, 80, 3), 0.5, np.float32)
    colour[20:60, 20:60] = level * np.array([1.0, 0.85, 0.75])
    colour[30:40, 30:50] *= 0.3
    before = float(np.median(to_lab(colour)[20:60, 20:60, 0])) / 100
    drawn, tone = exposed(colour, [Box(16, 16, 48, 48)])
    for_lines = float(np.median(tone[20:60, 20:60]))
    in_colour = float(np.median(to_lab(drawn)[20:60, 20:60, 0])) / 100
    if level < 0.3:  # so dark that all of the correction would bring out noise
        assert for_lines > 2 * before
    else:
        assert for_lines == pytest.approx(FACE_LIGHTNESS, abs=0.12)
    assert abs(in_colour - before) < 0.7 * abs(for_lines - before) + 0.03
    assert tone[35, 40] < 0.6 * for_lines  # what is dark in a face stays dark


def test_only_dark_faces_are_lightened_and_only_there() -> None:
    colour = np.full((96, 200, 3), 0.8, np.float32)
    dark, light = Box(30, 30, 36, 36), Box(140, 30, 36, 36)
    colour[26:72, 26:72] = (0.25, 0.16, 0.12)
    made = lightened_faces(colour, [dark, light, Box(-300, -300, 40, 40)])
    tones = to_lab(made)[..., 0] / 100
    assert float(np.median(tones[40:56, 40:56])) == pytest.approx(FACE_LIGHTNESS, abs=0.2)
    assert float(np.median(tones[40:56, 40:56])) > to_lab(colour)[48, 48, 0] / 100 + 0.2
    assert np.abs(made[:, 100:] - colour[:, 100:]).max() < 0.01


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135])
def test_the_flow_runs_along_the_stripes(degrees: float) -> None:
    flow = flow_of(stripes(degrees), 4.0)
    inner = (slice(20, -20), slice(20, -20))
    along = np.abs(flow.x * np.cos(np.radians(degrees)) + flow.y * np.sin(np.radians(degrees)))[inner]
    assert along.min() > np.cos(np.radians(5))
    assert flow.anisotropy[inner].min() > 0.9
    assert np.allclose(flow.x**2 + flow.y**2, 1.0, atol=1e-3)


@pytest.mark.parametrize("degrees", [30, 45, 135])  # at 45 or 135 the tangents' signs change from pixel to pixel
def test_smoothing_along_the_flow_keeps_stripes_and_removes_noise(degrees: float) -> None:
    clean = stripes(degrees)
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32)
    smooth = smoothed_along(noisy, flow_of(noisy, 5.0), 5.0)
    inner = (slice(20, -20), slice(20, -20))
    assert np.std((smooth - clean)[inner]) < 0.30 * np.std((noisy - clean)[inner])
    assert np.ptp(smooth[inner]) > 0.8 * np.ptp(clean[inner])


def test_smoothing_along_the_flow_follows_a_circle() -> None:
    y, x = np.mgrid[0:120, 0:120]
    rings = np.asarray(0.5 + 0.4 * np.sin(np.hypot(x - 60, y - 60) * 0.6), np.float32)
    smooth = smoothed_along(rings, flow_of(rings, 3.0), 6.0)
    ring = (np.hypot(x - 60, y - 60) > 20) & (np.hypot(x - 60, y - 60) < 50)
    assert np.corrcoef(smooth[ring], rings[ring])[0, 1] > 0.98
    assert smooth[ring].std() > 0.8 * rings[ring].std()


def test_the_kuwahara_filter_flattens_areas_and_keeps_their_border_sharp() -> None:
    step = np.full((80, 80, 3), 0.3, np.float32)
    step[:, 40:] = 0.7
    noisy = step + np.random.default_rng(0).normal(0, 0.05, step.shape).astype(np.float32)
    smooth = painted(noisy, 6.0, flow_of(noisy, 4.0))
    assert smooth[20:60, 5:30].std() < 0.3 * noisy[20:60, 5:30].std()
    row = smooth[20:60, :, 0].mean(axis=0)
    assert row[38] < 0.36  # the same windows with equal weights give 0.42,
    assert row[41] > 0.64  # and 0.58


@pytest.mark.parametrize("degrees", [0, 18, 27, 45, 63, 72])
def test_a_screen_covers_exactly_the_share_and_repeats_without_seams(degrees: float) -> None:
    screen = dot_screen(7.3, degrees)
    for share in (0.1, 0.5, 0.8):
        assert (screen < share).mean() == pytest.approx(share, abs=1 / screen.size)
    side = screen.shape[0]
    plane = tiled(screen, 0, 3 * side, 3 * side)
    inside = np.abs(np.diff(plane[:side], axis=1))[:, : side - 1].max()
    assert np.abs(np.diff(plane[:side], axis=1))[:, side - 1].max() <= inside + 1e-6
    assert np.array_equal(tiled(screen, side + 5, 4, 2 * side), plane[5:9, : 2 * side])


def test_the_dots_of_a_screen_lie_at_the_asked_distance() -> None:
    for degrees in (0, 18, 45):
        cells = 300 * 300 / 8.0**2
        plane = tiled(dot_screen(8.0, degrees), 0, 300, 300) < 0.15
        count = int(cv2.connectedComponents(plane.astype(np.uint8))[0]) - 1
        assert count == pytest.approx(cells, rel=0.15)


def test_noise_has_its_mean_its_deviation_and_its_direction() -> None:
    rough = soft_noise(np.random.default_rng(0), 200, 300, 12.0)
    assert abs(rough.mean()) < 0.2
    assert 0.4 < rough.std() < 1.2
    tile = streaks(np.random.default_rng(0), 128, 12.0, 1.0, 0.0)
    assert tile.std() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.diff(tile, axis=1)).mean() < 0.3 * np.abs(np.diff(tile, axis=0)).mean()
    assert np.abs(tile[:, 0] - tile[:, -1]).mean() < 0.2  # no seam


def test_a_band_is_a_part_of_the_enlarged_picture() -> None:
    study = Study(portrait(), [FACE], [], 0, (1100, 1375))
    assert study.canvas.scale > 1.5
    whole = np.concatenate([band.of(study.tone) for band in study.canvas.bands(study.canvas.empty())])
    assert whole.shape == (1375, 1100)
    y, x = 700, 500
    expected = study.tone[round((y + 0.5) * study.height / 1375 - 0.5), round((x + 0.5) * study.width / 1100 - 0.5)]
    assert whole[y, x] == pytest.approx(expected, abs=0.03)
    assert sum(band.height for band in study.canvas.bands(study.canvas.empty())) == 1375


def test_a_small_face_keeps_its_tones_beside_much_colour() -> None:
    """Pixel art has few colours; a face of one of them has no features."""
    colours = np.random.default_rng(2).integers(0, 255, (12, 16, 3), np.uint8)
    photo = np.asarray(cv2.resize(colours, (800, 600), interpolation=cv2.INTER_NEAREST), np.uint8)
    face = Box(350, 250, 90, 110)
    tones = np.linspace(0.75, 1.1, 110)[:, None, None] * np.array([170, 120, 95])
    photo[250:360, 350:440] = np.broadcast_to(tones, (110, 90, 3)).astype(np.uint8)
    drawn = paint(photo, Pixel(), faces=[face], size=(800, 600))
    assert len(np.unique(drawn[265:345, 365:425].reshape(-1, 3), axis=0)) >= 4
