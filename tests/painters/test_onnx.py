"""The painter `onnx` with small networks that are written here, and entries that are wrong."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limner.domain import errors
from limner.painters.onnx import Onnx, OnnxParams
from limner.vision.onnx_graph import GraphWriter
from tests.painters.servers import Steps, canvas, gradient

PHOTO = gradient(40, 60)

Write = Callable[..., OnnxParams]


def negative(channels_last: bool = False, side: int | None = None, low: float = 0, high: float = 1) -> bytes:
    """A network that turns each value into `low + high - value`."""
    graph = GraphWriter()
    graph.constant("sum", np.array(low + high, np.float32))
    sides = [side or 0, side or 0]
    shape = [1, *sides, 3] if channels_last else [1, 3, *sides]
    graph.input("in", shape)
    graph.output(graph.node("Sub", ["sum", "in"], "out"), shape)
    return free(graph.to_bytes(), channels_last) if side is None else graph.to_bytes()


def free(network: bytes, channels_last: bool = False) -> bytes:
    from limner.vision import onnx_graph

    return onnx_graph.free_input_size(network, channels_last=channels_last)


def doubling() -> bytes:
    """A network whose picture is twice as large, by repeating each pixel."""
    graph = GraphWriter()
    graph.input("in", [1, 3, 0, 0])
    four = graph.node("Concat", ["in"] * 4, "four", axis=1)
    graph.output(graph.node("DepthToSpace", [four], "out", blocksize=2), [1, 3, 0, 0])
    return free(graph.to_bytes())


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a network and its entry, and gives the parameters that choose it."""
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    folder = tmp_path / "onnx"
    folder.mkdir()

    def entry(network: bytes | None, toml: str = "", name: str = "mine") -> OnnxParams:
        if network is not None:
            (folder / f"{name}.onnx").write_bytes(network)
        (folder / f"{name}.toml").write_text(f'file = "{name}.onnx"\n{toml}')
        return OnnxParams(network=name)

    return entry


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
def test_each_layout_order_and_range(
    write: Write, layout: str, channels: str, low: float, high: float, multiple: int
) -> None:
    network = negative(layout == "NHWC", low=low, high=high)
    params = write(
        network,
        f'layout = "{layout}"\nchannels = "{channels}"\nrange = [{low}, {high}]\nsize_multiple = {multiple}\n',
    )
    steps = Steps()
    assert Onnx().ready() is None
    made = Onnx().paint(canvas(PHOTO, steps=steps), params)
    assert np.abs(made.astype(int) - (255 - PHOTO.astype(int))).max() <= 1
    assert steps.told[-1] == (1, 1)


def test_channels_and_output_range_are_used(write: Write) -> None:
    """A network that adds 0.5 to its first channel, which is blue here."""
    graph = GraphWriter()
    graph.constant("more", np.array([0.5, 0, 0], np.float32).reshape(1, 3, 1, 1))
    graph.input("in", [1, 3, 0, 0])
    graph.output(graph.node("Add", ["in", "more"], "out"), [1, 3, 0, 0])
    params = write(free(graph.to_bytes()), 'channels = "BGR"\noutput_range = [0, 2]\n')
    made = Onnx().paint(canvas(np.full((8, 8, 3), 100, np.uint8)), params)
    assert made[0, 0].tolist() == pytest.approx([50, 50, 114], abs=1)


def test_a_large_photo_is_made_smaller_for_the_network(write: Write) -> None:
    params = write(negative(), "max_pixels = 5000\n")
    made = Onnx().paint(canvas(gradient(200, 300)), params)
    assert made.shape == (200, 300, 3)
    assert np.abs(made.astype(int) - (255 - gradient(200, 300).astype(int))).mean() < 3
    assert Onnx().estimate(params, (300, 200)) < 6_000_000


def test_a_network_of_one_size(write: Write) -> None:
    made = Onnx().paint(canvas(PHOTO), write(negative(side=64), "size = 64\n"))
    assert made.shape == (43, 64, 3)
    wide = Onnx().paint(canvas(gradient(10, 300)), write(negative(side=64), "size = 64\n"))
    assert wide.shape == (10, 300, 3)


