"""Facial contours: from a photo and landmarks to the regions of an upright face, as SVG and as polygons.

Read `trace`: it calls `align`, `labels`, `outlines`, `regions`, `smooth` and `svg` in this order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.domain.errors import InvalidRequestError
from limner.vision import align, assumptions, colour_profile, image, labels, outlines, regions, smooth, svg
from limner.vision.align import Matrix
from limner.vision.faces import Box
from limner.vision.landmarks import LANDMARK_COUNTS, Points, Source, checked_landmarks, eye_centres, mouth_centre
from limner.vision.outlines import Outlines
from limner.vision.regions import Mask
from limner.vision.smooth import Ring
from limner.vision.style import Style, part_of

Scheme = Literal["named", "seven", "labels", "own"]
Labels = Literal["names", "numbers", "none"]

_WORKING_WIDTH = 400  # width of the face, px, on the grid that masks are drawn on: 1 % of it is four pixels
_MAX_WORKING_PIXELS = 4_000_000
_PHOTO_QUALITY = 88
_MIN_DRAWN = 512  # shorter side of the drawn crop, px, unless `Options.size` is given
_MAX_ENLARGED = 2.0  # the embedded picture is enlarged at most so much: more adds bytes, but no detail
_MAX_PHOTO_SIDE = 2_048  # of the embedded picture, unless `Options.size` is given
_FOREHEAD_REACH = 2.2  # with a label map, skin counts as forehead up to this many times the mesh's forehead height
_WIDENING, _SEEN_WIDENING = 0.5, 0.08  # how much of that applies sideways, with and without a map
_SEEN_FOREHEAD_REACH = 2.7  # the same without a map, where the photo's colours show the hairline
_HAIR_ABOVE, _HAIR_BESIDE = 0.42, 0.10  # hair beyond the landmarks if there is no map, as shares of the face's height
_DIGITS = 2  # decimals of the polygons' coordinates
_MAX_REGIONS, _MAX_NAME_LENGTH = 64, 64


@dataclass(frozen=True, slots=True)
class Options:
    """Which regions are drawn, and how."""

    scheme: Scheme = "named"
    regions: Mapping[str, Sequence[int]] = field(default_factory=dict)  # for "own": name → landmark indices, in order
    style: Style = field(default_factory=Style)
    labels: Labels | None = None  # what is written on the regions; None: names, or numbers where regions are numbered
    photo: bool = True  # embed the photo below the regions
    profile: bytes | None = None  # usable ICC profile of the photo's pixels; None: they are sRGB
    clip: bool = False  # clip the photo to the head's outline
    transparent: bool = False  # leave the area outside the photo empty; otherwise fill it with the border's colour
    padding: float = 0.08  # margin around the head, as a share of its longer side
    smoothing: float = 0.4  # 0..1
    size: int | None = None  # longer side of the drawn crop, px; None = the crop's size, at least `_MIN_DRAWN`
    meanings: Mapping[int, str] = field(default_factory=lambda: labels.MEANINGS)  # of the label map's values


@dataclass(frozen=True, slots=True)
class Contours:
    """The result. Crop pixels are the units of the SVG's view box."""

    svg: str
    drawn: tuple[int, int]
    """Width and height of the SVG, pixels: the crop at its scale, and room for names beside it if they need it."""
    mask_contours: dict[str, list[list[list[float]]]]
    """By region name or number: closed rings of [x, y], crop pixels; the last point connects to the first. A hole is a
    separate ring, and rings combine by the even-odd rule."""
    transform: Matrix
    """(3, 3): source photo pixels → crop pixels."""
    roll_degrees: float
    """The face's tilt in the photo, positive = clockwise. The crop is rotated back by it."""
    crop: Box
    """The rectangle of the upright canvas that is shown, whole pixels."""
    landmarks: Points
    """The landmarks used, source photo pixels."""
    landmarks_source: Source
    assumptions: tuple[str, ...]


