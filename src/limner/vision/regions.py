"""The regions of a face as masks: outlines from landmarks, clipped to a label map if there is one. Read `named`.

Masks are (H, W) uint8, 0 or 255, all in one upright frame.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision import skin
from limner.vision.landmarks import Points
from limner.vision.outlines import Outlines

Mask: TypeAlias = NDArray[np.uint8]

_FEATURES = ("left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip", "mouth", "lower_lip")
ONLY_WITH_MAP = ("left_ear", "right_ear", "hair")
_SKIN = ("forehead", "left_under_eye", "right_under_eye", "left_cheek", "right_cheek", "chin", "jaw")
NAMED = (*_SKIN, *_FEATURES, *ONLY_WITH_MAP)
"""The regions of the scheme `named`. Ears and hair need a label map. The mouth is the opening between the lips, if
there is one; the jaw lies below the mouth's corners on both sides of the chin."""

SEVEN: Mapping[str, str] = {
    "1": "forehead",
    "2": "left_under_eye",
    "3": "right_under_eye",
    "4": "lower_face",
    "5": "nose",
    "6": "right_ear",
    "7": "left_ear",
}
"""The regions of the scheme `seven`. The lower face reaches from the nose's base to the chin, without the lips."""

_OWN_LABEL = frozenset((*_FEATURES, *ONLY_WITH_MAP))
_PAIRED = ("brow", "eye", "ear")
_SHIFT = 4  # fillPoly takes fixed-point coordinates with this many binary places
_GAP = 0.0125  # distance between neighbouring regions and to the face's edge, as a share of the face's width
_BROW_WINDOW = 0.03  # how far beyond its outline a brow's hair is searched, as a share of the face's width
# Radius of a region's corners, as a share of the face's width.
_ROUND = {"forehead": 0.05, "under_eye": 0.011, "cheek": 0.02, "chin": 0.04, "jaw": 0.03, "lower_face": 0.03}
_NOSE_ROUND = 0.012  # of the nose, whose landmarks cross at a wing when the face is turned
_TURNED_AWAY = 0.1  # a region whose outline has less of the area of its mirror image is turned away from the camera
_LEAST_CHEEK = 0.06  # the same for a cheek, of which a narrow stripe still shows its form
_REST = 0.3  # half of a region that has less of the area of the other half is not drawn
_MIN_LABEL_AREA = 2e-4  # a label with a smaller area, as a share of the face's width squared, counts as absent


def named(
    outlines: Outlines,
    shape: tuple[int, int],
    parts: Mapping[str, Mask] | None = None,
    picture: NDArray[np.uint8] | None = None,
) -> dict[str, Mask]:
    """The masks of the regions in `NAMED` and of `lower_face`, without empty ones.

    outlines: in the masks' frame. shape: (height, width). parts: the label map's masks by meaning (`label_parts`).
    With a map, features have the shape of their label if the map contains it; other regions are clipped to skin.
    picture: the photo in that frame, (height, width, 3); without a map it shows the hairline and how full brows are.
    """
    return _Face(outlines, shape, parts, picture).regions()


def turned_away(outlines: Outlines) -> set[str]:
    """The regions that the face's turn hides: much smaller than their mirror images, or seen from behind."""
    hidden: set[str] = set()
    far = outlines.far_side
    for part in ("cheek", "jaw"):
        sizes = {side: _signed_area(outlines.parts[f"{side}_{part}"]) for side in ("left", "right")}
        sizes["right"] = -sizes["right"]  # mirrored outlines run the other way round
        larger = max(sizes.values(), key=abs)
        hidden |= {f"{side}_{part}" for side, size in sizes.items() if larger and size / larger < _TURNED_AWAY}
    if far is not None:
        hidden |= {f"{far}_{part}" for part in ("cheek", "under_eye", "eye", "brow", "jaw")}
    return hidden


def label_parts(labels: Mask, meanings: Mapping[int, str]) -> dict[str, Mask]:
    """A label map as one mask per meaning."""
    parts: dict[str, Mask] = {}
    for value, meaning in meanings.items():
        mask = _u8(labels == value)
        if mask.any():
            parts[meaning] = cv2.bitwise_or(parts[meaning], mask) if meaning in parts else mask  # type: ignore[assignment]
    return parts


def swapped_sides(parts: Mapping[str, Mask]) -> bool:
    """Whether the map names left and right from the person's view: its left parts lie on the right of the picture."""
    offset = 0.0
    for feature in _PAIRED:
        left, right = parts.get(f"left_{feature}"), parts.get(f"right_{feature}")
        if left is not None and right is not None:
            offset += _middle_x(left) - _middle_x(right)
    return offset > 0


