"""No library collects telemetry: it would write a file to the user's home."""

import os
import subprocess
import sys
from pathlib import Path


def test_no_library_keeps_or_sends_telemetry(tmp_path: Path, models_dir: Path, astronaut_jpeg: bytes) -> None:
    home, photo = tmp_path / "home", tmp_path / "photo.jpg"
    home.mkdir()
    photo.write_bytes(astronaut_jpeg)
    # With these variables ONNX Runtime sends no telemetry by default, so the test would prove nothing.
    removed = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME"}
    bare = {name: value for name, value in os.environ.items() if name not in removed}
    command = [sys.executable, "-m", "limner.cli", "contours", str(photo), "-o", str(tmp_path / "face.svg")]
    subprocess.run(command, env=bare | {"HOME": str(home), "LIMNER_MODELS_DIR": str(models_dir)}, check=True)
    assert [str(path) for path in home.rglob("*") if path.is_file()] == []
