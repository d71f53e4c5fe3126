"""Stability AI's hosted models: the v2beta interface, and the v1 image-to-image of the classic client.

Source: https://platform.stability.ai/docs/api-reference. The key is in `STABILITY_API_KEY`.
"""

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from limner.domain.errors import (
    ContentRefusedError,
    InvalidRequestError,
    LimnerError,
    PainterNotReadyError,
    PainterServerError,
)
from limner.painters import configuration
from limner.painters.painter import Canvas, Lane, PainterParams
from limner.painters.remote import (
    Answer,
    FilePart,
    RemoteServer,
    base_url,
    fitted,
    form,
    from_base64,
    key_from,
    picture_from,
    read_json,
)

if TYPE_CHECKING:
    from limner.painters.painter import RGB

VERSION = 1
DEFAULT_URL = "https://api.stability.ai"
MAX_SENT_BYTES = 10 * 1024 * 1024
MAX_SENT_PIXELS = 9_437_184
MIN_SIDE = 64
MAX_SEED = 4_294_967_294
_MAX_SIDE = 4096
_V1_ENGINE = "stable-diffusion-xl-1024-v1-0"
_V1_SIZES = (
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
)  # the only ones that SDXL's v1 interface accepts
_RATIOS = ((16, 9), (1, 1), (21, 9), (2, 3), (3, 2), (4, 5), (5, 4), (9, 16), (9, 21))
_QUALITIES = (95, 90, 80, 60)

Service = Literal["structure", "style", "sd3", "ultra", "core", "v1"]
_PATHS: dict[str, str] = {
    "structure": "/v2beta/stable-image/control/structure",
    "style": "/v2beta/stable-image/control/style",
    "sd3": "/v2beta/stable-image/generate/sd3",
    "ultra": "/v2beta/stable-image/generate/ultra",
    "core": "/v2beta/stable-image/generate/core",
    "v1": f"/v1/generation/{_V1_ENGINE}/image-to-image",
}
_TAKEN: dict[str, frozenset[str]] = {  # beside the words and the seed
    "structure": frozenset({"strength", "style_preset"}),
    "style": frozenset({"strength"}),
    "sd3": frozenset({"strength", "model", "guidance", "style_preset"}),
    "ultra": frozenset({"strength", "style_preset"}),
    "core": frozenset({"style_preset"}),
    "v1": frozenset({"strength", "guidance", "style_preset"}),
}
_STRENGTH = 0.6
_MODEL = "sd3.5-large"


class StabilityParams(PainterParams):
    """Parameters of `stability`."""

    name: Literal["stability"] = "stability"
    prompt: Annotated[
        str, Field(min_length=1, max_length=2000, title="Words", description="What the picture shows, in English")
    ]
    negative_prompt: Annotated[
        str, Field(max_length=2000, title="Words to avoid", description="What the picture must not show")
    ] = ""
    service: Annotated[
        Service,
        Field(
            title="Service",
            description="`structure`: keeps the photo's outlines; `style`: takes the style picture's, or the photo's, "
            "style; `sd3`, `ultra`, `v1`: repaint the photo; `core`: from words alone",
        ),
    ] = "structure"
    strength: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            title="Strength",
            description="How far the photo is repainted, 0: not at all; default: 0.6; not for `core`",
        ),
    ] = None
    model: Annotated[
        Literal["sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash"] | None,
        Field(title="Model", description="The model of `sd3`; default: `sd3.5-large`"),
    ] = None
    guidance: Annotated[
        float | None,
        Field(ge=1, le=10, title="Guidance", description="How strictly `sd3` and `v1` keep to the words"),
    ] = None
    style_preset: Annotated[
        Literal[
            "3d-model",
            "analog-film",
            "anime",
            "cinematic",
            "comic-book",
            "digital-art",
            "enhance",
            "fantasy-art",
            "isometric",
            "line-art",
            "low-poly",
            "modeling-compound",
            "neon-punk",
            "origami",
            "photographic",
            "pixel-art",
            "tile-texture",
        ]
        | None,
        Field(title="Look", description="A look that all services but `style` offer"),
    ] = None

    def refuse_unused(self) -> None:
        """See `PainterParams.refuse_unused`."""
        for field in ("strength", "model", "guidance", "style_preset"):
            if getattr(self, field) is not None and field not in _TAKEN[self.service]:
                raise InvalidRequestError(f"{field}: The service {self.service} does not take this.", field=field)

    def takes_photo(self, *, beside_style: bool) -> bool:
        """See `PainterParams.takes_photo`."""
        return self.service != "core" and not (self.service == "style" and beside_style)

    def takes_style_photo(self) -> bool:
        """See `PainterParams.takes_style_photo`."""
        return self.service == "style"


