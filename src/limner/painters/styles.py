"""Styles of painters, learned by small networks: one with 26 styles, of which those are offered that suit faces, and a
pair that takes the style of any picture. `limner models fetch styles` fetches them.
"""

import threading
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from limner.domain.errors import InvalidRequestError
from limner.painters.configuration import models_dir
from limner.painters.painter import Canvas, Lane, PainterParams
from limner.vision import weights

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnxruntime as ort  # type: ignore[import-untyped]
    from numpy.typing import NDArray

    from limner.painters.painter import RGB

    Field32 = NDArray[np.float32]

VERSION = 2
NUMBERS = {
    "ochre": 0,
    "wash": 2,
    "crimson": 4,
    "sketch": 8,
    "ember": 10,
    "pastel": 12,
    "frost": 14,
    "night": 19,
    "old-master": 23,
    "woodblock": 24,
}
"""The offered styles of the 26: under the others, faces dissolve."""
STYLES_IN_NETWORK = 26

MAX_WORK_PIXELS = 1_200_000
DRAFT_PIXELS = 100_000
FACE_WIDTH = 300  # pixels at which strokes and features of a face go together
_NO_FACE_SIDE = 1000  # longer side, pixels, of a picture without faces
_MAX_ENLARGED = 4.0
_MIN_SIDE = 64
_MARGIN = 16  # mirrored pixels around the picture, because the networks paint its borders badly
_STEP = 4  # the networks halve the picture twice
_STYLE_SIDE = 256
_BYTES_PER_PIXEL = 450  # of activations, measured

_NETWORK = ("multistyle26",)
_PAIR = ("arbitrary_predict", "arbitrary_transform")


class StylesParams(PainterParams):
    """Parameters of `styles`."""

    name: Literal["styles"] = "styles"
    style: Annotated[
        Literal[
            "ochre",
            "wash",
            "crimson",
            "sketch",
            "ember",
            "pastel",
            "frost",
            "night",
            "old-master",
            "woodblock",
            "picture",
        ],
        Field(title="Style", description="`picture`: the style of the style picture"),
    ] = "ochre"
    strength: Annotated[float, Field(ge=0, le=1, title="Strength", description="0: the photo, 1: all of the style")] = 1
    strokes: Annotated[
        float, Field(ge=0.5, le=2, title="Strokes", description="Size of the strokes relative to the main face")
    ] = 1

    def takes_style_photo(self) -> bool:
        """See `PainterParams.takes_style_photo`."""
        return self.style == "picture"

    def needs_style_photo(self) -> bool:
        """See `PainterParams.needs_style_photo`."""
        return self.style == "picture"