def trace(
    photo: NDArray[np.uint8],
    landmarks: Points,
    label_map: NDArray[np.uint8] | None = None,
    options: Options | None = None,
    *,
    landmarks_source: Source = "client",
) -> Contours:
    """The contours of one face.

    photo: (H, W, 3) uint8 RGB, upright by EXIF. landmarks: (478 | 468, ≥ 2) MediaPipe's mesh or (68, ≥ 2) iBUG, pixels
    of the photo; further columns are ignored. landmarks_source: `client` if they came with the request, `server` if
    the server detected them. label_map: (h, w) uint8, any size with the photo's aspect ratio.
    InvalidRequestError names the first landmark, map property or option that is wrong.
    """
    options = _checked_options(options or Options())
    height, width = photo.shape[:2]
    source = checked_landmarks(landmarks, width, height, landmarks_source)
    notes: list[str] = []
    if label_map is not None:
        present = labels.check(label_map, width, height)
        map_size = (label_map.shape[1], label_map.shape[0])
        notes += assumptions.of_map(present, map_size, (width, height), options.scheme, options.meanings)

    roll = align.roll_degrees(source)
    turn, canvas_width, canvas_height = align.upright(width, height, roll)
    level = align.apply(turn, source)
    _require_unmirrored(level)
    reach = _FOREHEAD_REACH if label_map is not None else _SEEN_FOREHEAD_REACH
    widening = _WIDENING if label_map is not None else _SEEN_WIDENING
    face = outlines.outlines(level, reach, widening)

    crop = _crop(face, level, turn, label_map, (width, height), (canvas_width, canvas_height), options.padding)
    to_crop = align.translation(-crop.x, -crop.y) @ turn
    view = (int(crop.width), int(crop.height))
    grid = _Grid(view, min(_WORKING_WIDTH / face.width, (_MAX_WORKING_PIXELS / (view[0] * view[1])) ** 0.5))

    on_grid = None if label_map is None else grid.labels(label_map, to_crop, (width, height))
    seen = None
    if on_grid is None and options.scheme != "own":
        seen = align.warp_image(photo, grid.matrix @ to_crop, grid.shape[1], grid.shape[0], None)
    masks, further = _masks(options, align.apply(grid.matrix @ to_crop, source), grid, on_grid, seen, (reach, widening))
    notes += further
    # What the photo's edge cuts off is not drawn, also where the turned crop reaches beyond it.
    frame = np.array([[0.0, 0], [width, 0], [width, height], [0, height]])
    wanted = list(masks)
    masks = regions.within(masks, align.apply(grid.matrix @ to_crop, frame))
    unit = face.width * grid.scale
    grain = 1.0 if label_map is None else max(1.0, grid.scale * width / label_map.shape[1])
    rings = {key: grid.outline(mask, strength=options.smoothing, unit=unit, grain=grain) for key, mask in masks.items()}
    rings = {key: found for key, found in rings.items() if found}

    lost = [key for key in wanted if key not in rings]
    if lost:
        notes.append(f"These regions are outside the photo or too small, and were left out: {', '.join(lost)}.")
    undrawn = sorted(set(options.style.fills) - set(rings))
    if undrawn:
        notes.append(f"`fills` has regions that are not drawn: {', '.join(undrawn)}.")

    head: list[Ring] | Points | None = None  # what the photo is clipped to: the map's foreground, or all that is drawn
    if options.photo and options.clip:
        if on_grid is None:
            head = _hull(
                [face.parts["face"] - (crop.x, crop.y), *(ring.polygon for each in rings.values() for ring in each)]
            )
        else:
            foreground = (on_grid != 0).astype(np.uint8) * np.uint8(255)
            head = grid.outline(foreground, strength=options.smoothing, unit=unit, grain=grain)
    document = _drawing(photo, to_crop, view, rings, head, options, face.width)
    return Contours(
        svg=document.text,
        drawn=(document.width, document.height),
        mask_contours={
            key: [np.round(ring.polygon, _DIGITS).tolist() for ring in found] for key, found in rings.items()
        },
        transform=to_crop,
        roll_degrees=roll,
        crop=crop,
        landmarks=source,
        landmarks_source=landmarks_source,
        assumptions=tuple(notes),
    )


def _require_unmirrored(level: Points) -> None:
    """InvalidRequestError if the mouth lies above the eyes: then the left and right landmarks were exchanged."""
    left, right = eye_centres(level)
    if mouth_centre(level)[1] <= (left[1] + right[1]) / 2:
        index = 33 if len(level) != 68 else 36
        raise InvalidRequestError(
            f"The landmarks are mirrored: landmark {index} must belong to the eye on the picture's left."
        )


def _checked_options(options: Options) -> Options:
    options.style.checked()
    for name, value, low, high in (
        ("padding", options.padding, 0.0, 2.0),
        ("smoothing", options.smoothing, 0.0, 1.0),
        ("size", options.size or 1024, 16, 8_192),
    ):
        if not low <= value <= high:
            raise InvalidRequestError(f"`{name}` must be from {low:g} to {high:g}.", field=name)
    if options.scheme == "own" and not 1 <= len(options.regions) <= _MAX_REGIONS:
        raise InvalidRequestError(f"The scheme 'own' needs 1 to {_MAX_REGIONS} `regions`.", field="regions")
    if options.scheme != "own" and options.regions:
        message = f"`regions` can be used only with the scheme 'own', not {options.scheme!r}."
        raise InvalidRequestError(message, field="regions")
    for name, indices in options.regions.items():
        if not 1 <= len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
            raise InvalidRequestError(
                f"A region's name must have 1 to {_MAX_NAME_LENGTH} printable characters, unlike {name!r:.80}."
            )
        if not 3 <= len(indices) <= LANDMARK_COUNTS[0]:
            raise InvalidRequestError(f"The region {name!r} needs 3 to {LANDMARK_COUNTS[0]} landmarks.")
    return options


