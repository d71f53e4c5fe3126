"""The operation `samples`: what a photo looks like in each style of a painter, small and quickly, to choose from."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from limner import __version__
from limner.context import Context
from limner.domain.errors import PainterNotReadyError
from limner.geometry import BoxShape, SizeShape
from limner.operation import Choices, PhotoParams, Result, operation
from limner.painters import PAINTERS
from limner.painters.drawn.styles import DRAWN_STYLES
from limner.painters.painter import Canvas, Painter, PainterParams
from limner.painters.styles import NUMBERS
from limner.vision.faces import DEFAULT_MIN_SCORE

if TYPE_CHECKING:
    from limner.vision.image import Pixels

STYLES: dict[str, tuple[str, ...]] = {"drawn": tuple(DRAWN_STYLES), "styles": tuple(NUMBERS)}
"""The painters whose drafts are cheap, with their styles that need nothing but a photo."""

_PHOTO_SIDE = 768  # of the photo that is worked with, longer side, pixels: enough for a draft
_QUALITY = 85


class SamplesParams(PhotoParams):
    """Parameters of `samples`."""

    painter: Annotated[Literal["drawn", "styles"], Field(title="Painter", description="Whose styles are shown")] = (
        "drawn"
    )
    size: Annotated[int, Field(ge=64, le=256, title="Size", description="Longer side of each sample, pixels")] = 160


class SampleShape(BoxShape):
    """The part of the sheet that shows a style, pixels."""

    style: str


class SamplesResult(Result):
    """Result of `samples`."""

    image: SizeShape
    painter: str
    samples: list[SampleShape]

    def in_words(self) -> str:
        """How many there are, and whose."""
        return f"{len(self.samples)} styles of {self.painter}"


def check(params: SamplesParams) -> None:
    """PainterNotReadyError."""
    reason = _painter(params).ready()
    if reason is not None:
        raise PainterNotReadyError(f"{params.painter}: {reason}")


def _painter(params: SamplesParams) -> Painter:
    return PAINTERS[params.painter]


def _in_style(params: SamplesParams, style: str) -> PainterParams:
    """The painter's own defaults, in this style."""
    own = _painter(params).params
    return own.model_validate({"style": style})


@operation(
    version=1,
    lanes=tuple(dict.fromkeys(lane for name in STYLES for lane in PAINTERS[name].lanes)),
    models=("yunet", "face_landmark", "iris_landmark"),
    check=check,
    yields=True,
    choices=Choices(
        lane=lambda params: _painter(params).lane(_in_style(params, STYLES[params.painter][0])),
        fingerprint=lambda params: _painter(params).fingerprint(_in_style(params, STYLES[params.painter][0])),
    ),
)
def samples(params: SamplesParams, ctx: Context) -> SamplesResult:
    """Show a photo in each style of a painter, as a sheet of small drafts."""
    check(params)  # a worker may lack what the web process has
    from limner.vision import image
    from limner.vision.provenance import xmp_of

    with ctx.stage("decode"):
        photo = image.within(ctx.pixels(params.image, at_least=_PHOTO_SIDE), _PHOTO_SIDE)
    with ctx.stage("detect"):
        faces = ctx.models.detector().detect(photo, min_score=DEFAULT_MIN_SCORE)
    with ctx.stage("mesh"):
        meshes = [mesh.points for mesh in ctx.models.mesh().fit(photo, faces)] if faces else []
    height, width = photo.shape[:2]
    factor = params.size / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    styles = STYLES[params.painter]
    made: list[Pixels] = []
    for number, style in enumerate(styles):
        canvas = Canvas(
            photo=photo,
            size=size,
            seed=0,
            step=partial(_step, ctx, number, len(styles)),
            find_faces=lambda _photo: faces,
            fit_meshes=lambda _photo, _faces: meshes,
            draft=True,
        )
        with ctx.stage("paint"):
            made.append(_fitted(_painter(params).paint(canvas, _in_style(params, style)), size))
    with ctx.stage("encode"):
        source = _painter(params).source_type
        told = xmp_of(
            source if source == "algorithmicallyEnhanced" else "compositeWithTrainedAlgorithmicMedia",
            tool=f"Limner {__version__}",
            painter=params.painter,
            seed=0,
        )
        sheet = _sheet(made)
        data = image.encode(sheet, "jpeg", quality=_QUALITY, xmp=told)
    ctx.attach("samples.jpg", data, "image/jpeg", width=sheet.shape[1], height=sheet.shape[0])
    return SamplesResult(
        image=SizeShape(width=params.image.width, height=params.image.height),
        painter=params.painter,
        samples=[
            SampleShape(style=style, x=0, y=number * size[1], width=size[0], height=size[1])
            for number, style in enumerate(styles)
        ],
    )


def _step(ctx: Context, before: int, styles: int, done: int, steps: int, preview: "Pixels | None") -> None:
    """A step of one style, of those that come one after the other."""
    del preview
    ctx.step(before * steps + done, styles * steps)


def _fitted(picture: "Pixels", size: tuple[int, int]) -> "Pixels":
    import cv2
    import numpy as np

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _sheet(pictures: "list[Pixels]") -> "Pixels":
    """The pictures one below the other."""
    import numpy as np

    return np.concatenate(pictures)
