"""The documents list exactly the settings, errors, metrics and operations that exist."""

import json
import re
from pathlib import Path

import pytest

from limner import settings, telemetry
from limner.adapters import live_process
from limner.adapters.sql import pages
from limner.domain import label
from limner.domain.errors import every_error
from limner.operations import CATALOGUE
from limner.vision import header, live
from limner.vision.structure import gif, isobmff, jpeg, png, tiff, webp
from limner.web import (
    archive_routes,
    http_protocol,
    live_sockets,
    read_json,
    read_request,
    serving,
    socket_protocol,
    webhook_sender,
)

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def rows(document: str) -> dict[str, list[str]]:
    """The rows of a document's tables, by the name in backticks in the first cell."""
    found = {}
    for line in (DOCS / document).read_text().splitlines():
        if match := re.match(r"\| `([^`]+)` \|(.*)\|", line):
            found[match[1]] = [cell.strip() for cell in match[2].split("|")]
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    documented = rows("settings.md")
    fields = settings.Settings.model_fields
    assert set(documented) == {settings.variable(name) for name in fields}
    for name, field in fields.items():
        default, meaning = documented[settings.variable(name)]
        assert meaning
        if default.startswith("`"):
            plain = str(field.default).lower() if isinstance(field.default, bool) else field.default
            assert default.strip("`") == f"{plain:g}" if isinstance(plain, float) else str(plain), name
        else:
            assert field.default in (None, ()) or field.default_factory is not None, name
        assert field.description, name


def test_every_error_is_documented_with_its_status() -> None:
    documented = rows("errors.md")
    errors = [error for error in every_error() if "slug" in vars(error)]  # others tell the same in other words
    assert set(documented) == {error.slug for error in errors}
    for error in errors:
        status, retry, meaning = documented[error.slug]
        assert (int(status), retry) == (error.status, "yes" if error.retryable else "no"), error
        assert meaning


def test_every_metric_is_documented_with_its_labels() -> None:
    documented = rows("metrics.md")
    known = {metric._name: metric for metric in telemetry.METRICS}
    assert set(documented) == set(known)
    for name, (kind, labels, meaning) in documented.items():
        assert kind == known[name]._type
        assert tuple(re.findall(r"`(\w+)`", labels)) == known[name]._labelnames
        assert meaning


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_operation_is_documented_with_its_parameters(name: str) -> None:
    for document in ("docs/api.md", "README.md"):
        assert f"/v1/{name}" in (ROOT / document).read_text()
    section = re.search(rf"^## `{name}`$(.*?)^#", (DOCS / "parameters.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    fields = CATALOGUE[name].params.model_json_schema()["properties"]
    listed = set()
    for names, default, _ in re.findall(r"^\| (`.*?) \| (.*?) ?\| (.*) \|$", section[1], re.MULTILINE):
        of_row = re.findall(r"`(\w+)`", names)
        listed |= set(of_row)
        for field in of_row:
            if default.startswith("`"):
                assert default == f"`{json.dumps(fields[field]['default']).strip(chr(34))}`", field
            else:
                assert fields[field]["default"] is None or "operations" in default, field
    introduction = section[1].partition("\n| ")[0]
    described = listed | (set(re.findall(r"`(\w+)`", introduction)) & set(fields))
    assert described | {"image"} == set(fields)


# --- the bounds in privacy.md ----------------------------------------------------------------------------------------

SETTINGS = {settings.variable(name): field.default for name, field in settings.Settings.model_fields.items()}
FIXED = {
    "JPEG: scans; segments": (jpeg.MAX_SCANS, jpeg.MAX_SEGMENTS),
    "PNG: chunks; GIF: blocks; WebP: chunks": (png.MAX_CHUNKS, gif.MAX_BLOCKS, webp.MAX_CHUNKS),
    "HEIC, AVIF: boxes; items; no overlays, and one level of grids": (isobmff.MAX_BOXES, isobmff.MAX_ITEMS),
    "TIFF: pages": (tiff.MAX_PAGES,),
    "JSON without its pictures, or all fields of a form together": (read_json.MAX_JSON_BYTES,),
    "Values in it (items of lists, members of objects)": (read_json.MAX_VALUES,),
    "Levels of lists and objects": (read_json.MAX_DEPTH,),
    "Fields of a form": (read_request.MAX_FIELDS,),
    "Tries of webhooks at once, and to one host; bytes read of an answer": (
        webhook_sender.AT_ONCE,
        webhook_sender.PER_HOST,
        webhook_sender.ANSWER_BYTES,
    ),
    "Request line and header; trailers of a body": (http_protocol.MAX_HEADERS,),
    "Letters of a label; labels that a search compares; jobs of an archive": (
        label.MAX_LABEL,
        pages.SEARCHED,
        archive_routes.MAX_JOBS,
    ),
    "Requests sent ahead on one connection": (http_protocol.MAX_WAITING, http_protocol.MAX_WAITING_BODY_BYTES),
    "Frames from a WebSocket's client": (
        socket_protocol.FRAMES_AT_ONCE,
        int(socket_protocol.FRAMES_A_SECOND),
        serving.MAX_MESSAGE_BYTES,
    ),
    "Frames from a client of [live detection](live.md)": (
        live_sockets.HEARING.at_once,
        int(live_sockets.HEARING.a_second),
        live_sockets.HEARING.max_bytes,
    ),
    "Pixels of a live frame; its longer side; its scans; looks at one socket's frames": (
        header.LIVE_LIMITS.max_pixels,
        header.LIVE_LIMITS.max_side,
        live.MAX_SCANS,
        int(live_sockets.LOOKS_A_SECOND),
    ),
    "Time for one look, then its process is killed; answers that a client has not taken": (
        live_process.LOOK_S,
        live_sockets.MAX_UNSENT,
    ),
}


def bounds() -> dict[str, tuple[str, list[str]]]:
    """What is bounded, by how much, and by which settings."""
    found = {}
    for table in re.findall(
        r"^ *\| What \| At most \|.*\n((?: *\|.*\n)+)", (DOCS / "privacy.md").read_text(), re.MULTILINE
    ):
        for row in table.splitlines()[1:]:
            what, most, *setting = (cell.strip() for cell in row.strip(" |").split(" | "))
            found[what] = (most, re.findall(r"`(LIMNER_\w+)`", "".join(setting)))
    return found


def ways_to_write(value: float) -> list[str]:
    """An amount without a unit, in seconds and in bytes."""
    return [f"{value:,}", f"{value:g} s", f"{value / 1024:g} KB", f"{value / 1e6:g} MB", f"{value / 1e9:g} GB"]


def test_every_bound_is_the_default_of_its_setting() -> None:
    for what, (most, names) in bounds().items():
        for name in names:
            assert any(re.search(rf"(?<![\d,]){way}(?![\d,]\d)", most) for way in ways_to_write(SETTINGS[name])), what


def test_every_fixed_bound_is_that_of_the_code() -> None:
    for what, values in FIXED.items():
        for value in values:
            assert any(re.search(rf"(?<![\d,]){way}(?![\d,]\d)", bounds()[what][0]) for way in ways_to_write(value)), (
                what
            )


def test_every_setting_that_bounds_something_is_among_the_bounds() -> None:
    named = {name for _, names in bounds().values() for name in names}
    assert named == {
        name for name in SETTINGS if re.match(r"LIMNER_(MAX_\w+|\w+_TIMEOUT_S|\w+_MEMORY_BYTES|EVENT_BUFFER)$", name)
    }