def with_sides_swapped(parts: Mapping[str, Mask]) -> dict[str, Mask]:
    """The parts with `left_` and `right_` exchanged in their names."""
    other = {f"left_{feature}": f"right_{feature}" for feature in _PAIRED}
    other |= {right: left for left, right in other.items()}
    return {other.get(name, name): mask for name, mask in parts.items()}


def by_label(labels: Mask) -> dict[str, Mask]:
    """One mask per value that occurs, except 0 (background), by the value as text."""
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    return {str(value): _u8(labels == value) for value in values if value}


def as_labels(
    outlines: Outlines, masks: Mapping[str, Mask], shape: tuple[int, int], meanings: Mapping[int, str]
) -> Mask:
    """A label map made from landmarks: the face's outline as skin, the named masks on top of it."""
    labels = np.zeros(shape, np.uint8)
    for value, meaning in meanings.items():
        if meaning == "skin":
            cv2.fillPoly(labels, [np.round(outlines.parts["face"]).astype(np.int32)], (value,))
    for value, meaning in meanings.items():
        if meaning in masks:
            labels[masks[meaning] > 0] = value
    return labels


def within(masks: Mapping[str, Mask], polygon: Points) -> dict[str, Mask]:
    """The masks inside a polygon, without those that are not."""
    shape = next(iter(masks.values())).shape if masks else (0, 0)
    inside = _filled(polygon, (shape[0], shape[1]))
    cut = {name: _and(mask, inside) for name, mask in masks.items()}
    return {name: mask for name, mask in cut.items() if cv2.countNonZero(mask)}


def own(
    landmarks: Points, regions: Mapping[str, Sequence[int]], shape: tuple[int, int], head: Mask | None
) -> dict[str, Mask]:
    """The caller's regions: polygons through landmarks in the given order, clipped to `head` if it is given."""
    masks = {}
    for name, indices in regions.items():
        mask = _filled(landmarks[list(indices)], shape)
        masks[name] = mask if head is None else _and(mask, head)
    return {name: mask for name, mask in masks.items() if mask.any()}


