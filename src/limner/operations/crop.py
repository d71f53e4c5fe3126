"""The operation `crop`: cut a photo to a size or shape about its faces, or cut out each face."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from limner.context import Context
from limner.domain.errors import InvalidRequestError
from limner.domain.formats import must_be
from limner.geometry import BoxShape, SizeShape
from limner.operation import PhotoParams, Result, format_of, operation, picture_file
from limner.vision.faces import DEFAULT_MIN_SCORE, Box, Face
from limner.vision.heads import DEFAULT_MARGIN, bounds, head

if TYPE_CHECKING:  # what works on pixels is imported where it runs: the web process needs only the parameters
    from limner.vision.align import Colour, Matrix
    from limner.vision.image import Picture

_MAX_SIDE = 4096
_DEFAULT_SIDE = 256  # of the crop of a face
_DEFAULT_FACES = 50

Side = Annotated[int, Field(ge=1, le=_MAX_SIDE)]


class CropParams(PhotoParams):
    """Parameters of `crop`."""

    width: Annotated[Side | None, Field(title="Width", description="Of the picture, pixels")] = None
    height: Annotated[Side | None, Field(title="Height", description="Of the picture, pixels")] = None
    aspect: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$",
            max_length=64,
            title="Shape",
            description="`WIDTH:HEIGHT`; default: that of `width` and `height`, else 1:1",
            examples=["16:9"],
        ),
        must_be("This must be a width and a height from 1 to 9999, for example 16:9."),
    ] = None
    zoom: Annotated[
        float | None,
        Field(ge=0, le=1, title="Zoom", description="0 (default) shows most of the photo, 1 little beside the faces"),
    ] = None
    each: Annotated[bool, Field(title="Each face", description="A picture of each face, upright and aligned")] = False
    size: Annotated[
        int | None,
        Field(ge=16, le=1024, title="Size", description="With `each`: side of the squares, pixels; default: 256"),
    ] = None
    margin: Annotated[
        float | None,
        Field(
            ge=0,
            le=2,
            title="Margin",
            description="With `each`: what is shown around a face, as a share of its size; default: 0.3, the head",
        ),
    ] = None
    max_faces: Annotated[
        int | None,
        Field(ge=1, le=100, title="Maximum faces", description="With `each`: at most so many, best first; default: 50"),
    ] = None
    min_score: Annotated[
        float, Field(ge=0, le=1, title="Minimum score", description="Faces below this score are left out")
    ] = DEFAULT_MIN_SCORE
    format: Annotated[
        Literal["jpeg", "png", "webp"] | None,
        Field(title="Format", description="Format of the pictures; default: that of the photo"),
    ] = None

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """The suffix of the output file sets `format`, unless `format` is given."""
        return {"format": format_of(output), **given}


class CropShape(BaseModel):
    """A picture that was cut out; its file is the artifact of this name."""

    name: str
    width: int
    height: int
    transform: list[list[float]] = Field(description="3×3: pixels of the upright photo → pixels of the picture")
    score: float | None = Field(None, description="Of its face, 0..1; only with `each`")


class CropResult(Result):
    """Result of `crop`."""

    is_its_files: ClassVar[bool] = True

    image: SizeShape
    faces: list[BoxShape] = Field(description="What was found, pixels of the upright photo, best first")
    about: Literal["faces", "detail"] = Field(description="What decided: faces, or what else catches the eye")
    crops: list[CropShape]
    notes: list[str] = Field([], description="What the pictures do not keep of the photo's file, as sentences")

    def summary(self) -> dict[str, int]:
        """How many faces were found, and pictures cut out."""
        return {"faces_count": len(self.faces), "crops_count": len(self.crops)}

    def in_words(self) -> str:
        """The pictures' sizes."""
        sizes = ", ".join(f"{each.width}×{each.height}" for each in self.crops[:8])
        more = ", …" if len(self.crops) > 8 else ""
        found = "1 face" if len(self.faces) == 1 else f"{len(self.faces)} faces" if self.faces else "no face"
        return f"{found}, {sizes}{more}" if self.crops else "no face"


_OF_WINDOW, _OF_EACH = ("width", "height", "aspect", "zoom"), ("size", "margin", "max_faces")


def _check(params: CropParams) -> None:
    """InvalidRequestError for what would be ignored or contradicts itself."""
    for name in _OF_WINDOW if params.each else _OF_EACH:
        if getattr(params, name) is not None:
            raise InvalidRequestError(f"{name}: It is {'not' if params.each else 'only'} for `each`.", field=name)
    if None not in (params.width, params.height, params.aspect):
        raise InvalidRequestError("aspect: `width` and `height` give the shape already.", field="aspect")
    if params.aspect is not None:
        width, height = _output_size(params, 1.0, 1.0)
        if max(width, height) > _MAX_SIDE:
            raise InvalidRequestError(f"aspect: The picture would be {width}×{height}.", field="aspect")


