"""Settings, errors, metrics and operations: what there is, the documents list; and what they list, there is."""

import re
from pathlib import Path

import pytest

from limner import settings, telemetry
from limner.domain.errors import LimnerError, every_error
from limner.operations import CATALOGUE

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def rows(document: str) -> dict[str, list[str]]:
    """The tables' rows by the name in backticks that they begin with."""
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
    known = {error.slug: error for error in every_error() if error is not LimnerError or error.slug}
    assert set(documented) == set(known)
    for slug, (status, retry, meaning) in documented.items():
        statuses = {error.status for error in every_error() if error.slug == slug}
        assert int(status) in statuses, slug
        assert (retry == "yes") == known[slug].retryable, slug
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
    everything = "".join(path.read_text() for path in (*DOCS.glob("*.md"), ROOT / "README.md"))
    assert f"/v1/{name}" in everything
    for field in CATALOGUE[name].params.model_json_schema()["properties"]:
        assert f"`{field}`" in everything, field
    readme = (ROOT / "README.md").read_text()
    assert name in readme
