"""The regions of a face as masks: outlines from landmarks, clipped to a label map if there is one. Read `named`.

Masks are (H, W) uint8, 0 or 255, all in one upright frame.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision.landmarks import Points
from limner.vision.outlines import Outlines

Mask: TypeAlias = NDArray[np.uint8]

_FEATURES = ("left_brow", "right_brow", "left_eye", "right_eye", "nose", "upper_lip", "mouth", "lower_lip")
_ONLY_WITH_MAP = ("left_ear", "right_ear", "hair")
_SKIN = ("forehead", "left_under_eye", "right_under_eye", "left_cheek", "right_cheek", "chin", "jaw")
NAMED = (*_SKIN, *_FEATURES, *_ONLY_WITH_MAP)
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

_OWN_LABEL = frozenset((*_FEATURES, *_ONLY_WITH_MAP))
_PAIRED = ("brow", "eye", "ear")
_SHIFT = 4  # fillPoly takes fixed-point coordinates with this many binary places
_GAP = 0.005  # distance between neighbouring skin regions, as a share of the face's width
_MIN_LABEL_AREA = 2e-4  # a label with a smaller area, as a share of the face's width squared, counts as absent


def named(outlines: Outlines, shape: tuple[int, int], parts: Mapping[str, Mask] | None = None) -> dict[str, Mask]:
    """The masks of the regions in `NAMED` and of `lower_face`, without empty ones.

    outlines: in the masks' frame. shape: (height, width). parts: the label map's masks by meaning (`label_parts`).
    With a map, features have the shape of their label if the map contains it; other regions are clipped to skin.
    """
    return _Face(outlines, shape, parts).regions()


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

    def __init__(self, outlines: Outlines, shape: tuple[int, int], parts: Mapping[str, Mask] | None) -> None:
        self._outlines = outlines
        self._shape = shape
        self._unit = outlines.width
        self._gap = max(1, round(_GAP * self._unit))
        self._skin = None if parts is None else parts.get("skin", np.zeros(shape, np.uint8))
        enough = _MIN_LABEL_AREA * self._unit * self._unit
        self._labels = {
            name: mask for name, mask in (parts or {}).items() if name in _OWN_LABEL and cv2.countNonZero(mask) > enough
        }

    def regions(self) -> dict[str, Mask]:
        masks = self._features()
        features = list(masks.values())
        masks["forehead"] = self._cut("forehead", [masks["left_brow"], masks["right_brow"]])
        for side in ("left", "right"):
            under_eye = self._cut(f"{side}_under_eye", [masks[f"{side}_eye"]])
            masks[f"{side}_under_eye"] = under_eye
            masks[f"{side}_cheek"] = self._cut(f"{side}_cheek", [*features, under_eye, self._below_mouth()])
        lips = [masks[name] for name in ("upper_lip", "mouth", "lower_lip")]
        masks["chin"] = self._cut("chin", lips)
        beside_chin = [*lips, masks["chin"], _not(self._below_mouth())]
        masks["jaw"] = _or(self._cut("left_jaw", beside_chin), self._cut("right_jaw", beside_chin))
        masks["lower_face"] = self._cut("lower_face", [*lips, masks["nose"]])
        masks |= self._ears()
        if "hair" in self._labels:
            masks["hair"] = self._labels["hair"]
        return {name: mask for name, mask in masks.items() if cv2.countNonZero(mask)}

    def _features(self) -> dict[str, Mask]:
        """Brows, eyes, nose, lips, mouth: the shape of the label, or else the outline from landmarks."""
        masks = {}
        for name in _FEATURES:
            labelled = self._labels.get(name)
            masks[name] = self._on_skin(self._drawn(name)) if labelled is None else labelled
        # A closed mouth's outline is a thin line, which is no region. An open mouth is cut out of the lips.
        if "mouth" not in self._labels and self._is_thin(masks["mouth"]):
            masks["mouth"] = np.zeros(self._shape, np.uint8)
        masks["upper_lip"] = _minus(masks["upper_lip"], masks["mouth"])
        masks["lower_lip"] = _minus(_minus(masks["lower_lip"], masks["mouth"]), masks["upper_lip"])
        return masks

    def _cut(self, name: str, without: Sequence[Mask]) -> Mask:
        """A region of skin: its outline without the other masks, shrunk by the gap; only its largest piece."""
        mask = self._on_skin(self._drawn(name))
        for other in without:
            mask = _minus(mask, other)
        return _in_window(mask, lambda part: _largest(_eroded(part, self._gap)))

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
        beside = _opened(beside, max(1, round(0.005 * self._unit)))
        middle = int(np.clip(self._outlines.parts["face"][:, 0].mean(), 0, self._shape[1]))
        for name, columns in (("left_ear", np.s_[:, :middle]), ("right_ear", np.s_[:, middle:])):
            ear = _in_window(beside[columns], lambda part: _eroded(_largest(part), self._gap))
            if cv2.countNonZero(ear) > 0.002 * self._unit * self._unit:
                ears[name] = np.zeros_like(beside)
                ears[name][columns] = ear
        return ears

    def _is_thin(self, mask: Mask) -> bool:
        """Whether its average thickness is below a hundredth of the face's width."""
        return cv2.countNonZero(mask) < 0.01 * self._unit * cv2.boundingRect(mask)[2]

    def _below_mouth(self) -> Mask:
        """The half-plane below the line through the mouth's corners."""
        left, right = self._outlines.mouth_line
        along = (right - left) / max(float(np.hypot(*(right - left))), 1e-6) * 4.0 * float(max(self._shape))
        down = np.array([-along[1], along[0]])
        return _filled(np.array([left - along, right + along, right + along + down, left - along + down]), self._shape)

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


def _eroded(mask: Mask, radius: int) -> Mask:
    """Erosion by a disc; the picture's border counts as an edge."""
    return np.asarray(cv2.erode(mask, _disc(radius), borderType=cv2.BORDER_CONSTANT, borderValue=0), dtype=np.uint8)


def _dilated(mask: Mask, radius: int) -> Mask:
    return np.asarray(cv2.dilate(mask, _disc(radius)), dtype=np.uint8)


def _opened(mask: Mask, radius: int) -> Mask:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(radius)), dtype=np.uint8)


def _disc(radius: int) -> Mask:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)


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
