"""The painter `styles`: what surrounds its networks with networks written here, and the real ones where they are."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from limner.domain import errors
from limner.painters import styles
from limner.painters.painter import Canvas
from limner.painters.styles import FACE_WIDTH, MAX_WORK_PIXELS, NUMBERS, Styles, StylesParams, work_size
from limner.vision import manifest, onnx_graph, weights
from limner.vision.detector import Detector
from limner.vision.faces import Box, Face, Landmarks, Point
from limner.vision.onnx_graph import GraphWriter, free_input_size
from tests.painters.servers import Pixels, Steps, canvas, gradient

PHOTO = gradient(90, 130)


def _networks() -> dict[str, bytes]:
    """Networks of the same inputs: a picture times a number that the style decides."""
    one = GraphWriter()
    one.input("image", [1, 3, 0, 0])
    one.input("style_weights", [26])
    one.constant("factors", np.linspace(0.2, 0.95, 26, dtype=np.float32))
    one.output(one.node("Mul", ["image", one.node("MatMul", ["style_weights", "factors"], "factor")], "out"), [1, 3])
    predict = GraphWriter()
    predict.input("style_image", [1, 256, 256, 3])
    predict.output(predict.node("ReduceMean", ["style_image"], "out", keepdims=1), [1, 1, 1, 1])
    transform = GraphWriter()
    transform.input("content", [1, 384, 384, 3])
    transform.input("style", [1, 1, 1, 1])
    transform.output(transform.node("Mul", ["content", "style"], "out"), [1, 384, 384, 3])
    return {
        "multistyle26": _of_any_size(one.to_bytes()),
        "arbitrary_predict": predict.to_bytes(),
        "arbitrary_transform": free_input_size(transform.to_bytes(), channels_last=True),
    }


def _of_any_size(network: bytes) -> bytes:
    """The same with free sides of its first input; `free_input_size` would drop the second, which is no picture."""
    model = onnx_graph._classes()["Model"]()
    model.ParseFromString(network)
    *_, height, width = model.graph.input[0].type.tensor_type.shape.dim
    height.dim_param, width.dim_param = "height", "width"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with these networks in place of the real ones."""
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path))
    entries = []
    for name, data in _networks().items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
        given = weights.weight(name)
        entries.append(
            manifest.Weight(
                name=name,
                file=f"{name}.onnx",
                requirement=given.requirement,
                member="",
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                licence="MIT",
                notice="",
                upstream="",
                bundle="styles",
            )
        )
    monkeypatch.setattr(weights, "OPTIONAL", tuple(entries))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_a_name_chooses_its_style(name: str, number: int) -> None:
    steps = Steps()
    made = Styles().paint(canvas(PHOTO, steps=steps), StylesParams.model_validate({"style": name}))
    expected = np.linspace(0.2, 0.95, 26)[number]
    assert made.mean() == pytest.approx(PHOTO.mean() * expected, rel=0.02)
    assert steps.told == [(0, 1), (1, 1)]


@pytest.mark.usefixtures("small")
def test_strength_goes_from_the_photo_to_the_style() -> None:
    grey = np.full((200, 200, 3), 200, np.uint8)
    half = Styles().paint(canvas(grey), StylesParams(style="ochre", strength=0.5))
    none = Styles().paint(canvas(grey), StylesParams(style="ochre", strength=0))
    assert (half.mean(), none.mean()) == pytest.approx((120, 200), abs=1)


@pytest.mark.usefixtures("small")
def test_the_style_of_a_picture() -> None:
    grey, dark = np.full((200, 200, 3), 204, np.uint8), np.full((50, 90, 3), 51, np.uint8)
    made = Styles().paint(canvas(grey, style_photo=dark), StylesParams(style="picture"))
    half = Styles().paint(canvas(grey, style_photo=dark), StylesParams(style="picture", strength=0.5))
    assert (made.mean(), half.mean()) == pytest.approx((204 * 0.2, 204 * 0.5), abs=1)
    with pytest.raises(errors.InvalidRequestError, match="style picture"):
        Styles().paint(canvas(grey), StylesParams(style="picture"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (90, 130), (1500, 1100)])
