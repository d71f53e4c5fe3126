"""Fetches a diffusion model from the hub at the commit that its entry names. Read `fetch`.

Only the files that are needed come: safetensors and small texts of the components of `model_index.json`.
"""

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.domain.errors import ModelError, PainterNotReadyError
from limner.painters import configuration
from limner.painters.diffusion import entries, weights
from limner.painters.diffusion.entries import FOLDER, ModelEntry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SPARE_BYTES = 100_000_000  # left free on the disk
_INDEX = "model_index.json"
_TEXTS = (".json", ".txt", ".model")
_MAX_TEXT_BYTES = 50_000_000
_NOTICES = re.compile(r"(licen[cs]e|notice)[\w.-]*", re.IGNORECASE | re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the hub."""

    path: str
    size: int
    sha256: str | None
    """None of small files, which the commit itself vouches for."""


def fetch(name: str, *, agree: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Fetch the model of an entry into the folder of the models; what is there is left alone.

    `agree` gets what the model is, with size and licence, and raises if it is not to be fetched. What broke off before
    goes on. The model appears under its name only when every SHA-256 is as the hub said. ModelError.
    """
    entry = entries.read(name)
    if entry.revision is None:
        raise ModelError(f"{FOLDER}/{name}.toml names a folder, not a model of the hub with its revision.")
    if entry.folder.is_dir():
        say(f"{FOLDER}/{name}: here already")
        return
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModelError("huggingface_hub is not installed; run `pip install 'limner[diffusion]'`.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    part = entry.folder.with_name(entry.folder.name + ".part")
    try:
        api = HfApi(library_name="limner")
        index = _index(api, entry, part)
        files = _needed(api, entry, index)
        total = sum(file.size for file in files)
        licence = getattr(api.model_info(entry.model, revision=entry.revision).card_data, "license", None)
        agree(
            f"{entry.model} at {entry.revision[:12]}: {len(files)} files, {total:,} bytes, "
            f"licence as the hub tells it: {licence or 'none'}"
        )
        _need_room(part, total)
        _download(api, entry, files, part)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise ModelError(f"{entry.model} could not be fetched: {first}") from None
    wrong = [file.path for file in files if not _is_right(part / file.path, file)]
    if wrong:
        raise ModelError(f"{entry.model}: {wrong[0]} has not the SHA-256 that the hub told. Fetch the model again.")
    shutil.rmtree(part / ".cache", ignore_errors=True)  # what the library remembers of broken downloads
    part.rename(entry.folder)
    try:
        found = weights.look(name, entry)
    except PainterNotReadyError as error:
        raise ModelError(error.detail) from None
    say(f"{FOLDER}/{name}: {total:,} bytes, SHA-256 checked, {found.family.with_photo}")


def _index(api: "HfApi", entry: ModelEntry, part: Path) -> dict[str, Any]:
    part.mkdir(parents=True, exist_ok=True)
    file = api.hf_hub_download(entry.model, _INDEX, revision=entry.revision, local_dir=part)
    told = json.loads(configuration.read_small(Path(file)))
    if not isinstance(told, dict):
        raise ValueError(f"{_INDEX} is no JSON object")  # noqa: TRY004  # told like other faults of the file
    return told


def _needed(api: "HfApi", entry: ModelEntry, index: dict[str, Any]) -> list[HubFile]:
    """The files that the pipeline opens, and notices of licences. ValueError if a network has no safetensors."""
    components = {name for name, told in index.items() if isinstance(told, list) and told != [None, None]}
    found = []
    for each in api.list_repo_tree(entry.model, recursive=True, revision=entry.revision):
        size = getattr(each, "size", None)
        if size is None:
            continue  # a folder
        lfs = each.lfs
        file = HubFile(each.path, size if lfs is None else lfs.size, None if lfs is None else lfs.sha256)
        if file.sha256 is not None and not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"{file.path} has no SHA-256")
        folder, _, name = file.path.rpartition("/")
        if not folder:
            wanted = name == _INDEX or _NOTICES.fullmatch(name) is not None
        elif name.endswith(".safetensors"):
            wanted = folder in components and weights.variant_of(Path(name)) == entry.variant
        else:
            wanted = folder in components and name.endswith(_TEXTS) and file.size <= _MAX_TEXT_BYTES
        if wanted:
            found.append(file)
    if not any(file.path.endswith(".safetensors") for file in found):
        raise ValueError(
            "there are no .safetensors files" + (f" of the variant {entry.variant}" if entry.variant else "")
        )
    return found


def _need_room(part: Path, total: int) -> None:
    there = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    free = shutil.disk_usage(part).free
    needed = total - there + _SPARE_BYTES
    if free < needed:
        raise ModelError(f"{part} has {free / 1e6:,.0f} MB of free disk space; {needed / 1e6:,.0f} MB are needed.")


def _download(api: "HfApi", entry: ModelEntry, files: list[HubFile], part: Path) -> None:
    for file in files:
        api.hf_hub_download(entry.model, file.path, revision=entry.revision, local_dir=part)


def _is_right(path: Path, file: HubFile) -> bool:
    """Whether the file is the one that was told. Another is removed, so that it is fetched again."""
    if file.sha256 is None:
        return True
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != file.sha256:
        path.unlink()
    return found == file.sha256