class Styles:
    """The painter `styles`."""

    name = "styles"
    summary = "Styles of painters, learned by small networks, or the style of a picture of yours."
    licence = "MIT AND Apache-2.0"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = StylesParams
    lanes: tuple[Lane, ...] = ("paint",)

    def lane(self, params: StylesParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "paint"

    def ready(self) -> str | None:
        """See `Painter.ready`."""
        folder = models_dir()
        if all(weights.is_here(folder, name) for name in (*_NETWORK, *_PAIR)):
            return None
        return "The models of this painter are not here; run `limner models fetch styles`."

    def fingerprint(self, params: StylesParams) -> str:
        """See `Painter.fingerprint`."""
        return f"{VERSION} {weights.fingerprint_of(_PAIR if params.style == 'picture' else _NETWORK)}"

    def estimate(self, params: StylesParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        del params
        return MAX_WORK_PIXELS * _BYTES_PER_PIXEL + size[0] * size[1] * 3

    def needs(self, params: StylesParams) -> Literal["photo"]:
        """See `Painter.needs`."""
        del params
        return "photo"

    def paint(self, canvas: Canvas, params: StylesParams) -> "RGB":
        """Painted at a size that suits the main face, then enlarged to the photo's size if that is larger."""
        import cv2
        import numpy as np

        photo = canvas.photo
        if photo is None:
            raise InvalidRequestError("image: This painter needs a photo.", field="image")
        if params.style == "picture" and canvas.style_photo is None:
            raise InvalidRequestError("style_image: This style needs a style picture.", field="style_image")
        height, width = photo.shape[:2]
        work_width, work_height = work_size(width, height, _face_width(canvas), params.strokes, draft=canvas.draft)
        shrinks = work_width <= width
        work = cv2.resize(
            photo, (work_width, work_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        canvas.step(0, 1, None)
        given = np.asarray(work, np.float32) / np.float32(255)
        seen = given if canvas.beside_photo else _with_light_faces(given, canvas)
        if params.style == "picture":
            assert canvas.style_photo is not None
            painted = _like_picture(seen, photo, canvas.style_photo, params.strength)
        else:
            painted = _like_style(seen, NUMBERS[params.style])
            if params.strength < 1:
                painted = np.asarray(given + (painted - given) * np.float32(params.strength), np.float32)
        made = (painted.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        canvas.step(1, 1, None)
        if shrinks and work_width < width:
            made = np.asarray(cv2.resize(made, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        return made


def work_size(
    width: int, height: int, face_width: float | None, strokes: float, *, draft: bool = False
) -> tuple[int, int]:
    """The size at which to paint, pixels: the main face as wide as suits it, within `MAX_WORK_PIXELS`.

    A draft is painted within `DRAFT_PIXELS`, so its strokes are larger.
    """
    wanted = FACE_WIDTH / face_width if face_width else _NO_FACE_SIDE / max(width, height)
    wanted = min(wanted / strokes, _MAX_ENLARGED)
    most = DRAFT_PIXELS if draft else MAX_WORK_PIXELS
    scale = min(wanted, (most / (width * height)) ** 0.5)
    return max(_MIN_SIDE, round(width * scale)), max(_MIN_SIDE, round(height * scale))


def _face_width(canvas: Canvas) -> float | None:
    """The width of the largest face, pixels of the photo."""
    return max((face.box.width for face in canvas.faces), default=None)


def _with_light_faces(given: "Field32", canvas: Canvas) -> "Field32":
    """The photo at the size that is painted, with dark faces lightened."""
    from limner.painters.drawn.exposure import lightened_faces
    from limner.vision.faces import Box

    assert canvas.photo is not None
    x, y = given.shape[1] / canvas.photo.shape[1], given.shape[0] / canvas.photo.shape[0]
    boxes = [face.box for face in canvas.faces]
    return lightened_faces(given, [Box(each.x * x, each.y * y, each.width * x, each.height * y) for each in boxes])


# --- the networks: (H, W, 3) float32 RGB 0..1 in and out ------------------------------------------------------------


def _like_style(given: "Field32", number: int) -> "Field32":
    import numpy as np

    from limner.vision import runtime

    chosen = np.zeros(STYLES_IN_NETWORK, np.float32)
    chosen[number] = 1
    padded = _padded(given)
    image = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
    (made,) = _session("multistyle26").run(None, {"image": image, "style_weights": chosen}, runtime.giving_back())
    return _inner(np.asarray(made[0].transpose(1, 2, 0), np.float32), given)


def _like_picture(given: "Field32", photo: "RGB", style: "RGB", strength: float) -> "Field32":
    """Between the photo's own style (`strength` 0) and that of the picture (1)."""
    import numpy as np

    from limner.vision import runtime

    vector = _style_of(style) * np.float32(strength)
    if strength < 1:
        vector = vector + _style_of(photo) * np.float32(1 - strength)
    session = _session("arbitrary_transform")
    content, styled = (entry.name for entry in session.get_inputs())
    (made,) = session.run(None, {content: _padded(given)[None], styled: vector}, runtime.giving_back())
    return _inner(np.asarray(made[0], np.float32), given)


def _style_of(picture: "RGB") -> "Field32":
    """The style of the middle square of a picture, (1, 1, 1, 100)."""
    import cv2
    import numpy as np

    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = picture[top : top + side, left : left + side]
    small = cv2.resize(square, (_STYLE_SIDE, _STYLE_SIDE), interpolation=cv2.INTER_AREA)
    session = _session("arbitrary_predict")
    (found,) = session.run(None, {session.get_inputs()[0].name: np.asarray(small, np.float32)[None] / np.float32(255)})
    return np.asarray(found, np.float32)


def _padded(given: "Field32") -> "Field32":
    """With mirrored margins, so that both sides are multiples of `_STEP`."""
    import numpy as np

    height, width = given.shape[:2]
    return np.pad(
        given,
        ((_MARGIN, _MARGIN + -height % _STEP), (_MARGIN, _MARGIN + -width % _STEP), (0, 0)),
        mode="reflect",
    )


def _inner(painted: "Field32", given: "Field32") -> "Field32":
    height, width = given.shape[:2]
    return painted[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]


_lock = threading.Lock()
_sessions: "dict[Path, ort.InferenceSession]" = {}


def _session(name: str) -> "ort.InferenceSession":
    """The network, loaded once in a process. ModelError."""
    from limner.vision import runtime

    file = weights.path(models_dir(), name)
    with _lock:
        if file not in _sessions:
            _sessions[file] = runtime.session(file, any_size=True)
        return _sessions[file]
