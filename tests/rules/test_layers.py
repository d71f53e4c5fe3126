"""Modules import only from lower layers (defined in `pyproject.toml`), and the command line starts quickly."""

import subprocess
import sys
from pathlib import Path

from tests.vision.test_image import SAMPLES

ROOT = Path(__file__).parent.parent.parent


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_starts_without_the_models_libraries() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from limner.cli import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; "
        "print({'onnxruntime', 'cv2', 'numpy', 'pydantic', 'sqlalchemy', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_web_process_loads_nothing_that_works_on_pixels(tmp_path: Path) -> None:
    for media_type, data in SAMPLES.items():
        (tmp_path / media_type.replace("/", "_")).write_bytes(data)
    code = (
        "import sys, pathlib, limner.server, limner.web.app, limner.web.serving, limner.jobs.submit, limner.jobs.sweep;"
        "from limner.operations import CATALOGUE; from limner.vision.header import Limits;"
        "pictures = [path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()]; assert len(pictures) == 8;"
        "[CATALOGUE['contours'].parse({}, {'image': data, 'segmentation_map': data}, Limits()) for data in pictures];"
        "print(*sorted({'cv2', 'numpy', 'onnxruntime', 'pi_heif', 'PIL', 'simplejpeg'} & sys.modules.keys()))"
    )
    loaded = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
