"""The operation `contours`: outline the regions of a face as SVG."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from limner.domain.errors import FaceNotFoundError
from limner.geometry import BoxShape, PointShape, SizeShape
from limner.operation import Context, ImageRef, Result, SimilarParams, operation
from limner.vision.colours import Colour
from limner.vision.faces import DEFAULT_MIN_SCORE, Face
from limner.vision.phash import SAME_PHOTO, perceptual_hash
from limner.vision.style import STYLES

if TYPE_CHECKING:  # what works on pixels is imported where it runs: the web process needs only the parameters
    import numpy as np
    from numpy.typing import NDArray

    from limner.vision.contours import Options

Name = Annotated[str, Field(max_length=64)]
LabelValue = Annotated[int, Field(ge=0, le=255)]
LandmarkIndex = Annotated[int, Field(ge=0, le=477)]


class ContoursParams(SimilarParams):
    """Parameters of `contours`."""

    not_in_cache_key = SimilarParams.not_in_cache_key | {"answer_after_s"}

    segmentation_map: Annotated[
        ImageRef | None,
        Field(
            title="Segmentation map",
            description="A picture of the same photo whose pixel values are labels, one per part of the head",
        ),
    ] = None
    map_values: Annotated[
        Literal["grey", "indices"],
        Field(
            title="Values of the map",
            description="For a map with a palette: `indices` if its indices are the labels. Else it must be grey",
        ),
    ] = "grey"
    landmarks: Annotated[
        list[PointShape] | None,
        Field(
            title="Landmarks",
            description="478 or 468 points of MediaPipe's mesh or 68 of iBUG, photo pixels; default: detected",
            max_length=478,
            fail_fast=True,
        ),
    ] = None
    scheme: Annotated[
        Literal["named", "seven", "labels", "own"],
        Field(
            title="Regions",
            description="Named regions, seven numbered ones, the labels of the map, or your own from `regions`",
        ),
    ] = "named"
    regions: Annotated[
        dict[Name, Annotated[list[LandmarkIndex], Field(max_length=478, fail_fast=True)]] | None,
        Field(
            title="Own regions",
            description="For `own`: each name with its landmark indices, in order around the region",
            max_length=64,
        ),
    ] = None
    label_meanings: Annotated[
        dict[LabelValue, Name] | None,
        Field(
            title="Label meanings",
            description='The part of each value of the map, for example {"1": "skin"}',
            max_length=256,
        ),
    ] = None
    style: Annotated[
        Literal["default", "classic", "light"],
        Field(title="Style", description="Six colours by part of the face, all regions purple, or all grey"),
    ] = "default"
    fill: Annotated[Colour | None, Field(title="Fill", description="One colour for all regions")] = None
    fills: Annotated[
        dict[Name, Colour] | None, Field(title="Fills", description="Colours of single regions, by name", max_length=64)
    ] = None
    opacity: Annotated[float | None, Field(ge=0, le=1, title="Opacity", description="Opacity of the fill, 0 to 1")] = (
        None
    )
    stroke: Annotated[
        Colour | None, Field(title="Line colour", description="Default: the style's, or that of the region")
    ] = None
    stroke_width: Annotated[
        float | None,
        Field(ge=0, le=100, title="Line width", description="Pixels; default: relative to the face's width"),
    ] = None
    dash: Annotated[
        list[Annotated[float, Field(ge=0, le=1000)]] | None,
        Field(title="Dashes", description="Lengths of dashes and gaps, pixels; [] for a solid line", max_length=16),
    ] = None
    labels: Annotated[
        Literal["names", "numbers", "none"] | None,
        Field(
            title="Labels",
            description="What is written on the regions; default: names, or numbers where the regions are numbered",
        ),
    ] = None
    photo: Annotated[bool, Field(title="Photo", description="Embed the photo below the regions")] = True
    clip: Annotated[bool, Field(title="Clip", description="Clip the photo to the outline of the head")] = False
    transparent: Annotated[
        bool,
        Field(title="Transparent", description="Leave the area outside the photo empty instead of filling it"),
    ] = False
    padding: Annotated[
        float, Field(ge=0, le=2, title="Padding", description="Margin around the head, as a share of its size")
    ] = 0.08
    smoothing: Annotated[float, Field(ge=0, le=1, title="Smoothing")] = 0.4
    size: Annotated[
        int | None,
        Field(
            ge=16,
            le=8192,
            title="Size",
            description="Longer side of the drawn crop, pixels; default: that of the crop, the shorter at least 512",
        ),
    ] = None
    answer_after_s: SkipJsonSchema[Annotated[float, Field(ge=0, le=60)]] = 0
    """Set only by the classic paths: for this long they report "processing". The job itself is not delayed."""


class ContoursResult(Result):
    """Result of `contours`. The SVG is the artifact `contours.svg`."""

    image: SizeShape
    mask_contours: dict[str, list[list[list[float]]]] = Field(
        description="By region: closed rings of [x, y], crop pixels, combined by the even-odd rule"
    )
    transform: list[list[float]] = Field(description="3×3: photo pixels → crop pixels")
    roll_degrees: float = Field(description="Tilt of the face in the photo, positive = clockwise")
    crop: BoxShape = Field(description="The part that is shown, in pixels of the upright, rotated photo")
    landmarks: list[PointShape] = Field(description="The landmarks used, photo pixels")
    landmarks_source: Literal["client", "server"]
    presence: float | None = Field(
        None, description="Confidence of the face mesh that there is a face, 0..1; only for `server`"
    )
    assumptions: list[str] = Field(description="What was assumed where the request did not say it, as sentences")

    def summary(self) -> dict[str, int]:
        """One face: the largest."""
        return {"faces_count": 1}

    def in_words(self) -> str:
        """The number of regions and the tilt of the face."""
        return f"{len(self.mask_contours)} regions, face tilted by {self.roll_degrees:.1f}°"


def check(params: ContoursParams) -> None:
    """Check landmarks and the map's size before the job is stored. InvalidRequestError.

    The content of the map is checked later, by the worker that decodes it.
    """
    if params.landmarks is not None:
        from limner.vision.landmarks import checked_landmarks

        checked_landmarks(_points(params.landmarks), params.image.width, params.image.height)
    label_map = params.segmentation_map
    if label_map is not None:
        from limner.vision import labels

        labels.check_aspect(label_map.width, label_map.height, params.image.width, params.image.height)


def _points(landmarks: list[PointShape]) -> "NDArray[np.float64]":
    import numpy as np

    return np.array([(point.x, point.y) for point in landmarks], np.float64).reshape(-1, 2)


@operation(
    version=2, models=("yunet", "centerface", "face_landmark", "iris_landmark"), check=check, similar_within=SAME_PHOTO
)
def contours(params: ContoursParams, ctx: Context) -> ContoursResult:
    """Outline the regions of a face as SVG: forehead, under-eyes, cheeks, nose, lips, chin."""
    from limner.vision import labels
    from limner.vision.contours import trace

    with ctx.stage("decode"):
        photo = ctx.pixels(params.image)
        ctx.recognise(perceptual_hash(photo))
        label_map = None
        if params.segmentation_map is not None:
            label_map = labels.decode(ctx.data(params.segmentation_map), ctx.limits, params.map_values)
    points, presence = _landmarks(params, photo, ctx)
    with ctx.stage("trace"):
        source: Literal["client", "server"] = "server" if params.landmarks is None else "client"
        traced = trace(photo, points, label_map, _options(params), landmarks_source=source)
    ctx.attach(
        "contours.svg",
        traced.svg.encode(),
        "image/svg+xml",
        width=traced.drawn[0],
        height=traced.drawn[1],
    )
    return ContoursResult(
        image=SizeShape(width=params.image.width, height=params.image.height),
        mask_contours=traced.mask_contours,
        transform=traced.transform.tolist(),
        roll_degrees=round(traced.roll_degrees, 3),
        crop=BoxShape(x=traced.crop.x, y=traced.crop.y, width=traced.crop.width, height=traced.crop.height),
        landmarks=[PointShape(x=round(x, 2), y=round(y, 2)) for x, y in traced.landmarks.tolist()],
        landmarks_source=source,
        presence=presence,
        assumptions=list(traced.assumptions),
    )


def _landmarks(
    params: ContoursParams, photo: "NDArray[np.uint8]", ctx: Context
) -> "tuple[NDArray[np.float64], float | None]":
    """The client's points and None, or the mesh of the largest face and its presence. FaceNotFoundError."""
    if params.landmarks is not None:
        return _points(params.landmarks), None
    with ctx.stage("detect"):
        faces = ctx.models.detector().detect(photo, min_score=DEFAULT_MIN_SCORE)
    if not faces:
        raise FaceNotFoundError
    with ctx.stage("mesh"):
        mesh = ctx.models.mesh().fit(photo, [max(faces, key=_area)], symmetric=True)[0]
    return mesh.points[:, :2].astype(float), round(mesh.presence, 4)


def _area(face: Face) -> float:
    return face.box.width * face.box.height


def _options(params: ContoursParams) -> "Options":
    from limner.vision import labels
    from limner.vision.contours import Options

    style = STYLES[params.style]
    style = replace(
        style,
        fill=params.fill or style.fill,
        fills=params.fills or style.fills,
        opacity=style.opacity if params.opacity is None else params.opacity,
        stroke=params.stroke or style.stroke,
        exact_line=params.stroke_width,
        exact_dash=None if params.dash is None else tuple(params.dash),
    )
    return Options(
        scheme=params.scheme,
        regions=params.regions or {},
        style=style,
        labels=params.labels,
        photo=params.photo,
        clip=params.clip,
        transparent=params.transparent,
        padding=params.padding,
        smoothing=params.smoothing,
        size=params.size,
        meanings=params.label_meanings or labels.MEANINGS,
    )