class Stability:
    """The painter `stability`."""

    name = "stability"
    summary = "Stability AI's hosted models; the photo and the words are sent to Stability AI."
    licence = "LicenseRef-Stability-AI-terms"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = StabilityParams
    lanes: tuple[Lane, ...] = ("remote",)

    def lane(self, params: StabilityParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "remote"

    def ready(self) -> str | None:
        """See `Painter.ready`."""
        try:
            base_url("STABILITY_BASE_URL", DEFAULT_URL)
            key = key_from("STABILITY_API_KEY")
        except ValueError as error:
            return str(error)
        return None if key else "Set STABILITY_API_KEY to a key of Stability AI."

    def fingerprint(self, params: StabilityParams) -> str:
        """See `Painter.fingerprint`."""
        del params
        try:
            base = base_url("STABILITY_BASE_URL", DEFAULT_URL) or ""
        except ValueError:
            base = ""
        return f"{VERSION} {hashlib.sha256(base.encode()).hexdigest()[:16]}"

    def estimate(self, params: StabilityParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        del params, size
        return 250_000_000  # an answer of the largest size, its base64 and its pixels

    def needs(self, params: StabilityParams) -> Literal["photo", "nothing"]:
        """See `Painter.needs`."""
        return "nothing" if params.service == "core" else "photo"

    def paint(self, canvas: Canvas, params: StabilityParams) -> "RGB":
        """One request, which is never repeated: it may be charged for as soon as it is sent."""
        reason = self.ready()
        if reason is not None:
            raise PainterNotReadyError(reason)
        params.refuse_unused()
        base = base_url("STABILITY_BASE_URL", DEFAULT_URL)
        key = key_from("STABILITY_API_KEY")
        assert base is not None and key is not None  # noqa: PT018
        headers, body = form(_fields(canvas, params))
        is_v1 = params.service == "v1"
        accept = "application/json" if is_v1 else "image/*"
        with RemoteServer(
            base,
            wait=lambda: canvas.step(0, 1, None),
            timeout_s=configuration.picture_timeout_s(),
            headers={"Authorization": f"Bearer {key}", "Accept": accept},
            hidden=(params.prompt, params.negative_prompt),
        ) as server:
            answer = server.ask("POST", _PATHS[params.service], headers=headers, body=body)
            if answer.status != 200:
                raise _problem(server, answer)
        made = picture_from(_of_v1(answer) if is_v1 else _of_v2(answer))
        canvas.step(1, 1, None)
        return made


# --- what is sent ----------------------------------------------------------------------------------------------------


def _fields(canvas: Canvas, params: StabilityParams) -> list[tuple[str, str | FilePart]]:
    photo = canvas.photo
    if params.service == "style" and canvas.style_photo is not None:
        photo = canvas.style_photo
    if params.service == "core":
        photo = None  # there may be one of which parts are kept beside what is painted
    elif photo is None:
        raise InvalidRequestError(f"image: The service {params.service} needs a photo.", field="image")
    if params.service == "v1":
        assert photo is not None
        return _fields_of_v1(photo, canvas, params)
    seed = str(canvas.seed % (MAX_SEED + 1))
    fields: list[tuple[str, str | FilePart]] = [("prompt", params.prompt), ("seed", seed), ("output_format", "png")]
    if params.negative_prompt:
        fields.append(("negative_prompt", params.negative_prompt))
    if photo is not None:
        fields.append(("image", _sent(photo)))
    strength = _strength(params)
    repaints: dict[str, list[tuple[str, str | FilePart]]] = {
        # Both tell how much of the photo stays, Stability's `strength` how much does not.
        "structure": [("control_strength", _number(1 - strength))],
        "style": [("fidelity", _number(1 - strength)), ("aspect_ratio", _ratio(canvas))],
        "sd3": [("mode", "image-to-image"), ("model", params.model or _MODEL), ("strength", _number(strength))],
        "ultra": [("strength", _number(strength))],
        "core": [("aspect_ratio", _ratio(canvas))],
    }
    fields += repaints[params.service]
    if params.guidance is not None:
        fields.append(("cfg_scale", _number(params.guidance)))
    if params.style_preset is not None:
        fields.append(("style_preset", params.style_preset))
    return fields


def _fields_of_v1(photo: "RGB", canvas: Canvas, params: StabilityParams) -> list[tuple[str, str | FilePart]]:
    import cv2
    import numpy as np

    height, width = photo.shape[:2]
    size = min(_V1_SIZES, key=lambda each: abs(np.log(each[0] / each[1] * height / width)))
    resized = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    fields: list[tuple[str, str | FilePart]] = [
        ("init_image", _sent(resized)),
        ("init_image_mode", "IMAGE_STRENGTH"),
        ("image_strength", _number(1 - _strength(params))),
        ("text_prompts[0][text]", params.prompt),
        ("text_prompts[0][weight]", "1"),
        ("samples", "1"),
        ("seed", str(canvas.seed % (MAX_SEED + 1))),
    ]
    if params.negative_prompt:
        fields += [("text_prompts[1][text]", params.negative_prompt), ("text_prompts[1][weight]", "-1")]
    if params.guidance is not None:
        fields.append(("cfg_scale", _number(params.guidance)))
    if params.style_preset is not None:
        fields.append(("style_preset", params.style_preset))
    return fields


def _sent(photo: "RGB") -> FilePart:
    """The photo as JPEG, within the limits of the service."""
    import cv2
    import numpy as np

    from limner.vision import image

    small = fitted(photo, max_pixels=MAX_SENT_PIXELS, max_side=_MAX_SIDE)
    height, width = small.shape[:2]
    if min(height, width) < MIN_SIDE:
        size = (max(width, MIN_SIDE), max(height, MIN_SIDE))
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    for quality in _QUALITIES:
        data = image.encode(small, "jpeg", quality=quality)
        if len(data) <= MAX_SENT_BYTES - 10_000:
            break
    return FilePart(data, "image/jpeg")


def _ratio(canvas: Canvas) -> str:
    """The offered aspect ratio that is nearest to the size asked for, or to the photo's."""
    import math

    width, height = canvas.size or ((1, 1) if canvas.photo is None else canvas.photo.shape[1::-1])
    nearest = min(_RATIOS, key=lambda each: abs(math.log(each[0] / each[1] * height / width)))
    return f"{nearest[0]}:{nearest[1]}"


def _strength(params: StabilityParams) -> float:
    return _STRENGTH if params.strength is None else params.strength


def _number(value: float) -> str:
    return f"{value:.4g}"


# --- what comes back -------------------------------------------------------------------------------------------------


def _of_v2(answer: Answer) -> bytes:
    """The picture's bytes. ContentRefusedError for a filtered one, which comes blurred with status 200."""
    reason = answer.headers.get("finish-reason", "SUCCESS")
    _refuse_filtered(reason)
    return answer.body


def _of_v1(answer: Answer) -> bytes:
    told = read_json(answer.body)
    artifacts = told.get("artifacts") if isinstance(told, dict) else None
    if not isinstance(artifacts, list) or not artifacts or not isinstance(artifacts[0], dict):
        raise PainterServerError("The painter's server sent no picture.")
    _refuse_filtered(str(artifacts[0].get("finishReason", "SUCCESS")))
    return from_base64(artifacts[0].get("base64"))


def _refuse_filtered(reason: str) -> None:
    if reason == "CONTENT_FILTERED":
        raise ContentRefusedError("Stability AI's filter blurred the picture that was made. It is charged for.")
    if reason != "SUCCESS":
        raise PainterServerError("Stability AI did not finish the picture.")


def _problem(server: RemoteServer, answer: Answer) -> LimnerError:
    """As other servers, but v1 refuses words with 400 and the name `invalid_prompts`."""
    if answer.status == 400 and b'"invalid_prompts"' in answer.body[:10_000]:
        return ContentRefusedError(f"{server.host} refused the words.")
    return server.problem(answer)
