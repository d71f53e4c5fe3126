"""MediaPipe's networks as ONNX: they compute what LiteRT 2.3 computes from the published files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from flatbuffers.number_types import Int8Flags
from flatbuffers.table import Table

from limner.domain.errors import ModelError
from limner.vision import runtime, tflite, weights

# What LiteRT 2.3.0 gave for these cuts of the portrait, scaled to 0..1: `<model>_<output>`, the larger output first.
LITERT = np.load(Path(__file__).parent / "litert_outputs.npz")
CUTS = {"face_landmark": np.s_[42:234, 124:316], "iris_landmark": np.s_[69:133, 172:236]}
SHAPES = {
    "face_landmark": {"conv2d_21": [1, 1, 1, 1404], "conv2d_31": [1, 1, 1, 1]},
    "iris_landmark": {"output_eyes_contours_and_brows": [1, 213], "output_iris": [1, 15]},
}


@pytest.mark.parametrize("name", CUTS)
def test_computes_what_litert_does(models_dir: Path, astronaut: npt.NDArray[np.uint8], name: str) -> None:
    session = runtime.session(weights.path(models_dir, name))
    outputs = session.run(None, {"input_1": astronaut[CUTS[name]][None].astype(np.float32) * np.float32(1 / 255)})
    for index, output in enumerate(outputs):
        assert np.abs(output.ravel() - LITERT[f"{name}_{index}"]).max() < 0.001  # px of the network's input


@pytest.mark.parametrize("name", CUTS)
def test_inputs_and_outputs_are_the_published_ones(models_dir: Path, name: str) -> None:
    session = runtime.session(weights.path(models_dir, name))
    side = CUTS[name][0].stop - CUTS[name][0].start
    assert [(entry.name, entry.shape) for entry in session.get_inputs()] == [("input_1", [1, side, side, 3])]
    assert {entry.name: entry.shape for entry in session.get_outputs()} == SHAPES[name]


def test_the_mask_of_people_is_mediapipes(models_dir: Path, astronaut: npt.NDArray[np.uint8]) -> None:
    """MediaPipe 0.10.21's SelfieSegmentation for this cut, every eighth pixel: LiteRT has not all of its operators."""
    session = runtime.session(weights.path(models_dir, "selfie_segmentation"))
    (mask,) = session.run(None, {"input_1": astronaut[None, :256, 130:386].astype(np.float32) * np.float32(1 / 255)})
    assert np.abs(mask[0, ::8, ::8, 0] - LITERT["selfie_segmentation_0"]).max() < 0.001


def test_conversion_gives_the_same_bytes_each_time(models_dir: Path) -> None:
    published = (models_dir / weights.weight("iris_landmark").file).read_bytes()
    assert tflite.to_onnx(published) == tflite.to_onnx(published)


def test_an_unknown_operator_is_refused(models_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"operator that cannot be converted \(number 28\)"):
        tflite.to_onnx(_renumbered(models_dir, 54, 28))  # PRELU becomes TANH


def test_an_activation_inside_a_convolution_is_refused(models_dir: Path) -> None:
    """A depthwise convolution's options have the multiplier, 1, where those of a plain one have the activation."""
    with pytest.raises(ModelError, match=r"kind of activation that cannot be converted \(number 1\)"):
        tflite.to_onnx(_renumbered(models_dir, 4, 3))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ModelError, match="not a TensorFlow Lite network"):
        tflite.to_onnx(b"\0" * 64)


def _renumbered(models_dir: Path, old: int, new: int) -> bytes:
    """The iris network with another number for one kind of operator."""
    data = bytearray((models_dir / weights.weight("iris_landmark").file).read_bytes())
    model = Table(data, int.from_bytes(data[:4], "little"))
    codes = model.Offset(6)
    for index in range(model.VectorLen(codes)):
        code = Table(data, model.Indirect(model.Vector(codes) + 4 * index))
        place = code.Pos + code.Offset(4)
        if code.Offset(4) and code.Get(Int8Flags, place) == old:
            data[place] = new
            return bytes(data)
    raise AssertionError(f"the network has no operator {old}")
