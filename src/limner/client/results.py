"""The results of the operations, as dataclasses. Coordinates are pixels of the upright photo unless said otherwise."""

from dataclasses import dataclass, field
from typing import Any, Literal

from limner.client.reading import read


@dataclass(frozen=True)
class Size:
    """Size of the upright picture, pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Point:
    """A position, pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A rectangle; (x, y) is its top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Landmarks:
    """Five points; left and right as seen in the picture."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


@dataclass(frozen=True)
class Pose:
    """The orientation of the head, degrees."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Mesh:
    """MediaPipe's 478 points, [x, y, z]."""

    points: list[list[float]]
    presence: float
    pose: Pose


@dataclass(frozen=True)
class Face:
    """A face. `box_relative` is its box relative to the photo's width and height, 0..1."""

    box: Box
    box_relative: Box
    score: float
    landmarks: Landmarks
    roll_degrees: float
    mesh: Mesh | None = None


@dataclass(frozen=True)
class DetectResult:
    """Result of `detect`: the faces, best first."""

    image: Size
    faces: list[Face]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Crop:
    """A picture that was cut out; `name` is its artifact, `transform` 3×3: photo pixels → its pixels."""

    name: str
    width: int
    height: int
    transform: list[list[float]]
    score: float | None = None


@dataclass(frozen=True)
class CropResult:
    """Result of `crop`."""

    image: Size
    faces: list[Box]
    about: Literal["faces", "detail"]
    crops: list[Crop]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FaceContours:
    """The contours of one face; `artifact` is the name of its SVG."""

    mask_contours: dict[str, list[list[list[float]]]]
    transform: list[list[float]]
    roll_degrees: float
    crop: Box
    landmarks: list[Point]
    assumptions: list[str]
    artifact: str
    presence: float | None = None


@dataclass(frozen=True)
class ContoursResult:
    """Result of `contours`: rings of [x, y] by region, crop pixels, by the even-odd rule."""

    image: Size
    mask_contours: dict[str, list[list[list[float]]]]
    transform: list[list[float]]
    roll_degrees: float
    crop: Box
    landmarks: list[Point]
    landmarks_source: Literal["client", "server"]
    assumptions: list[str]
    presence: float | None = None
    faces: list[FaceContours] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A picture that was made; `name` is its artifact. `seed` is None where none decides the picture."""

    name: str
    width: int
    height: int
    seed: int | None = None


@dataclass(frozen=True)
class GenerateResult:
    """Result of `generate`."""

    painter: str
    pictures: list[Picture]
    image: Size | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """The part of the sheet that shows a style, pixels."""

    style: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class SamplesResult:
    """Result of `samples`."""

    image: Size
    painter: str
    samples: list[Sample]


@dataclass(frozen=True)
class Step:
    """A step of a pipeline: `result` is that of its operation, and `artifacts` names its files."""

    operation: str
    artifacts: list[str]
    result: Any


@dataclass(frozen=True)
class PipelineResult:
    """Result of `pipeline`: its steps by name."""

    image: Size
    steps: dict[str, Step]


RESULTS: dict[str, type[Any]] = {
    "detect": DetectResult,
    "contours": ContoursResult,
    "crop": CropResult,
    "generate": GenerateResult,
    "samples": SamplesResult,
    "pipeline": PipelineResult,
}


def read_result(operation: str, data: Any) -> Any:
    """The result of an operation; that of one which this client does not know stays a dictionary. ValueError."""
    kind = RESULTS.get(operation)
    if kind is None or data is None:
        return data
    if kind is PipelineResult:
        steps = {
            name: {**step, "result": read_result(step["operation"], step["result"])}
            for name, step in data["steps"].items()
        }
        return read(PipelineResult, {**data, "steps": steps})
    return read(kind, data)
