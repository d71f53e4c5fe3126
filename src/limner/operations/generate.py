"""The operation `generate`: make a new picture from a photo, from words, or both. What paints is in `painters/`."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from limner import __version__
from limner.choices import Choice, WithChoices
from limner.context import Context
from limner.domain.errors import (
    ContentFilteredError,
    ContentRefusedError,
    FaceNotFoundError,
    JobMemoryError,
    JobTimeoutError,
    LimnerError,
    PainterBusyError,
    PainterCreditError,
    PainterKeyError,
    PainterNotReadyError,
    PainterRequestError,
    PainterServerError,
    PainterTimeoutError,
    SigningError,
)
from limner.domain.formats import must_be
from limner.geometry import SizeShape
from limner.image_ref import ImageRef
from limner.operation import Choices, Params, Result, format_of, invalid_fields, operation, picture_file
from limner.painters import PAINTERS, configuration
from limner.painters.painter import Canvas, Painter, PainterParams
from limner.vision import memory
from limner.vision.faces import DEFAULT_MIN_SCORE, Face

if TYPE_CHECKING:  # what works on pixels is imported where it runs: the web process needs only the parameters
    import numpy as np
    from numpy.typing import NDArray

    from limner.vision.image import Picture, Pixels
    from limner.vision.provenance import SourceType

_SEEDS = 2**32
_FAULTS_OF_SERVERS = (
    PainterServerError,
    PainterTimeoutError,
    PainterBusyError,
    PainterCreditError,
    PainterKeyError,
    PainterRequestError,
    ContentRefusedError,
    JobTimeoutError,
)
_SIDE = "([1-9][0-9]{1,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])"  # 10 to 4096
_STYLE_SIDE = 1024  # of a picture whose style is wanted: more tells no more of it
_DEFAULT_SIDE = 1024  # of a picture without photo and size


class GenerateParams(Params, WithChoices):
    """Parameters of `generate`, with those of the painter beside them."""

    not_in_cache_key: ClassVar[frozenset[str]] = frozenset({"cache"})

    image: ImageRef | None = Field(None, title="Photo")
    style_image: ImageRef | None = Field(
        None, title="Style picture", description="A picture whose style is wanted, for painters that can"
    )
    painter: Annotated[
        PainterParams,
        Choice("name", {name: each.params for name, each in PAINTERS.items()}),
        Field(title="Painter", description="What makes the picture; `GET /v1/painters` describes each"),
    ] = next(iter(PAINTERS.values())).params.model_validate({})
    size: Annotated[
        str | None,
        Field(
            pattern=f"^{_SIDE}(x{_SIDE})?$",
            max_length=9,
            coerce_numbers_to_str=True,
            title="Size",
            description="Longer side, or `WIDTHxHEIGHT` to fit a photo into; pixels; default: the painter's choice",
        ),
        must_be("This must be one number of pixels, or a width and a height such as 800x600, each from 10 to 4096."),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=0, le=_SEEDS - 1, title="Seed", description="The same seed gives the same picture; default: a new one"
        ),
    ] = None
    count: Annotated[int, Field(ge=1, le=8, title="Pictures", description="How many, each with the next seed")] = 1
    area: Annotated[
        Literal["all", "faces", "background"],
        Field(
            title="Area",
            description="What is painted: everything, the faces, or all but the people; the rest stays as in the photo",
        ),
    ] = "all"
    keep_colour: Annotated[
        bool, Field(title="Keep colours", description="Keep the photo's colours, and take only lightness")
    ] = False
    format: Annotated[
        Literal["jpeg", "png", "webp"] | None,
        Field(title="Format", description="Format of the pictures; default: that of the photo"),
    ] = None
    provenance: Annotated[
        bool,
        Field(
            title="Provenance",
            description="Say inside the file that, and by which painter, it was made, and sign this if there is a "
            "certificate",
        ),
    ] = True
    cache: Annotated[
        Literal["auto", "exact", "off"],
        Field(
            title="Cache",
            description="Whether an earlier result may answer; `auto`: unless a hosted service paints",
        ),
    ] = "auto"

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """The suffix of the output file sets `format`, unless `format` is given."""
        return {"format": format_of(output), **given}


class PictureShape(BaseModel):
    """A picture that was made; its file is the artifact of this name."""

    name: str
    seed: int | None = Field(None, description="Makes the same picture again; absent where no seed decides the picture")
    width: int
    height: int


class GenerateResult(Result):
    """Result of `generate`."""

    is_its_files: ClassVar[bool] = True

    image: SizeShape | None = Field(None, description="Size of the photo; absent without one")
    painter: str
    pictures: list[PictureShape]
    notes: list[str] = Field(
        [], description="What the pictures do not keep of the photo's file, and why some are missing"
    )

    def summary(self) -> dict[str, int]:
        """How many pictures were made."""
        return {"pictures_count": len(self.pictures)}

    def in_words(self) -> str:
        """The painter, and the seeds."""
        seeds = ", ".join(str(each.seed) for each in self.pictures if each.seed is not None)
        return f"painted by {self.painter} (seed {seeds})" if seeds else f"painted by {self.painter}"


def check(params: GenerateParams) -> None:
    """Refuse what cannot be painted, before the job is stored. InvalidRequestError, PainterNotReadyError."""
    painter = _painter(params)
    reason = painter.ready()
    if reason is not None:
        raise PainterNotReadyError(f"{painter.name}: {reason}")
    if params.style_image is not None and not params.painter.takes_style_photo():
        raise invalid_fields([{"loc": ("style_image",), "msg": f"{painter.name} takes no picture for its style"}])
    if params.style_image is None and params.painter.needs_style_photo():
        raise invalid_fields([{"loc": ("style_image",), "msg": "A picture is needed whose style is to be taken"}])
    params.painter.refuse_unused()
    if params.seed is not None and not params.painter.takes_seed():
        raise invalid_fields([{"loc": ("seed",), "msg": f"{painter.name} takes no seed with these parameters"}])
    takes_photo = params.painter.takes_photo(beside_style=params.style_image is not None)
    if params.image is not None and not takes_photo and params.area == "all" and not params.keep_colour:
        message = f"{painter.name} would not use the photo with these parameters: leave it out"
        raise invalid_fields([{"loc": ("image",), "msg": message}])
    if params.image is None:
        if takes_photo and painter.needs(params.painter) == "photo":
            raise invalid_fields([{"loc": ("image",), "msg": f"The painter {painter.name} needs a photo"}])
        if params.area != "all" or params.keep_colour:
            field = "area" if params.area != "all" else "keep_colour"
            raise invalid_fields([{"loc": (field,), "msg": "Without a photo there is nothing to keep"}])


def _painter(params: GenerateParams) -> Painter:
    return PAINTERS[params.painter.name]


def _settle(params: GenerateParams, request: str) -> GenerateParams:
    """Draw a seed if none is given. A repeat of the request gets the same, so that it is the same work."""
    if params.seed is not None or not params.painter.takes_seed():
        return params
    drawn = hashlib.sha256(request.encode()).digest()
    return params.model_copy(update={"seed": int.from_bytes(drawn[:4])})


def _lanes(painters: Iterable[Painter]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lane for each in painters for lane in each.lanes))


def _filtered(params: GenerateParams) -> bool:
    """Whether the content filter looks at the pictures. Then no previews are shown, because it has not seen these."""
    return configuration.filters_content(hosted=_painter(params).lane(params.painter) == "remote")


def _fingerprint(params: GenerateParams) -> str:
    """What the painter says, content filter and signature: results without them must not answer."""
    filtered = f" filter {configuration.highest_content_score()}" if _filtered(params) else ""
    files = configuration.c2pa_files() if params.provenance else None
    signed = "" if files is None else f" signed {_changed(files[0])}"
    return f"{_painter(params).fingerprint(params.painter)}{filtered}{signed}"


def _changed(file: Path) -> str:
    """What tells a file from an earlier one. SigningError."""
    try:
        found = file.stat()
    except OSError as error:
        raise SigningError(f"{file.name} cannot be read ({error.strerror}).") from error
    return f"{found.st_size} {found.st_mtime_ns}"


def _fresh(params: GenerateParams) -> bool:
    hosted = _painter(params).lane(params.painter) == "remote"
    return params.cache == "off" or (params.cache == "auto" and hosted)


@operation(
    version=4,
    lanes=_lanes(PAINTERS.values()),
    models=("yunet", "centerface", "face_landmark", "iris_landmark", "selfie_segmentation"),
    check=check,
    choices=Choices(
        lane=lambda params: _painter(params).lane(params.painter),
        fingerprint=_fingerprint,
        settle=_settle,
        fresh=_fresh,
        ready_lanes=lambda: _lanes(each for each in PAINTERS.values() if each.ready() is None),
    ),
)
def generate(params: GenerateParams, ctx: Context) -> GenerateResult:
    """Make a new picture from a photo: drawn, painted, or imagined."""
    check(params)  # a worker may lack what the web process has
    picture = _decoded(params, ctx)
    subject = None if picture is None else _Subject(picture.srgb(), ctx)
    style = _style_photo(params, ctx)
    made: list[PictureShape] = []
    notes = [] if picture is None else picture.notes_in(None)
    for number in range(params.count):
        seed = None if params.seed is None else (params.seed + number) % _SEEDS  # drawn at submission, if one is taken
        try:
            painted = _painted(params, ctx, subject, style, seed, number)
            made.append(_attached(params, ctx, painted, picture, seed, number))
        except _FAULTS_OF_SERVERS as error:
            told = _told_as_charged(params, error)
            if not made or not _keeps_some(params):
                raise told from None
            notes.append(f"Only {len(made)} of {params.count} pictures were made. {told.detail}")
            break
    size = None if params.image is None else SizeShape(width=params.image.width, height=params.image.height)
    return GenerateResult(image=size, painter=params.painter.name, pictures=made, notes=notes)


def _told_as_charged(params: GenerateParams, error: LimnerError) -> LimnerError:
    """The error; if the time of a job in another lane (`pipeline`) is over, one that says what may be charged for."""
    painter = _painter(params)
    if isinstance(error, JobTimeoutError) and painter.lane(params.painter) == "remote":
        return PainterTimeoutError.of_job(error.detail)
    return error


def _keeps_some(params: GenerateParams) -> bool:
    """Whether the first pictures are kept if a further one fails: they may be paid for. They answer no one else."""
    return _painter(params).lane(params.painter) == "remote" and _fresh(params)


class _Subject:
    """The photo, with its faces and meshes found at most once for all pictures."""

    def __init__(self, photo: "Pixels", ctx: Context) -> None:
        self.photo = photo
        self._ctx = ctx

    @cached_property
    def faces(self) -> "list[Face]":
        with self._ctx.stage("detect"):
            return self._ctx.models.detector().detect(self.photo, min_score=DEFAULT_MIN_SCORE)

    @cached_property
    def meshes(self) -> "list[NDArray[np.float32]]":
        faces = self.faces
        with self._ctx.stage("mesh"):
            return [mesh.points for mesh in self._ctx.models.mesh().fit(self.photo, faces)] if faces else []

    @cached_property
    def people(self) -> "NDArray[np.float32]":
        """The mask of `vision.person`."""
        with self._ctx.stage("people"):
            return self._ctx.models.person().find(self.photo, [face.box for face in self.faces])


def _decoded(params: GenerateParams, ctx: Context) -> "Picture | None":
    if params.image is None:
        return None
    with ctx.stage("decode"):
        return ctx.picture(params.image)


def _style_photo(params: GenerateParams, ctx: Context) -> "Pixels | None":
    if params.style_image is None:
        return None
    from limner.vision import image

    with ctx.stage("decode"):
        decoded = image.decode(ctx.data(params.style_image), ctx.limits, at_least=_STYLE_SIDE)
        return image.within(decoded, _STYLE_SIDE)


def _painted(
    params: GenerateParams,
    ctx: Context,
    subject: _Subject | None,
    style_photo: "Pixels | None",
    seed: int | None,
    number: int,
) -> "Pixels":
    """One picture, of the size asked for, painted only where it is wanted. JobMemoryError, FaceNotFoundError,
    ContentFilteredError.
    """
    painter = _painter(params)
    photo = None if subject is None else subject.photo
    size = _size(params.size, photo)
    if params.area == "faces" and subject is not None and not subject.faces:
        raise FaceNotFoundError
    _check_memory(painter, params.painter, size or _shape_of(photo))
    filtered = _filtered(params)
    canvas = Canvas(
        photo=photo,
        size=size,
        seed=seed or 0,
        step=lambda done, steps, preview: ctx.step(
            number * steps + done, params.count * steps, None if filtered else preview
        ),
        find_faces=lambda _: subject.faces if subject is not None else [],
        fit_meshes=lambda _photo, _faces: subject.meshes if subject is not None else [],
        style_photo=style_photo,
        beside_photo=params.area != "all",
    )
    with ctx.stage("paint"):
        painted = painter.paint(canvas, params.painter)
    if filtered:
        with ctx.stage("filter"):
            if ctx.models.content().of(painted) >= configuration.highest_content_score():
                raise ContentFilteredError
    if size is not None:
        painted = _resized(painted, size)
    return painted if subject is None else _kept(params, ctx, painted, subject)


def _kept(params: GenerateParams, ctx: Context, painted: "Pixels", subject: _Subject) -> "Pixels":
    """The picture with what is kept of the photo: its colours, its people, or all but the faces."""
    if params.area == "all" and not params.keep_colour:
        return painted
    import numpy as np

    from limner.vision import blend

    meshes = subject.meshes if params.area != "all" else []
    people = subject.people if params.area == "background" else None
    with ctx.stage("blend"):
        width, height = _shape_of(painted)
        photo = _resized(subject.photo, (width, height))
        if params.keep_colour:
            painted = blend.with_colours_of(painted, photo)
        if params.area == "all":
            return painted
        scale = np.array((width / subject.photo.shape[1], height / subject.photo.shape[0]), np.float32)
        mask = blend.faces_mask((width, height), [mesh[:, :2] * scale for mesh in meshes])
        if people is not None:
            mask = 1 - blend.either(mask, people)
        return blend.blend(photo, painted, mask)


def _attached(
    params: GenerateParams, ctx: Context, painted: "Pixels", picture: "Picture | None", seed: int | None, number: int
) -> PictureShape:
    from limner.vision import image
    from limner.vision.provenance import xmp_of

    form = params.format or ("png" if picture is None else picture.info.output_format)
    width, height = _shape_of(painted)
    xmp = None
    if params.provenance:
        tool = f"Limner {__version__}"
        xmp = xmp_of(_source_type(params), tool=tool, painter=params.painter.name, seed=seed)
    with ctx.stage("encode"):
        if picture is None:
            data = image.encode(painted, form, xmp=xmp)
        else:
            data = image.encode(painted, form, xmp=xmp, density=picture.density, lossless=picture.lossless)
    files = configuration.c2pa_files() if params.provenance else None
    if files is not None:
        from limner.vision.signing import Claim, Identity

        claim = Claim(_source_type(params), tool="Limner", version=__version__, painter=params.painter.name, seed=seed)
        with ctx.stage("sign"):
            data = Identity(*files).signed(data, f"image/{form}", claim)
    ctx.show(painted)
    name = picture_file(f"image-{number + 1}", form)
    ctx.attach(name, data, f"image/{form}", width=width, height=height)
    return PictureShape(name=name, seed=seed, width=width, height=height)


def _source_type(params: GenerateParams) -> "SourceType":
    source = _painter(params).source_type
    if source == "trainedAlgorithmicMedia" and params.image is not None:
        return "compositeWithTrainedAlgorithmicMedia"
    return source


def _size(wanted: str | None, photo: "Pixels | None") -> tuple[int, int] | None:
    """Width and height of the picture; None if the painter may choose."""
    if wanted is None:
        return None if photo is not None else (_DEFAULT_SIDE, _DEFAULT_SIDE)
    width, _, height = wanted.partition("x")
    box = (int(width), int(height or width))
    if photo is None:
        return box
    across, down = _shape_of(photo)
    factor = min(box[0] / across, box[1] / down)
    return max(1, round(across * factor)), max(1, round(down * factor))


def _shape_of(pixels: "Pixels | None") -> tuple[int, int]:
    """Width and height."""
    return (0, 0) if pixels is None else (pixels.shape[1], pixels.shape[0])


def _resized(pixels: "Pixels", size: tuple[int, int]) -> "Pixels":
    import cv2
    import numpy as np

    if _shape_of(pixels) == size:
        return pixels
    smaller = size[0] < pixels.shape[1]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8)


def _check_memory(painter: Painter, params: PainterParams, size: tuple[int, int]) -> None:
    needed, free = painter.estimate(params, size), memory.free_address_space()
    if free is not None and needed > free:
        raise JobMemoryError(
            f"The painter {painter.name} needs about {needed / 1e6:,.0f} MB of memory for this; this worker may take "
            f"{free / 1e6:,.0f} MB more (LIMNER_WORKER_MEMORY_BYTES)."
        )
