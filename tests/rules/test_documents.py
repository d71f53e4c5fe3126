"""The documents agree with the repository: links, `make` targets, the example, dependencies, lock files."""

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from limner import local
from limner.vision.image import Limits
from limner.vision.models import Models

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

_LINK = re.compile(r"(?:\]\(|src=\")([^)\s\"]+)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as web forges make them."""
    headings = _HEADING.findall(_FENCED.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_have_a_target(document: Path) -> None:
    for link in _LINK.findall(_FENCED.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file) if file else document
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


def test_every_document_is_in_the_table_of_contents_and_in_the_navigation() -> None:
    documents = {_name(path) for path in ROOT.glob("docs/*.md")} - {"docs/README.md"}
    contents = (ROOT / "docs/README.md").read_text()
    assert documents <= {f"docs/{link}" for link in _LINK.findall(contents)}
    in_navigation = set(re.findall(r'= "([^"]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert in_navigation == {_name(path) for path in DOCUMENTS} | {"docs/reference.md"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        commands = re.findall(r"`(make [^`\n]*)`", _FENCED.sub("", text))
        for block in _FENCED.findall(text):
            commands += re.findall(r"^(?:\w+=\S+ )*(make .*)$", block, re.MULTILINE)
        for command in commands:
            words = re.sub(r"#.*|-C \S+|&&.*|\w+=(?:'[^']*'|\S+)", "", command).split()[1:]
            assert set(words) <= targets, f"{_name(document)}: {command}"


def test_the_example_operation_runs(astronaut_jpeg: bytes, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"^```python\n(.*?)^```", (ROOT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    module = types.ModuleType("sharpness")
    monkeypatch.setitem(sys.modules, "sharpness", module)
    exec(example[1], module.__dict__)  # noqa: S102  # our own document
    made = local.run(
        module.sharpness, {"edges": True}, {"image": astronaut_jpeg}, models=Models(models_dir), limits=Limits()
    )
    assert made.result.sharpness > 0  # type: ignore[attr-defined]
    assert list(made.artifacts) == ["edges.png"]


def _required(lines: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in lines}  # type: ignore[index]


def test_every_dependency_has_a_reason() -> None:
    optional = {**PROJECT["dependency-groups"], **PROJECT["project"].get("optional-dependencies", {})}
    used = _required([*PROJECT["project"]["dependencies"], *(line for lines in optional.values() for line in lines)])
    documented = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE))
    assert documented == used


def test_every_dependency_is_locked() -> None:
    groups = PROJECT["dependency-groups"]
    extras = dict(PROJECT["project"]["optional-dependencies"])
    diffusion = extras.pop("diffusion")  # gigabytes, so in no other lock
    cluster = [*PROJECT["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]
    for lock, lines in {
        "requirements.lock": PROJECT["project"]["dependencies"],
        "requirements-cluster.lock": cluster,
        "requirements-diffusion.lock": [*PROJECT["project"]["dependencies"], *diffusion],
        "requirements-dev.lock": [*cluster, *groups["dev"]],
        "requirements-build.lock": groups["build"],
        "requirements-vendors.lock": groups["vendors"],
    }.items():
        locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        assert _required(lines) <= locked, f"{lock}: run `make lock`"


def test_what_only_an_extra_needs_is_not_installed_without_it() -> None:
    extras = [line for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert not _required(extras) & locked


def test_locks_agree() -> None:
    pins: dict[str, str] = {}
    for lock in LOCKS:
        if lock.name == "requirements-vendors.lock":  # of an environment that has nothing of Limner
            continue
        for name, version, marker in re.findall(r"^([a-z0-9._-]+)==(\S+)( ; .*?)? \\$", lock.read_text(), re.MULTILINE):
            assert pins.setdefault(name + marker, version) == version, f"{name}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS, ids=_name)
def test_locks_have_hashes_and_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