@operation(version=4, models=("yunet", "centerface"), check=_check)
def crop(params: CropParams, ctx: Context) -> CropResult:
    """Cut a photo to a size or shape about its faces, or cut out each face."""
    from limner.vision import align
    from limner.vision.framing import window

    with ctx.stage("decode"):
        picture = ctx.picture(params.image)
        photo = picture.on_white()
    with ctx.stage("detect"):
        most = (params.max_faces or _DEFAULT_FACES) if params.each else None
        found = ctx.models.detector().detect(photo, min_score=params.min_score, max_faces=most)
    if params.each:
        beyond = align.border_colour(picture.pixels)
        crops = [_face(params, ctx, picture, face, number, beyond) for number, face in enumerate(found, 1)]
    else:
        with ctx.stage("frame"):
            aspect = _aspect(params)
            shown = window(photo, [bounds(head(face)) for face in found], aspect, params.zoom or 0.0)
        size = _output_size(params, shown.width, shown.height)
        crops = [_window(params, ctx, picture, shown, size)]
    return CropResult(
        image=SizeShape(width=params.image.width, height=params.image.height),
        faces=[BoxShape.of(face.box) for face in found],
        about="faces" if found or params.each else "detail",
        crops=crops,
        notes=picture.notes_in(params.format or picture.info.output_format),
    )


def _aspect(params: CropParams) -> float:
    if params.aspect is not None:
        width, height = map(int, params.aspect.split(":"))
        return width / height
    if params.width is not None and params.height is not None:
        return params.width / params.height
    return 1.0


def _output_size(params: CropParams, columns: float, rows: float) -> tuple[int, int]:
    """Width and height of the picture, if it shows so many columns and rows of the photo."""
    aspect = _aspect(params)
    width = params.width or (round(params.height * aspect) if params.height is not None else round(columns))
    height = params.height or (round(params.width / aspect) if params.width is not None else round(rows))
    return max(1, width), max(1, height)


def _window(params: CropParams, ctx: Context, picture: "Picture", shown: Box, size: tuple[int, int]) -> CropShape:
    from limner.vision import align

    matrix = align.scaling(size[0] / shown.width, size[1] / shown.height) @ align.translation(-shown.x, -shown.y)
    return _cut(params, ctx, picture, matrix, size, "crop")


def _face(params: CropParams, ctx: Context, picture: "Picture", face: Face, number: int, beyond: "Colour") -> CropShape:
    """The square about a head, turned upright; `beyond` is its colour outside the photo."""
    from limner.vision import align

    area = head(face, DEFAULT_MARGIN if params.margin is None else params.margin)
    side = params.size or _DEFAULT_SIDE
    factor = side / max(area.width, area.height, 1.0)
    matrix = (
        align.translation(side / 2, side / 2)
        @ align.scaling(factor, factor)
        @ align.turning(-area.turn)
        @ align.translation(-area.x, -area.y)
    )
    return _cut(params, ctx, picture, matrix, (side, side), f"face-{number}", beyond, round(face.score, 4))


def _cut(
    params: CropParams,
    ctx: Context,
    picture: "Picture",
    matrix: "Matrix",
    size: tuple[int, int],
    name: str,
    beyond: "Colour | None" = None,
    score: float | None = None,
) -> CropShape:
    """Attach a part of the photo. Outside it is `beyond`, or its border continues."""
    from limner.vision import align, image

    with ctx.stage("cut"):
        cubic = matrix[0, 0] ** 2 + matrix[0, 1] ** 2 > 1
        pixels = align.warp_image(picture.pixels, matrix, *size, beyond, cubic=cubic)
        alpha = picture.alpha
        if alpha is not None:
            alpha = align.warp_image(alpha, matrix, *size, None if beyond is None else (0, 0, 0))
        part = replace(picture, pixels=pixels, alpha=alpha)
    form = params.format or picture.info.output_format
    with ctx.stage("encode"):
        data = image.encode_picture(part, form)
    ctx.show(pixels, alpha=alpha, profile=picture.profile)
    file = picture_file(name, form)
    ctx.attach(file, data, f"image/{form}", width=size[0], height=size[1])
    rows = [[round(float(value), 6) for value in row] for row in matrix]
    return CropShape(name=file, width=size[0], height=size[1], transform=rows, score=score)