def test_a_network_that_enlarges(write: Write) -> None:
    made = Onnx().paint(canvas(PHOTO), write(doubling()))
    assert (made == PHOTO.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_strength_mixes_with_the_photo(write: Write) -> None:
    params = write(negative())
    half = Onnx().paint(canvas(PHOTO), params.model_copy(update={"strength": 0.5}))
    assert np.abs(half.astype(int) - 127).max() <= 1
    none = Onnx().paint(canvas(PHOTO), params.model_copy(update={"strength": 0}))
    assert (none == PHOTO).all()


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("layout = 5", "layout"),
        ("colour = 'RGB'", "colour"),
        ("range = [1, 0]", "smaller first"),
        ("size_multiple = 0", "size_multiple"),
        ("= broken", "Invalid"),
        ("size = 64", r"size"),
        ('layout = "NHWC"', "three channels"),
        ('sha256 = "' + "0" * 64 + '"', "SHA-256"),
    ],
)
def test_an_entry_that_is_wrong_says_what_is(write: Write, toml: str, told: str) -> None:
    params = write(negative(side=32), toml)
    with pytest.raises(errors.PainterNotReadyError, match=told) as error:
        Onnx().paint(canvas(PHOTO), params)
    assert error.value.detail.startswith("onnx/mine.toml: ")


def test_files_that_are_missing_or_no_networks(write: Write, tmp_path: Path) -> None:
    assert "NAME.toml" in str(Onnx().ready())
    params = write(None)
    assert "mine.onnx is not there" in str(Onnx().ready())
    for broken in (b"", b"\xff" * 100, b"not a network" * 1000):
        write(broken)
        assert Onnx().ready() is None  # only workers open it
        with pytest.raises(errors.PainterNotReadyError, match="cannot be loaded"):
            Onnx().paint(canvas(PHOTO), params)
    (tmp_path / "onnx" / "mine.toml").write_bytes(b"x" * 2_000_000)
    with pytest.raises(errors.PainterNotReadyError, match="larger than"):
        Onnx().paint(canvas(PHOTO), params)
    (tmp_path / "onnx" / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.PainterNotReadyError):
        Onnx().fingerprint(params)


@pytest.mark.parametrize("name", ["../secret", "a/b", "A", "", "x" * 65])
def test_names_that_could_leave_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="network"):
        OnnxParams(network=name)


def test_an_unknown_name_lists_those_there_are(write: Write) -> None:
    write(negative(), name="one")
    write(negative(), name="two")
    with pytest.raises(errors.InvalidRequestError, match="one, two"):
        Onnx().fingerprint(OnnxParams(network="three"))
    assert OnnxParams.model_json_schema()["properties"]["network"]["examples"] == ["one", "two"]


def test_the_fingerprint_follows_file_and_entry(write: Write) -> None:
    painter = Onnx()
    params = write(negative())
    first = painter.fingerprint(params)
    assert painter.fingerprint(params) == first
    write(negative(), "size_multiple = 4\n")
    second = painter.fingerprint(params)
    write(negative(low=-1), "size_multiple = 4\n")
    third = painter.fingerprint(params)
    digest = hashlib.sha256(negative()).hexdigest()
    write(negative(), f'sha256 = "{digest}"\n')
    assert len({first, second, third, painter.fingerprint(params)}) == 4
    assert (painter.paint(canvas(PHOTO), params) != PHOTO).any()


def test_a_changed_file_is_loaded_anew(write: Write) -> None:
    params = write(negative())
    Onnx().paint(canvas(PHOTO), params)
    graph = GraphWriter()
    graph.input("in", [1, 3, 0, 0])
    graph.output(graph.node("Relu", ["in"], "out"), [1, 3, 0, 0])
    write(free(graph.to_bytes()))
    assert (Onnx().paint(canvas(PHOTO), params) == PHOTO).all()


def test_it_needs_a_photo(write: Write) -> None:
    params = write(negative())
    assert (Onnx().needs(params), Onnx().lane(params)) == ("photo", "paint")
    with pytest.raises(errors.InvalidRequestError, match="photo"):
        Onnx().paint(canvas(), params)


def test_a_network_that_gives_no_picture(write: Write) -> None:
    graph = GraphWriter()
    graph.input("in", [1, 3, 0, 0])
    graph.output(graph.node("GlobalAveragePool", ["in"], "out"), [1, 3, 1, 1])
    params = write(free(graph.to_bytes()))
    with pytest.raises(errors.PainterNotReadyError, match="1×1"):
        Onnx().paint(canvas(PHOTO), params)
    graph = GraphWriter()
    graph.input("in", [1, 3, 0, 0])
    graph.output(graph.node("Flatten", ["in"], "out"), [1, 0])
    with pytest.raises(errors.PainterNotReadyError, match="no NCHW picture"):
        Onnx().paint(canvas(PHOTO), write(free(graph.to_bytes())))
