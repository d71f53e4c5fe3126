"""The operation `contours`: outline the regions of a face as SVG."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from limner.context import Context
from limner.domain.errors import FaceNotFoundError, InvalidRequestError
from limner.domain.formats import must_be
from limner.geometry import BoxShape, PointShape, SizeShape
from limner.image_ref import ImageRef
from limner.operation import Result, SimilarParams, operation
from limner.vision.colours import Colour
from limner.vision.faces import DEFAULT_MIN_SCORE, Face
from limner.vision.phash import SAME_PHOTO, perceptual_hash
from limner.vision.style import STYLES

if TYPE_CHECKING:  # what works on pixels is imported where it runs: the web process needs only the parameters
    import numpy as np
    from numpy.typing import NDArray

    from limner.vision.contours import Contours, Options

FACES_AT_MOST = 20
"""Of `face: all`; a drawing holds a photo, so each takes time and space."""
CLEAR, UNCLEAR = 0.5, 0.1
"""A mesh whose presence is below the first is drawn with a warning, below the second not at all."""

Name = Annotated[str, Field(max_length=64)]
LabelValue = Annotated[int, Field(ge=0, le=255)]
LandmarkIndex = Annotated[int, Field(ge=0, le=477)]


def _as_point(given: object) -> object:
    """A point as Limner's meshes have it, `[x, y, z]`, as an object. MediaPipe's objects are taken as they are."""
    if isinstance(given, list | tuple) and len(given) in (2, 3):
        return {"x": given[0], "y": given[1]}
    return given


_A_POINT = must_be("A landmark must be an object with the numbers x and y, or a list of two or three numbers.")


def _as_text(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


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
        list[Annotated[PointShape, BeforeValidator(_as_point), _A_POINT]] | None,
        Field(
            title="Landmarks",
            description="478 or 468 points of MediaPipe's mesh or 68 of iBUG, each {x, y} or [x, y], a z is not used; "
            "default: detected",
            max_length=478,
            fail_fast=True,
        ),
    ] = None
    landmarks_unit: Annotated[
        Literal["pixels", "normalised"],
        Field(
            title="Unit of the landmarks",
            description="Pixels of the upright photo, or `normalised`: shares of its width and height, as of MediaPipe",
        ),
    ] = "pixels"
    face: Annotated[
        str,
        BeforeValidator(_as_text),
        Field(
            pattern=r"^(largest|all|[1-9][0-9]{0,2})$",
            max_length=64,
            title="Face",
            description="`largest`, `all` (an SVG each, at most 20), or a number: 1 is the largest face, 2 the next",
            examples=["largest", "all", "2"],
        ),
        must_be("This must be `largest`, `all`, or the number of a face: 1 is the largest, 2 the next."),
    ] = "largest"
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


class FaceContours(BaseModel):
    """The contours of one face."""

    mask_contours: dict[str, list[list[list[float]]]] = Field(
        description="By region: closed rings of [x, y], crop pixels, combined by the even-odd rule"
    )
    transform: list[list[float]] = Field(description="3×3: photo pixels → crop pixels")
    roll_degrees: float = Field(description="Tilt of the face in the photo, positive = clockwise")
    crop: BoxShape = Field(description="The part that is shown, in pixels of the upright, rotated photo")
    landmarks: list[PointShape] = Field(description="The landmarks used, photo pixels")
    presence: float | None = Field(
        None, description="Confidence of the face mesh that there is a face, 0..1; only for `server`"
    )
    artifact: str = Field(description="Name of its SVG")
    assumptions: list[str] = Field(description="What was assumed where the request did not say it, as sentences")


class ContoursResult(Result):
    """Result of `contours`. The SVG is the artifact `contours.svg`; with `face: all`, see `faces`."""

    is_its_files: ClassVar[bool] = True

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
    faces: list[FaceContours] = Field(
        default_factory=list,
        description="Only with `face: all`: each face, from the largest; the other fields are those of the first",
    )

    def summary(self) -> dict[str, int]:
        """The faces that were drawn."""
        return {"faces_count": max(1, len(self.faces))}

    def in_words(self) -> str:
        """The number of regions and the tilt of the face, or the number of faces."""
        if self.faces:
            return f"{len(self.faces)} {'face' if len(self.faces) == 1 else 'faces'}"
        return f"{len(self.mask_contours)} regions, face tilted by {self.roll_degrees:.1f}°"


def check(params: ContoursParams) -> None:
    """Check landmarks and the map's size before the job is stored. InvalidRequestError.

    The content of the map is checked later, by the worker that decodes it.
    """
    if params.landmarks is not None:
        from limner.vision.landmarks import checked_landmarks

        checked_landmarks(_points(params), params.image.width, params.image.height)
        if params.face != "largest":
            raise InvalidRequestError(
                "`face` cannot be used with `landmarks`: they say which face is drawn.", field="face"
            )
    elif params.landmarks_unit != "pixels":
        raise InvalidRequestError("`landmarks_unit` can be used only with `landmarks`.", field="landmarks_unit")
    label_map = params.segmentation_map
    reads_meanings = label_map is not None or params.scheme == "labels"  # which numbers what is drawn by them
    for name, is_given, other in (
        ("map_values", label_map is None and params.map_values != "grey", "a `segmentation_map`"),
        ("label_meanings", params.label_meanings is not None and not reads_meanings, "a `segmentation_map`"),
        ("clip", params.clip and not params.photo, "the `photo`"),
        ("transparent", params.transparent and not params.photo, "the `photo`"),
    ):
        if is_given:
            raise InvalidRequestError(f"`{name}` can be used only with {other}.", field=name)
    if label_map is not None:
        from limner.vision import labels

        labels.check_aspect(label_map.width, label_map.height, params.image.width, params.image.height)


def _points(params: ContoursParams) -> "NDArray[np.float64]":
    """The client's landmarks, photo pixels."""
    import numpy as np

    points = np.array([(point.x, point.y) for point in params.landmarks or ()], np.float64).reshape(-1, 2)
    return points * (params.image.width, params.image.height) if params.landmarks_unit == "normalised" else points


