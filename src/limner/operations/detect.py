"""The operation `detect`: find the faces in a photo, and mark or cover them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from limner.context import Context
from limner.domain.errors import InvalidRequestError, UnsupportedMediaError
from limner.geometry import AreaShape, BoxShape, PointShape, SizeShape
from limner.image_ref import ImageRef
from limner.operation import Choices, PhotoParams, Result, format_of, operation, picture_file
from limner.vision import faces
from limner.vision.colours import Colour, rgb
from limner.vision.faces import COVER_MIN_SCORE, DEFAULT_MIN_SCORE

if TYPE_CHECKING:  # what works on pixels is imported where it runs: the web process needs only the parameters
    from limner.vision import image
    from limner.vision.mesh import MeshResult

_MIN_DECODED_SIDE = 2048  # enough for the detector when no picture is drawn
_SCORES_IN_WORDS = 8
_SMALLEST_VEIL = 7  # px, of a half transparent area in which a face may be hidden
_SAME_FACE = 0.4  # two boxes that overlap by so much are of one face


class DetectParams(PhotoParams):
    """Parameters of `detect`."""

    mark: Annotated[
        Literal["box", "blur", "pixelate", "solid", "none"],
        Field(title="Mark", description="How faces are marked. Blur, pixelate and solid cover them for good"),
    ] = "box"
    margin: Annotated[
        float | None,
        Field(
            ge=0,
            le=2,
            title="Margin",
            description="How much is covered around a face, as a share of its size; default: 0.3, the whole head",
        ),
    ] = None
    colour: Annotated[Colour | None, Field(title="Colour", description="Of `solid`; default: black")] = None
    boxes: Annotated[
        list[AreaShape] | None,
        Field(
            title="Boxes",
            description="Mark exactly these areas, pixels of the upright photo, instead of the faces that are found",
            max_length=1000,
            fail_fast=True,
        ),
    ] = None
    min_score: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            title="Minimum score",
            description=f"Faces below this score are left out; default: {DEFAULT_MIN_SCORE}, to cover faces "
            f"{COVER_MIN_SCORE}",
        ),
    ] = None
    precise: Annotated[
        bool,
        Field(
            title="Precise",
            description="A slower detector with fewer false alarms; faces to cover are always searched by both",
        ),
    ] = False
    max_faces: Annotated[
        int | None,
        Field(ge=1, le=10_000, title="Maximum faces", description="Return at most this many faces, best score first"),
    ] = None
    landmarks: Annotated[
        Literal["five", "mesh"],
        Field(title="Landmarks", description="`mesh` adds 478 points and the head's pose to each face"),
    ] = "five"
    format: Annotated[
        Literal["jpeg", "png", "webp"] | None,
        Field(title="Format", description="Format of the marked picture; default: that of the photo"),
    ] = None

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """Without an output file nothing is drawn. Its suffix sets `format`, unless `format` is given."""
        if output is None:
            return {**given, "mark": "none"}
        return {"format": format_of(output), **given}


class LandmarksShape(BaseModel):
    """Five points; left and right as seen in the picture."""

    left_eye: PointShape
    right_eye: PointShape
    nose: PointShape
    mouth_left: PointShape
    mouth_right: PointShape


class PoseShape(BaseModel):
    """The orientation of the head, degrees; all zero = upright and facing the camera."""

    yaw: float = Field(description="Positive = towards the picture's right")
    pitch: float = Field(description="Positive = up")
    roll: float = Field(description="Positive = clockwise as seen in the picture")


class MeshShape(BaseModel):
    """MediaPipe's 478 points: [x, y, z], pixels; z smaller = nearer."""

    points: list[list[float]]
    presence: float = Field(ge=0, le=1, description="Confidence that there is a face")
    pose: PoseShape