def test_a_photo_of_any_size(shape: tuple[int, int]) -> None:
    made = Styles().paint(canvas(gradient(*shape)), StylesParams())
    assert made.shape[0] >= shape[0]
    assert made.shape[1] >= shape[1]
    if shape == (1500, 1100):
        assert made.shape[:2] == shape


@pytest.mark.usefixtures("small")
def test_the_main_face_gets_the_width_that_suits_strokes() -> None:
    nowhere = Point(0, 0)
    face = Face(Box(100, 100, 60, 80), 0.9, Landmarks(nowhere, nowhere, nowhere, nowhere, nowhere))
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        inner = styles._like_style

        def noted(given: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", *rest: object) -> object:
            seen.append(given.shape[1::-1])  # type: ignore[arg-type]
            return inner(given, *rest)  # type: ignore[arg-type]

        patch.setattr(styles, "_like_style", noted)
        with_face = Canvas(
            photo=gradient(200, 240),
            size=None,
            seed=1,
            step=Steps(),
            find_faces=lambda _: (face,),
            fit_meshes=lambda *_: (),
        )
        Styles().paint(with_face, StylesParams())
    assert seen == [(960, 800)]  # 60 px would be 300 at five times the size; four is the most


def test_work_size() -> None:
    assert work_size(1000, 1000, FACE_WIDTH, 1) == (1000, 1000)
    assert work_size(1000, 1000, FACE_WIDTH, 2) == (500, 500)
    assert work_size(4000, 3000, 1500, 1) == (800, 600)
    width, height = work_size(4000, 3000, 100, 0.5)
    assert width * height == pytest.approx(MAX_WORK_PIXELS, rel=0.01)
    assert work_size(500, 250, None, 1) == (1000, 500)
    assert work_size(10, 10, 1, 1) == (64, 64)


def test_without_its_models_it_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path))
    assert "`limner models fetch styles`" in str(Styles().ready())
    with pytest.raises(errors.ModelError, match="limner models fetch styles"):
        Styles().paint(canvas(PHOTO), StylesParams())
    first, second = (
        Styles().fingerprint(StylesParams.model_validate({"style": name})) for name in ("ochre", "picture")
    )
    assert first != second


# --- the real networks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(models_dir: Path) -> Path:
    if not all(weights.is_here(models_dir, entry.name) for entry in weights.bundle("styles")):
        pytest.skip("the optional models are not here; `limner models fetch styles` fetches them")
    weights.check(models_dir, [entry.name for entry in weights.bundle("styles")])
    return models_dir


@pytest.mark.parametrize("name", NUMBERS)
def test_a_face_is_still_found_after_each_style(
    real: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Pixels, name: str
) -> None:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(real))
    detector = Detector(real)
    head = np.ascontiguousarray(astronaut[0:260, 100:360])
    on = Canvas(
        photo=head,
        size=None,
        seed=1,
        step=Steps(),
        find_faces=lambda photo: detector.detect(photo, min_score=0.6),
        fit_meshes=lambda *_: (),
    )
    made = Styles().paint(on, StylesParams.model_validate({"style": name, "strokes": 1.5}))
    assert np.abs(made.astype(int) - 128).mean() > 10
    assert detector.detect(made, min_score=0.4), name


def test_the_pair_takes_any_size_and_is_the_published_one_at_its_own(real: Path) -> None:
    from limner.vision import runtime

    published = runtime.session(real / weights.weight("arbitrary_transform").file)
    free = runtime.session(weights.path(real, "arbitrary_transform"))
    content, style = (each.name for each in published.get_inputs())
    generator = np.random.default_rng(1)
    vector = generator.normal(size=(1, 1, 1, 100)).astype(np.float32)
    picture = generator.uniform(size=(1, 384, 384, 3)).astype(np.float32)
    fed = {content: picture, style: vector}
    assert np.array_equal(published.run(None, fed)[0], free.run(None, fed)[0])
    wide = generator.uniform(size=(1, 128, 200, 3)).astype(np.float32)
    assert free.run(None, {content: wide, style: vector})[0].shape == (1, 128, 200, 3)