@operation(
    version=4, models=("yunet", "centerface", "face_landmark", "iris_landmark"), check=check, similar_within=SAME_PHOTO
)
def contours(params: ContoursParams, ctx: Context) -> ContoursResult:
    """Outline the regions of a face as SVG: forehead, under-eyes, cheeks, nose, lips, chin."""
    from limner.vision import labels
    from limner.vision.contours import trace

    with ctx.stage("decode"):
        picture = ctx.picture(params.image)
        photo = picture.on_white()
        ctx.recognise(perceptual_hash(photo))
        label_map = None
        if params.segmentation_map is not None:
            label_map = labels.decode(ctx.data(params.segmentation_map), ctx.limits, params.map_values)
    meshes, notes = _meshes(params, photo, ctx)
    notes += picture.notes_in(None)
    options = _options(params, picture.profile)
    source: Literal["client", "server"] = "server" if params.landmarks is None else "client"
    drawn = []
    for number, mesh in enumerate(meshes, 1):
        with ctx.stage("trace"):
            traced = trace(photo, mesh.points, label_map, options, landmarks_source=source)
        name = f"contours-{number}.svg" if params.face == "all" else "contours.svg"
        ctx.attach(name, traced.svg.encode(), "image/svg+xml", width=traced.drawn[0], height=traced.drawn[1])
        drawn.append(_face_contours(traced, mesh, name, notes))
        if number < len(meshes):
            ctx.step(number, len(meshes))
    first = drawn[0]
    return ContoursResult(
        image=SizeShape(width=params.image.width, height=params.image.height),
        landmarks_source=source,
        faces=drawn if params.face == "all" else [],
        **{name: getattr(first, name) for name in FaceContours.model_fields if name != "artifact"},
    )


@dataclass(frozen=True, slots=True)
class _Mesh:
    points: "NDArray[np.float64]"
    presence: float | None  # None for a client's


def _face_contours(traced: "Contours", mesh: _Mesh, artifact: str, notes: list[str]) -> FaceContours:
    unsure = []
    if mesh.presence is not None and mesh.presence < CLEAR:
        unsure = [f"The face is unclear (presence {mesh.presence:.2f}): the regions may be in wrong places."]
    return FaceContours(
        mask_contours=traced.mask_contours,
        transform=traced.transform.tolist(),
        roll_degrees=round(traced.roll_degrees, 3),
        crop=BoxShape(x=traced.crop.x, y=traced.crop.y, width=traced.crop.width, height=traced.crop.height),
        landmarks=[PointShape(x=round(x, 2), y=round(y, 2)) for x, y in traced.landmarks.tolist()],
        presence=mesh.presence,
        artifact=artifact,
        assumptions=[*unsure, *notes, *traced.assumptions],
    )


def _meshes(params: ContoursParams, photo: "NDArray[np.uint8]", ctx: Context) -> tuple[list[_Mesh], list[str]]:
    """The client's landmarks, or the meshes of the faces asked for, from the largest; and what to say of them.

    FaceNotFoundError, also if no mesh is sure enough; InvalidRequestError for a face that there is not.
    """
    if params.landmarks is not None:
        return [_Mesh(_points(params), None)], []
    with ctx.stage("detect"):
        faces = sorted(ctx.models.detector().detect(photo, min_score=DEFAULT_MIN_SCORE), key=_area, reverse=True)
    if not faces:
        raise FaceNotFoundError
    notes = [] if len(faces) == 1 else [f"The photo has {len(faces)} faces, numbered from the largest."]
    if params.face == "all":
        if len(faces) > FACES_AT_MOST:
            notes.append(f"Only the {FACES_AT_MOST} largest faces were drawn.")
        chosen = faces[:FACES_AT_MOST]
    else:
        number = 1 if params.face == "largest" else int(params.face)
        if number > len(faces):
            raise InvalidRequestError(f"There is no face {number}: {len(faces)} were found.", field="face")
        chosen = [faces[number - 1]]
    with ctx.stage("mesh"):
        fitted = ctx.models.mesh().fit(photo, chosen, symmetric=True)
    meshes = [_Mesh(each.points[:, :2].astype(float), round(each.presence, 4)) for each in fitted]
    clear = [mesh for mesh in meshes if mesh.presence is not None and mesh.presence >= UNCLEAR]
    if not clear:
        raise FaceNotFoundError(
            "The face is too unclear to find its regions: covered, turned away, dark or very small."
        )
    if len(clear) < len(meshes):
        notes.append(f"Left out because they are too unclear: {len(meshes) - len(clear)} of the faces.")
    return clear, notes


def _area(face: Face) -> float:
    return face.box.width * face.box.height


def _options(params: ContoursParams, profile: bytes | None) -> "Options":
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
        profile=profile,
        clip=params.clip,
        transparent=params.transparent,
        padding=params.padding,
        smoothing=params.smoothing,
        size=params.size,
        meanings=params.label_meanings or labels.MEANINGS,
    )