class _Face:
    """Builds the masks of one face; each method makes some of the regions."""

    def __init__(
        self,
        outlines: Outlines,
        shape: tuple[int, int],
        parts: Mapping[str, Mask] | None,
        picture: NDArray[np.uint8] | None,
    ) -> None:
        self._outlines = outlines
        self._shape = shape
        self._unit = outlines.width
        self._gap = max(1.0, _GAP * self._unit)
        self._picture = picture if parts is None else None
        self._skin = None if parts is None else parts.get("skin", np.zeros(shape, np.uint8))
        # Regions of skin keep the gap to hair, ears and background.
        self._inside = _eroded(self._drawn("face") if self._skin is None else self._skin, self._gap)
        self._hidden = turned_away(outlines)
        enough = _MIN_LABEL_AREA * self._unit * self._unit
        self._labels = {
            name: mask for name, mask in (parts or {}).items() if name in _OWN_LABEL and cv2.countNonZero(mask) > enough
        }

    def regions(self) -> dict[str, Mask]:
        masks = self._features()
        features = list(masks.values())
        lips = [masks[name] for name in ("upper_lip", "mouth", "lower_lip")]
        face = _and(self._inside, _eroded(self._drawn("face"), self._gap))
        masks["forehead"] = self._forehead(masks)
        for side in ("left", "right"):
            under_eye = self._cut(f"{side}_under_eye", [*features, masks["forehead"]], face)
            masks[f"{side}_under_eye"] = under_eye
            masks[f"{side}_cheek"] = self._cut(f"{side}_cheek", [*features, under_eye, masks["forehead"]], face)
        masks["right_cheek"] = self._apart(masks["right_cheek"], masks["left_cheek"])
        whole = _LEAST_CHEEK * max(cv2.countNonZero(masks[f"{side}_cheek"]) for side in ("left", "right"))
        for side in ("left", "right"):
            if cv2.countNonZero(masks[f"{side}_cheek"]) < whole:
                masks[f"{side}_cheek"] = np.zeros(self._shape, np.uint8)
        cheeks = [masks["left_cheek"], masks["right_cheek"]]
        masks["chin"] = self._cut("chin", [*lips, *cheeks], face)
        beside = [*features, *cheeks, masks["chin"]]
        masks["jaw"] = _both(self._cut("left_jaw", beside, face), self._cut("right_jaw", beside, face))
        masks["lower_face"] = self._cut("lower_face", [*lips, masks["nose"]], face)
        masks |= self._ears()
        if "hair" in self._labels:
            masks["hair"] = self._labels["hair"]
        return {name: mask for name, mask in masks.items() if cv2.countNonZero(mask)}

    def _features(self) -> dict[str, Mask]:
        """Brows, eyes, nose, lips, mouth: the shape of the label, or else the outline from landmarks."""
        masks = {}
        for name in _FEATURES:
            labelled = self._labels.get(name)
            if labelled is not None:
                masks[name] = labelled
            elif name in self._hidden or (name == "mouth" and not self._outlines.mouth_is_open):
                masks[name] = np.zeros(self._shape, np.uint8)
            else:
                masks[name] = self._on_skin(self._drawn(name))
        if "nose" not in self._labels:
            masks["nose"] = _in_window(masks["nose"], lambda part: _rounded(part, _NOSE_ROUND * self._unit))
        if self._picture is not None:
            for side in ("left", "right"):
                masks[f"{side}_brow"] = self._full_brow(masks, side)
        # Lips and the mouth between them share edges: half of the gap is taken from each.
        half = self._gap / 2
        upper = _minus(masks["upper_lip"], masks["mouth"])
        lower = _minus(_minus(masks["lower_lip"], masks["mouth"]), upper)
        masks["upper_lip"] = _minus(upper, _dilated(_or(masks["mouth"], lower), half))
        masks["lower_lip"] = _minus(lower, _dilated(_or(masks["mouth"], upper), half))
        masks["mouth"] = _minus(masks["mouth"], _dilated(_or(upper, lower), half))
        return masks

    def _full_brow(self, masks: Mapping[str, Mask], side: str) -> Mask:
        core = masks[f"{side}_brow"]
        if self._picture is None or not cv2.countNonZero(core):
            return core
        tail = _dilated(self._drawn(f"{side}_brow_tail"), 0.4 * _BROW_WINDOW * self._unit)
        window = _or(_dilated(core, _BROW_WINDOW * self._unit), tail)
        window = _minus(window, _dilated(self._drawn(f"{side}_eye"), 2 * self._gap))
        return skin.full_brow(self._picture, core, _or(window, core), self._unit)

    def _forehead(self, masks: Mapping[str, Mask]) -> Mask:
        """Skin above the brows up to the hairline: that of the map, that which the photo shows, or else the mesh's."""
        below = [masks[name] for name in ("left_brow", "right_brow", "nose", "left_eye", "right_eye")]
        if self._picture is None:
            inside = self._inside if self._skin is not None else self._eroded_forehead()
            return self._cut("forehead", below, inside)
        return self._cut("forehead", below, self._eroded_forehead())

    def _eroded_forehead(self) -> Mask:
        forehead = self._this_side(self._drawn("forehead"))
        mesh = _and(forehead, self._drawn("face"))
        if self._picture is None or not cv2.countNonZero(mesh):
            return _eroded(mesh, self._gap)
        top, bottom = self._forehead_rows(mesh)
        seed = mesh.copy()
        seed[: int(bottom - 0.45 * (bottom - top))] = 0
        brows = _or(self._drawn("left_brow"), self._drawn("right_brow"))
        seed = _minus(seed, _dilated(brows, 2 * self._gap))
        found = skin.hairline(self._picture, seed, forehead, bottom, top)
        return _eroded(mesh if found is None else found, self._gap)

    def _this_side(self, mask: Mask) -> Mask:
        """The mask; of a profile, without what is beyond the middle of the forehead, where no face is."""
        (low_x, low_y), (high_x, high_y) = self._outlines.middle.tolist()
        if self._outlines.far_side is None or low_y - high_y < 1:
            return mask
        rows = np.clip(np.arange(self._shape[0]) + 0.5, high_y, low_y)
        edge = low_x + (high_x - low_x) * (low_y - rows) / (low_y - high_y)
        beyond = np.arange(self._shape[1]) + 0.5 < edge[:, None]
        return _minus(mask, _u8(beyond if self._outlines.far_side == "left" else ~beyond))

    def _forehead_rows(self, mesh: Mask) -> tuple[float, float]:
        """y of the mesh's upper edge, and of the brows' upper edge."""
        _, y, _, _ = cv2.boundingRect(mesh)
        brows = min(float(self._outlines.parts[f"{side}_brow"][:, 1].min()) for side in ("left", "right"))
        return float(y), brows

    def _cut(self, name: str, without: Sequence[Mask], inside: Mask) -> Mask:
        """A region of skin: its outline inside of a mask and a gap away from others, with round corners; only its
        largest piece. Empty if it is turned away from the camera."""
        mask = _and(self._drawn(name), inside)
        if name in self._hidden:
            return np.zeros(self._shape, np.uint8)
        mask = self._apart(mask, *without)
        radius = _ROUND[name.removeprefix("left_").removeprefix("right_")] * self._unit
        return _in_window(mask, lambda part: _largest(_rounded(part, radius)))

    def _apart(self, mask: Mask, *others: Mask) -> Mask:
        """The mask without what is nearer than the gap to others."""
        x, y, width, height = cv2.boundingRect(mask)
        reach = int(self._gap) + 2
        near = np.s_[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
        kept = np.zeros_like(mask)
        union = np.zeros_like(mask[near])
        for other in others:
            union = _or(union, other[near])
        kept[near] = _minus(mask[near], _dilated(union, self._gap))
        return kept

    def _ears(self) -> dict[str, Mask]:
        """The ears' labels, or else skin beside the face's oval, from brow level to just below the mouth."""
        ears: dict[str, Mask] = {name: self._labels[name] for name in ("left_ear", "right_ear") if name in self._labels}
        if self._skin is None or ears:
            return ears
        beside = _minus(self._skin, _dilated(self._drawn("face"), self._gap))
        top = int(max(0, self._outlines.brow_level))
        mouth = self._outlines.mouth_line
        beside[:top] = 0
        beside[max(0, int(mouth[:, 1].max() + 0.12 * self._unit)) :] = 0
        beside = _rounded(beside, max(1, round(0.005 * self._unit)))
        middle = int(np.clip(self._outlines.parts["face"][:, 0].mean(), 0, self._shape[1]))
        for name, columns in (("left_ear", np.s_[:, :middle]), ("right_ear", np.s_[:, middle:])):
            ear = _in_window(beside[columns], lambda part: _eroded(_largest(part), self._gap))
            if cv2.countNonZero(ear) > 0.002 * self._unit * self._unit:
                ears[name] = np.zeros_like(beside)
                ears[name][columns] = ear
        return ears

    def _drawn(self, name: str) -> Mask:
        return _filled(self._outlines.parts[name], self._shape)

    def _on_skin(self, mask: Mask) -> Mask:
        return mask if self._skin is None else _and(mask, self._skin)


def _filled(polygon: Points, shape: tuple[int, int]) -> Mask:
    """The filled polygon: pixels whose centre is inside or on the edge."""
    mask = np.zeros(shape, np.uint8)
    # cv2.fillPoly puts pixel centres at whole numbers.
    fixed = np.clip(np.round((polygon - 0.5) * (1 << _SHIFT)), -(1 << 24), 1 << 24).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_8, shift=_SHIFT)
    return mask


