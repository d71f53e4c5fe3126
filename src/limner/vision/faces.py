"""Data types for a detected face: point, box, five landmarks."""

import math
from dataclasses import dataclass

DEFAULT_MIN_SCORE = 0.6
COVER_MIN_SCORE = 0.4  # where a face that stays visible is worse than one too many


@dataclass(frozen=True, slots=True)
class Point:
    """A position in the picture, pixels."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle, pixels; (`x`, `y`) is its top left corner."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0..1."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(across, 0.0) * max(down, 0.0)
        return shared / max(self.width * self.height + other.width * other.height - shared, 1e-9)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Five points of a face. Left and right are as seen in the picture, not from the person's view."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


@dataclass(frozen=True, slots=True)
class Face:
    """A face found by a detector; `score` is 0..1."""

    box: Box
    score: float
    landmarks: Landmarks

    @property
    def roll_degrees(self) -> float:
        """Tilt of the eye line, -180..180; positive = rotated clockwise as seen in the picture (right eye lower)."""
        left, right = self.landmarks.left_eye, self.landmarks.right_eye
        return math.degrees(math.atan2(right.y - left.y, right.x - left.x))