class FaceShape(BaseModel):
    """A face; coordinates are pixels of the upright photo unless a description says otherwise."""

    box: BoxShape
    box_relative: BoxShape = Field(description="The box relative to the photo's width and height, 0..1")
    score: float = Field(ge=0, le=1)
    landmarks: LandmarksShape
    roll_degrees: float = Field(description="Tilt of the eye line; positive = clockwise as seen in the picture")
    mesh: MeshShape | None = Field(None, description="Only with `landmarks: mesh`")


class DetectResult(Result):
    """Result of `detect`."""

    image: SizeShape
    faces: list[FaceShape]
    notes: list[str] = Field([], description="What the marked picture does not keep of the photo's file, as sentences")

    def summary(self) -> dict[str, int]:
        """How many faces were found."""
        return {"faces_count": len(self.faces)}

    def in_words(self) -> str:
        """The number of faces and the first scores."""
        count = len(self.faces)
        scores = ", ".join([f"{face.score:.2f}" for face in self.faces[:_SCORES_IN_WORDS]])
        more = ", …" if count > _SCORES_IN_WORDS else ""
        return "no face" if count == 0 else f"{count} face{'s' if count > 1 else ''} ({scores}{more})"

    def leaves_photo(self, values: Mapping[str, Any]) -> bool:
        """Without a face there is nothing to mark."""
        return not self.faces and values.get("mark") != "none"


_COVERS = ("blur", "pixelate", "solid")


def _check(params: DetectParams) -> None:
    """InvalidRequestError for what would be ignored. UnsupportedMediaError for what would lose its other frames."""
    if params.margin is not None and (params.mark not in _COVERS or params.boxes is not None):
        raise InvalidRequestError("margin: It is for faces that are covered: blur, pixelate or solid.", field="margin")
    if params.colour is not None and params.mark != "solid":
        raise InvalidRequestError("colour: It is for `mark: solid`.", field="colour")
    if params.boxes is not None and params.mark == "none":
        raise InvalidRequestError("boxes: They need a mark.", field="boxes")
    if params.image.frames > 1 and params.mark in _COVERS:
        raise UnsupportedMediaError(
            "Faces cannot be covered in a picture with several frames or pages. Send them one by one."
        )


@operation(
    version=6,
    models=("yunet", "centerface", "face_landmark", "iris_landmark"),
    check=_check,
    choices=Choices(covers=lambda params: params.mark in _COVERS),
)
def detect(params: DetectParams, ctx: Context) -> DetectResult:
    """Find the faces in a photo and mark each."""
    from limner.vision.detector import scaled

    with ctx.stage("decode"):
        # A picture that will be marked is needed at full size; otherwise a smaller one is enough for detection.
        picture = ctx.picture(params.image, to_change=True) if params.mark != "none" else None
        photo = picture.on_white() if picture else ctx.pixels(params.image, at_least=_MIN_DECODED_SIDE)
    covers = params.mark in _COVERS and params.boxes is None
    with ctx.stage("detect"):
        found = ctx.models.detector().detect(
            photo,
            min_score=params.min_score,
            precise=params.precise,
            cover=covers,
            max_faces=params.max_faces,
        )
        if covers and picture is not None:
            found = _with_veiled(found, params, picture, ctx)
    height, width = photo.shape[:2]
    meshes: list[MeshShape | None] = [None] * len(found)
    if params.landmarks == "mesh" and found:
        with ctx.stage("mesh"):
            fitted = ctx.models.mesh().fit(photo, found)
        meshes = [_mesh_shape(mesh, params.image.width / width) for mesh in fitted]
    del photo
    found = scaled(found, params.image.width / width, params.image.height / height)
    if picture is not None and (found or params.boxes is not None):
        _mark(params, picture, found, ctx)
    elif picture is not None:
        ctx.see_photo(params.image, picture.pixels, alpha=picture.alpha, profile=picture.profile)
    size = SizeShape(width=params.image.width, height=params.image.height)
    return DetectResult(
        image=size,
        faces=[_shape(face, mesh, params.image) for face, mesh in zip(found, meshes, strict=True)],
        notes=[] if picture is None else picture.notes_in(params.format or picture.info.output_format),
    )


