"""The painter `drawn`: effects of classical picture processing, which need no weights."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from limner.choices import Choice
from limner.painters.drawn.styles import DRAWN_STYLES, AnyStyle, Cartoon
from limner.painters.painter import Canvas, Lane, PainterParams

if TYPE_CHECKING:
    from limner.painters.painter import RGB

VERSION = 3  # increased when the same input gives another picture
_WORK_BYTES = 260_000_000  # colours are worked on at a bounded size
_BYTES_PER_PIXEL = 12  # of the result


class DrawnParams(PainterParams):
    """An effect, with its own parameters."""

    name: Literal["drawn"] = "drawn"
    style: Annotated[
        AnyStyle, Choice("style", DRAWN_STYLES), Field(title="Style", description="What it looks like")
    ] = Cartoon()


class Drawn:
    """Draws a photo. Strokes follow the size of the faces, the exposure their tone."""

    name = "drawn"
    summary = "Drawn or painted by hand, in eleven styles; needs no model."
    licence = "Apache-2.0"
    source_type: Literal["algorithmicallyEnhanced"] = "algorithmicallyEnhanced"
    params = DrawnParams
    lanes: tuple[Lane, ...] = ("paint",)

    def lane(self, params: DrawnParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "paint"

    def ready(self) -> str | None:
        """See `Painter.ready`."""
        return None

    def fingerprint(self, params: DrawnParams) -> str:
        """See `Painter.fingerprint`."""
        del params
        return f"drawn {VERSION}"

    def estimate(self, params: DrawnParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        del params
        return _WORK_BYTES + _BYTES_PER_PIXEL * size[0] * size[1]

    def needs(self, params: DrawnParams) -> Literal["photo"]:
        """See `Painter.needs`."""
        del params
        return "photo"

    def paint(self, canvas: Canvas, params: DrawnParams) -> "RGB":
        """See `Painter.paint`."""
        from limner.painters.drawn.paint import paint

        assert canvas.photo is not None  # it needs one
        canvas.step(0, 1, None)

        def show(part: float, picture: "RGB | None") -> None:
            canvas.step(round(100 * part), 100, picture)

        meshes = canvas.meshes if params.style.style == "low-poly" else ()
        return paint(
            canvas.photo,
            params.style,
            faces=[face.box for face in canvas.faces],
            meshes=meshes,
            seed=canvas.seed,
            size=canvas.size,
            expose=not canvas.beside_photo,
            draft=canvas.draft,
            show=show,
        )
