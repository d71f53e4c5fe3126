"""The documents list exactly the settings, errors, metrics and operations that exist."""

import json
import re
from pathlib import Path

import pytest

from limner import settings, telemetry
from limner.domain.errors import every_error
from limner.operations import CATALOGUE

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
    api = (DOCS / "api.md").read_text()
    for text in (api, (ROOT / "README.md").read_text()):
        assert f"/v1/{name}" in text
    section = re.search(rf"^### `{name}`$(.*?)^#", api, re.MULTILINE | re.DOTALL)
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
