"""A small network in the place of open_nsfw, which need not be here: the redder, the higher the score."""

from pathlib import Path

import numpy as np

from limner.vision import weights
from limner.vision.onnx_graph import GraphWriter
from tests.conftest import MODELS


def models_with_filter(folder: Path) -> Path:
    """A folder with the models, and this network under the name of open_nsfw."""
    folder.mkdir(exist_ok=True)
    for file in MODELS.iterdir():
        if not file.name.startswith(".") and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    target = folder / weights.weight("open_nsfw").used_file
    target.unlink(missing_ok=True)
    target.write_bytes(_network())
    return folder


def _network() -> bytes:
    """(1, 224, 224, 3), blue, green, red without the mean → (1, 2): share of red in the mean colour, 0..1."""
    graph = GraphWriter()
    graph.input("input:0", [1, 224, 224, 3])
    flat = graph.node("Reshape", ["input:0", graph.constant("pixels", np.array([1, -1, 3], np.int64))], "flat")
    mean = graph.node("ReduceMean", [flat], "mean", axes=[1], keepdims=0)
    weight = np.array([[0.05, -0.05], [0.05, -0.05], [-0.05, 0.05]], np.float32)  # of no, of yes
    raw = graph.node("MatMul", [mean, graph.constant("weight", weight)], "raw")
    graph.output(graph.node("Softmax", [raw], "outputs"), [1, 2])
    return graph.to_bytes()
