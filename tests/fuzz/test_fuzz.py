"""Both fuzz targets, for a minute each; `make test-slow FUZZ_SECONDS=3600` for longer."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz import seeds

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is made for Linux on x86-64, Python 3.11 to 3.13"),
]


@pytest.mark.parametrize("target", ["look", "decode"])
def test_no_input_is_found_that_breaks_it(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds.write(corpus)
    limits = [f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=3000", "-max_len=20000"]
    command = [sys.executable, "-m", f"tests.fuzz.{target}", *limits, f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    found = {path.name: path.read_bytes().hex() for path in tmp_path.iterdir() if path.is_file()}
    assert done.returncode == 0, f"{done.stderr[-5000:]}\n{found}"
    assert "Done " in done.stderr