def _crop(
    face: Outlines,
    level: Points,
    turn: Matrix,
    label_map: NDArray[np.uint8] | None,
    photo_size: tuple[int, int],
    canvas: tuple[int, int],
    padding: float,
) -> Box:
    """The head's box with the padding, on the upright canvas."""
    if label_map is None:
        points = np.concatenate([level, face.parts["face"]])
        tall = float(np.ptp(face.parts["face"][:, 1]))
        hair = np.array([_HAIR_BESIDE, _HAIR_ABOVE]) * tall
        low, high = points.min(axis=0) - hair, points.max(axis=0) + hair * np.array([1.0, 0.0])
    else:
        points = np.concatenate([level, _head_pixels(label_map, level, turn, photo_size)])
        low, high = points.min(axis=0), points.max(axis=0)
    low, high = np.maximum(low, 0), np.minimum(high, canvas)
    box = Box(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    return align.crop_box(box, padding, *canvas)


def _head_pixels(label_map: NDArray[np.uint8], level: Points, turn: Matrix, photo_size: tuple[int, int]) -> Points:
    """The outline, (N, 2) on the canvas, of the connected foreground that holds the most landmarks; (0, 2) if all
    landmarks lie on the background. Its error is at most 1/500 of the map's side."""
    step = max(1, max(label_map.shape) // 512)
    _, pieces = cv2.connectedComponents((label_map[::step, ::step] != 0).astype(np.uint8))
    to_canvas = turn @ align.scaling(photo_size[0] / label_map.shape[1], photo_size[1] / label_map.shape[0])
    to_canvas = to_canvas @ align.scaling(step, step)
    columns, rows = np.floor(align.apply(align.inverse(to_canvas), level)).astype(np.intp).T
    seen = pieces[np.clip(rows, 0, pieces.shape[0] - 1), np.clip(columns, 0, pieces.shape[1] - 1)]
    if not seen.any():
        return np.zeros((0, 2))
    piece = (pieces == np.bincount(seen[seen > 0]).argmax()).astype(np.uint8)
    found, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return align.apply(to_canvas, found[0][:, 0, :].astype(np.float64) + 0.5)


class _Grid:
    """The coordinate frame that masks are drawn in: the crop at a working scale."""

    def __init__(self, view: tuple[int, int], scale: float) -> None:
        self.scale = scale
        self.shape = (max(1, round(view[1] * scale)), max(1, round(view[0] * scale)))
        self.matrix = align.scaling(scale, scale)

    def labels(self, label_map: NDArray[np.uint8], to_crop: Matrix, photo_size: tuple[int, int]) -> Mask:
        """The map in this frame: scaled to the photo, rotated and cropped in one nearest-neighbour step."""
        stretch = align.scaling(photo_size[0] / label_map.shape[1], photo_size[1] / label_map.shape[0])
        return align.warp_labels(label_map, self.matrix @ to_crop @ stretch, self.shape[1], self.shape[0])

    def outline(self, mask: Mask, *, strength: float, unit: float, grain: float) -> list[Ring]:
        """The outline of a mask of this frame, as rings in crop pixels."""
        step = self.scale / 10**_DIGITS
        return [
            Ring(ring.beziers / self.scale, ring.polygon / self.scale, ring.is_hole)
            for ring in smooth.outline(mask, strength=strength, unit=unit, grain=grain, step=step)
        ]


def _masks(
    options: Options,
    landmarks: Points,
    grid: _Grid,
    on_grid: Mask | None,
    seen: NDArray[np.uint8] | None,
    reach: tuple[float, float],
) -> tuple[dict[str, Mask], list[str]]:
    """The masks of the scheme, in its order, and the assumptions made for them."""
    if options.scheme == "labels" and on_grid is not None:
        return regions.by_label(on_grid), []
    if options.scheme == "own":
        return _own_masks(options, landmarks, grid, on_grid)
    notes = []
    parts = None
    if on_grid is not None:
        parts = regions.label_parts(on_grid, options.meanings)
        if regions.swapped_sides(parts):
            parts = regions.with_sides_swapped(parts)
            notes.append("The segmentation map names left and right from the person's view; they were exchanged.")
    else:
        notes.append(assumptions.without_map(options.scheme))
    if len(landmarks) == 68:
        notes.append("With 68 landmarks, the forehead, cheeks, under-eyes and chin are estimated from proportions.")
    drawn = outlines.outlines(landmarks, *reach)
    masks = regions.named(drawn, grid.shape, parts, seen)
    if options.scheme == "labels":
        notes.append("Without a segmentation map, the labels were drawn from the landmarks.")
        return regions.by_label(regions.as_labels(drawn, masks, grid.shape, options.meanings)), notes
    wanted = regions.SEVEN if options.scheme == "seven" else {name: name for name in regions.NAMED}
    missing = {key: name for key, name in wanted.items() if name not in masks}
    if "mouth" in missing and not drawn.mouth_is_open:
        del missing["mouth"]
        notes.append("The lips are closed, so there is no mouth.")
    notes += assumptions.of_missing(missing, has_map=parts is not None)
    return {key: masks[name] for key, name in wanted.items() if name in masks}, notes


def _own_masks(
    options: Options, landmarks: Points, grid: _Grid, on_grid: Mask | None
) -> tuple[dict[str, Mask], list[str]]:
    for name, indices in options.regions.items():
        for index in indices:
            if not 0 <= index < len(landmarks):
                raise InvalidRequestError(
                    f"The region {name!r} uses landmark {index}, but only 0 to {len(landmarks) - 1} exist."
                )
    head = None if on_grid is None else (on_grid != 0).astype(np.uint8) * np.uint8(255)
    masks = regions.own(landmarks, options.regions, grid.shape, head)
    return masks, [] if head is None else ["The regions were clipped to the foreground of the segmentation map."]


def _hull(polygons: Sequence[Points]) -> Points:
    """The convex hull of polygons: a face's outline has no dents."""
    points = np.concatenate(polygons).astype(np.float32)
    return cv2.convexHull(points)[:, 0, :].astype(np.float64)


def _drawing(
    photo: NDArray[np.uint8],
    to_crop: Matrix,
    view: tuple[int, int],
    rings: Mapping[str, Sequence[Ring]],
    head: list[Ring] | Points | None,
    options: Options,
    face_width: float,
) -> svg.Document:
    long_side = max(view)
    scale = options.size / long_side if options.size else max(1.0, _MIN_DRAWN / min(view))
    embedded = None
    clip: list[Points | Sequence[Ring]] = []
    if options.photo:
        photo_scale = min(scale, _MAX_ENLARGED)
        if options.size is None:
            photo_scale = min(photo_scale, _MAX_PHOTO_SIDE / long_side)
        width, height = max(1, round(view[0] * photo_scale)), max(1, round(view[1] * photo_scale))
        matrix = align.scaling(width / view[0], height / view[1]) @ to_crop
        cropped = align.warp_image(photo, matrix, width, height, align.border_colour(photo), cubic=photo_scale > 1)
        if options.profile is not None:
            colour_profile.to_srgb(cropped, options.profile)
        embedded = svg.Photo(image.encode(cropped, "jpeg", quality=_PHOTO_QUALITY, subsampling="420"), "image/jpeg")
        if head is not None:
            clip.append(head)
        if options.transparent:
            rows, columns = photo.shape[:2]
            clip.append(align.apply(to_crop, np.array([[0.0, 0], [columns, 0], [columns, rows], [0, rows]])))
    shapes = [
        svg.Shape(key, title_of(key, options), _text(key, number, options), found, _part(key, options))
        for number, (key, found) in enumerate(rings.items(), 1)
    ]
    return svg.document(
        view[0], view[1], shapes, options.style, face=face_width, photo=embedded, clip=clip, scale=scale
    )


def title_of(key: str, options: Options) -> str:
    """The region's name for people."""
    return (_part(key, options) or (f"label {key}" if options.scheme == "labels" else key)).replace("_", " ")


def _part(key: str, options: Options) -> str:
    """What a region is, as in `NAMED` or the map's meanings; empty if that is not known."""
    if options.scheme == "named":
        return key
    if options.scheme == "seven":
        return regions.SEVEN[key]
    return options.meanings.get(int(key), "") if options.scheme == "labels" else ""


def _text(key: str, number: int, options: Options) -> str | None:
    """What is written on a region: its name without its side, which its place shows, or its number."""
    is_numbered = options.scheme in ("seven", "labels")
    labels = options.labels or ("numbers" if is_numbered else "names")
    if labels == "none":
        return None
    if labels == "numbers":
        if options.scheme == "named":
            return str(regions.NAMED.index(key) + 1)
        return key if is_numbered else str(number)
    part = _part(key, options)
    return part_of(part).replace("_", " ") if part else title_of(key, options)