def _in_window(mask: Mask, change: Callable[[Mask], Mask]) -> Mask:
    """`change` applied to the mask's bounding box only, which is faster; `change` must not add pixels."""
    mask = np.ascontiguousarray(mask)
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return mask
    window = np.s_[y : y + height, x : x + width]
    changed = np.zeros_like(mask)
    changed[window] = change(np.ascontiguousarray(mask[window]))
    return changed


def _largest(mask: Mask) -> Mask:
    """The largest connected component."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 2:
        return mask
    return _u8(pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _both(one: Mask, other: Mask) -> Mask:
    """The halves of a region together; without one that is no more than a rest beside the other."""
    areas = cv2.countNonZero(one), cv2.countNonZero(other)
    if min(areas) >= _REST * max(areas):
        return _or(one, other)
    return one if areas[0] > areas[1] else other


def _eroded(mask: Mask, radius: float) -> Mask:
    """Erosion by a disc; the picture's border counts as an edge."""

    def shrunk(part: Mask) -> Mask:
        framed = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return _u8(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1] > radius)

    return _in_window(mask, shrunk)


def _dilated(mask: Mask, radius: float) -> Mask:
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return mask
    reach = int(radius) + 2
    window = np.s_[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
    grown = np.zeros_like(mask)
    grown[window] = _u8(cv2.distanceTransform(_not(mask[window]), cv2.DIST_L2, cv2.DIST_MASK_5) <= radius)
    return grown


def _rounded(mask: Mask, radius: float) -> Mask:
    """Opening by a disc: corners get its radius, and what is narrower than the disc goes."""
    return _and(_dilated(_eroded(mask, radius), radius), mask)


def _signed_area(polygon: Points) -> float:
    x, y = (polygon - polygon[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _middle_x(mask: Mask) -> float:
    columns = np.count_nonzero(mask[::4], axis=0)  # every fourth row is accurate enough
    return float(np.arange(len(columns)) @ columns) / max(int(columns.sum()), 1)


def _u8(truth: NDArray[np.bool_]) -> Mask:
    return truth.astype(np.uint8) * np.uint8(255)


def _and(one: Mask, other: Mask) -> Mask:
    return np.asarray(cv2.bitwise_and(one, other), dtype=np.uint8)


def _or(one: Mask, other: Mask) -> Mask:
    return np.asarray(cv2.bitwise_or(one, other), dtype=np.uint8)


def _not(mask: Mask) -> Mask:
    return np.asarray(cv2.bitwise_not(mask), dtype=np.uint8)


def _minus(one: Mask, other: Mask) -> Mask:
    # Saturated subtraction of 0 and 255 is the set difference, in one pass.
    return np.asarray(cv2.subtract(one, other), dtype=np.uint8)
