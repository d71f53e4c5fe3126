"""What all painters have in common: the catalogue, their documents, and that they are asked without the pixels."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from limner.painters import PAINTERS
from limner.painters.painter import Lane, Painter

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "painters.md").read_text()
WITHOUT = ("drawn",)  # its parameters are in api.md
OF_THE_OPERATION = {"image", "painter", "size", "seed", "count", "area", "keep_colour", "format", "provenance", "cache"}

every_painter = pytest.mark.parametrize("painter", PAINTERS.values(), ids=PAINTERS)


@every_painter
def test_it_describes_itself(painter: Painter) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", painter.name)
    assert painter.summary.endswith(".")
    assert painter.licence
    assert set(painter.lanes) <= set(get_args(Lane))
    reason = painter.ready()
    assert reason is None or reason.endswith(".")
    assert painter.params.model_fields["name"].default == painter.name


@every_painter
def test_its_fields_are_bounded_and_none_is_the_operations(painter: Painter) -> None:
    schema = painter.params.model_json_schema()
    assert not OF_THE_OPERATION & set(schema["properties"])
    for name, field in schema["properties"].items():
        for each in field.get("anyOf", [field]):
            if each.get("type") == "string" and "const" not in each and "enum" not in each:
                assert "maxLength" in each, name
            if each.get("type") in {"number", "integer"}:
                assert {"minimum", "maximum"} <= set(each), name
            if each.get("type") == "array":
                assert "maxItems" in each, name


@every_painter
def test_the_document_lists_its_parameters(painter: Painter) -> None:
    row = re.search(rf"^\| `{painter.name}` \|", DOCUMENT, re.MULTILINE)
    assert row is not None
    if painter.name not in WITHOUT:
        rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DOCUMENT, re.MULTILINE)
        listed = {name for each in rows for name in re.findall(r"\w+", each)}
        assert {name for name in painter.params.model_fields if name != "name"} <= listed


def test_asking_painters_needs_no_library_of_pixels() -> None:
    code = (
        "import sys; from limner.painters import PAINTERS; [each.ready() for each in PAINTERS.values()]; "
        "print(sorted({'numpy', 'cv2', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