def _with_veiled(
    found: list[faces.Face], params: DetectParams, picture: "image.Picture", ctx: Context
) -> list[faces.Face]:
    """The faces, and those that only show without the transparency: anyone can take it away from the result."""
    import cv2
    import numpy as np

    if picture.alpha is None:
        return found
    veiled = ((picture.alpha > 0) & (picture.alpha < 255)).astype(np.uint8)
    if not cv2.erode(veiled, np.ones((_SMALLEST_VEIL, _SMALLEST_VEIL), np.uint8)).any():
        return found  # the soft edges of a cut-out
    picture.pixels[picture.alpha == 0] = 0
    bare = ctx.models.detector().detect(
        picture.pixels, min_score=params.min_score, precise=params.precise, cover=True, max_faces=params.max_faces
    )
    further = [face for face in bare if all(face.box.overlap(other.box) < _SAME_FACE for other in found)]
    every = sorted([*found, *further], key=lambda face: face.score, reverse=True)
    return every[: params.max_faces]


def _mark(params: DetectParams, picture: "image.Picture", found: list[faces.Face], ctx: Context) -> None:
    """Attach the photo, at full size, with the faces or the areas of the request marked."""
    from limner.vision import cover, draw, heads, image

    boxes = None
    if params.boxes is not None:
        boxes = [faces.Box(each.x, each.y, each.width, each.height) for each in params.boxes]
    with ctx.stage("draw"):
        if params.mark == "box":
            draw.boxes(picture.pixels, found if boxes is None else boxes, picture.alpha)
        else:
            margin = heads.DEFAULT_MARGIN if params.margin is None else params.margin
            areas = [heads.head(face, margin) for face in found] if boxes is None else list(map(cover.exactly, boxes))
            if params.mark == "solid":
                cover.solid(picture.pixels, areas, picture.alpha, colour=rgb(params.colour or "black"))
            else:
                {"blur": cover.blur, "pixelate": cover.pixelate}[params.mark](picture.pixels, areas, picture.alpha)
            if picture.alpha is not None:
                picture.pixels[picture.alpha == 0] = 0  # a face may be hidden in what is transparent
    ctx.show(picture.pixels, alpha=picture.alpha, profile=picture.profile, covered=params.mark in _COVERS)
    chosen = params.format or picture.info.output_format
    with ctx.stage("encode"):
        marked = image.encode_picture(picture, chosen)
    ctx.attach(
        picture_file("marked", chosen),
        marked,
        f"image/{chosen}",
        width=params.image.width,
        height=params.image.height,
    )


def _mesh_shape(mesh: "MeshResult", factor: float) -> MeshShape:
    import numpy as np

    from limner.vision.pose import head_pose

    pose = head_pose(mesh.points)
    return MeshShape(
        points=np.round(mesh.points.astype(float) * factor, 2).tolist(),
        presence=round(mesh.presence, 4),
        pose=PoseShape(yaw=round(pose.yaw, 1), pitch=round(pose.pitch, 1), roll=round(pose.roll, 1)),
    )


def _shape(face: faces.Face, mesh: MeshShape | None, photo: ImageRef) -> FaceShape:
    def point(at: faces.Point) -> PointShape:
        return PointShape(x=round(at.x, 2), y=round(at.y, 2))

    box, marks = face.box, face.landmarks
    return FaceShape(
        box=BoxShape.of(box),
        box_relative=BoxShape(
            x=round(box.x / photo.width, 6),
            y=round(box.y / photo.height, 6),
            width=round(box.width / photo.width, 6),
            height=round(box.height / photo.height, 6),
        ),
        score=round(face.score, 4),
        landmarks=LandmarksShape(
            left_eye=point(marks.left_eye),
            right_eye=point(marks.right_eye),
            nose=point(marks.nose),
            mouth_left=point(marks.mouth_left),
            mouth_right=point(marks.mouth_right),
        ),
        roll_degrees=round(face.roll_degrees, 2),
        mesh=mesh,
    )
