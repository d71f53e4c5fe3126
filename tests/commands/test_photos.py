"""Many photos on the command line: names, copies, what is never overwritten, pipes, processes, and how it ends."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from limner.cli import main
from limner.photo_files import Output, OutputError, Source, sources
from tests.conftest import MODELS, another

CASES = Path(__file__).parent.parent / "cases"
Done = subprocess.CompletedProcess[bytes]
Limner = Callable[..., Done]
Inside = Callable[..., Result]
PATIENCE_S = 100


def no_face(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (80, 60), "grey").save(file, form)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path, astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `a` with two photos, one without a face, a broken one and a text; `b` with a name of a's."""
    for number, name in enumerate(("a/1.jpg", "a/sub/2.jpg", "b/1.jpg")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(another(astronaut_jpeg, number))
    (tmp_path / "a/no.png").write_bytes(no_face())
    (tmp_path / "a/half.jpg").write_bytes(astronaut_jpeg[:9000])
    (tmp_path / "a/notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    return inherited | {"LIMNER_MODELS_DIR": str(MODELS), **variables}


@pytest.fixture
def limner() -> Limner:
    def run(*arguments: str | Path, input: bytes = b"", **options: object) -> Done:  # noqa: A002
        return subprocess.run(
            [sys.executable, "-m", "limner", *map(str, arguments)],
            input=input,
            capture_output="stdout" not in options,
            env=environment(),
            timeout=PATIENCE_S,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Runs `limner` in this process, which is quicker."""
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(MODELS))
    return lambda *arguments, input=None: CliRunner().invoke(main, list(map(str, arguments)), input=input)  # noqa: A006


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- which photos, and where results go -----------------------------------------------------------------------------


def test_a_tree_of_photos(limner: Limner, inside: Inside, folder: Path) -> None:
    done = limner("detect", "a", "b", "-r", "-o", "out", "--mark", "blur", "--jobs", "2")
    told = done.stderr.decode()
    assert (done.returncode, told.splitlines()) == (
        1,
        [
            "a/half.jpg: Broken picture: The picture is damaged and cannot be decoded.",
            "5 photos: 4 done (1 without a face, 1 copied), 1 failed, 1 other file skipped.",
        ],
    )
    assert files(folder / "out") == ["a/1.marked.jpg", "b/1.marked.jpg", "no.png", "sub/2.marked.jpg"]
    assert (folder / "out/no.png").read_bytes() == no_face()
    lines = done.stdout.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a/1.jpg", "a/no.png", "a/sub/2.jpg", "b/1.jpg"]
    assert lines[1] == "a/no.png: no face → out/no.png (copied)"

    again = inside("detect", "a", "-o", "out", "-q", "--json")
    assert files(folder / "out") == [
        "1.marked.jpg", "a/1.marked.jpg", "b/1.marked.jpg", "no-2.png", "no.png", "sub/2.marked.jpg",
    ]  # fmt: skip
    told_again = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["file"] for each in told_again] == ["a/1.jpg", "a/half.jpg", "a/no.png"]
    assert told_again[1]["error"]["type"] == "urn:limner:problem:bad-image"
    assert (told_again[2]["copied"], told_again[2]["written"]) == (True, ["out/no-2.png"])
    assert (again.exit_code, again.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("detect", "-o", "out.bmp"), 2),
        (("detect", "-o", "out.SVG"), 2),
        (("detect", "-o", "out.png", "--format", "jpeg"), 2),
        (("contours", "-o", "out.png"), 1),
        (("samples", "-o", "out.webp"), 1),
        (("contours", "-o", "out.SVG"), 0),
        (("detect", "-o", "out.JPEG", "--format", "jpeg"), 0),
        (("detect", "-o", "out"), 0),
    ],
)
def test_a_suffix_is_true(inside: Inside, folder: Path, arguments: tuple[str, ...], status: int) -> None:
    done = inside(arguments[0], "a/1.jpg", *arguments[1:])
    assert done.exit_code == status, done.output
    assert (folder / arguments[2]).exists() == (status == 0)


def test_no_picture_is_missing_unseen(inside: Inside, tmp_path: Path, astronaut_jpeg: bytes) -> None:
    (tmp_path / "1.jpg").write_bytes(astronaut_jpeg)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "2.gif", save_all=True, append_images=frames[1:])
    for name in ("jpeg_12bit.jpg", "raw.dng"):
        (tmp_path / name).write_bytes((CASES / name).read_bytes())
    done = inside("detect", tmp_path, "-o", tmp_path / "out", "--mark", "blur")
    assert done.exit_code == 1
    failed = sorted(line.partition(": ")[0] for line in done.stderr.splitlines()[:-1])
    assert failed == [str(tmp_path / name) for name in ("2.gif", "empty.jpg", "jpeg_12bit.jpg", "raw.dng")]
    assert done.stderr.splitlines()[-1] == "5 photos: 1 done, 4 failed, 1 other file skipped."


def test_a_name_cannot_break_lines_or_command_a_terminal(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[31mb.png").write_bytes(no_face())
    done = inside("detect", tmp_path, "-o", f"{tmp_path}/out")
    escaped = "a\\n\\x1b[31mb.png"
    assert done.stdout == f"{tmp_path}/{escaped}: no face → {tmp_path}/out/{escaped} (copied)\n"
    told = json.loads(inside("detect", tmp_path, "-q", "--json").stdout)
    assert told["file"] == f"{tmp_path}/a\n\x1b[31mb.png"


def test_results_of_a_folder_are_not_read_again(inside: Inside, folder: Path) -> None:
    (folder / "a/half.jpg").unlink()
    for _ in range(2):
        assert inside("crop", "a", "-r", "--width", "30", "--height", "30").exit_code == 0
    assert files(folder / "a/crop") == sorted(
        f"{stem}{n}.{end}"
        for stem, end in (("1.crop", "jpg"), ("no.crop", "png"), ("sub/2.crop", "jpg"))
        for n in ("", "-2")
    )
    done = inside("crop", "a", "-r", "-o", "a/made", "--width", "30", "--height", "30", "--json")
    assert len(done.stdout.splitlines()) == 3 + 6


def test_names_that_collide(tmp_path: Path) -> None:
    for name in ("x/1.jpg", "y/1.jpg", "y/1.png", "z/one.jpg", "z/ONE.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listed = sources(
        [str(tmp_path / "x/1.jpg"), str(tmp_path / "y"), f"{tmp_path}/z", f"{tmp_path}/y/1.jpg"], recursive=False
    )
    output = Output(str(tmp_path / "out"), several=True, name="detect", overwrite=False)
    written = [output.write(each, {"marked.png": b"."}) for each in listed]
    assert [Path(each).relative_to(tmp_path / "out").as_posix() for (each,) in written] == [
        "x/1.marked.png", "y/1.jpg.marked.png", "y/1.png.marked.png", "ONE.png.marked.png", "one.jpg.marked.png",
    ]  # fmt: skip


def test_what_is_overwritten_is_of_an_earlier_run(tmp_path: Path) -> None:
    for name in ("1.jpg", "1.marked.jpg"):
        (tmp_path / name).write_bytes(b"")
    first, second = sources([str(tmp_path)], recursive=False)
    for _ in range(2):
        output = Output(str(tmp_path / "out"), several=True, name="detect", overwrite=True)
        output.write(first, {"marked.jpg": b"with a face"})
        output.copy(second, b"without", "")
        assert {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()} == {
            "1.marked.jpg": b"with a face",
            "1.marked-2.jpg": b"without",
        }


def test_a_folder_by_its_slash_and_a_file_by_its_name(inside: Inside, folder: Path) -> None:
    assert inside("detect", "b/1.jpg", "-o", "new/").exit_code == 0
    assert files(folder / "new") == ["1.marked.jpg"]
    refused = inside("detect", "a", "-o", "b/1.jpg")
    assert (refused.exit_code, "is a file, and several photos need a folder" in refused.stderr) == (2, True)
    assert inside("detect", "a/1.jpg", "-o", "b/1.jpg/").exit_code == 2
    # a photo without a face, in the format that was asked for
    assert inside("detect", "a/no.png", "-o", "no.jpg").exit_code == 0
    with Image.open("no.jpg") as copy:
        assert (copy.format, copy.size) == ("JPEG", (80, 60))


def test_no_photo_is_overwritten(folder: Path) -> None:
    photo = folder / "a/1.jpg"
    (folder / "hard.jpg").hardlink_to(photo)
    for name in ("a/1.jpg", "hard.jpg"):
        output = Output(name, several=False, name="detect", overwrite=True)
        with pytest.raises(OutputError, match="never overwritten"):
            output.keep([photo])
    output = Output(".", several=True, name="hard", overwrite=True)
    output.keep([photo])
    with pytest.raises(OutputError, match="never overwritten"):
        output.write(Source(stem="hard"), {"jpg": b"new"})
    assert photo.read_bytes() != b"new"


def test_files_have_the_permissions_of_the_users_other_files(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        for overwrite in (False, True):
            output = Output("made.jpg", several=False, name="detect", overwrite=overwrite)
            output.write(Source(), {"marked.jpg": b"new"})
            assert (folder / "made.jpg").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)
    assert [name for name in files(folder) if "part" in name] == []


# --- pipes ----------------------------------------------------------------------------------------------------------


def test_standard_input_and_output(limner: Limner, inside: Inside, folder: Path) -> None:
    photo = (folder / "a/1.jpg").read_bytes()
    done = limner("detect", "-", "-o", "-", "--format", "png", input=photo)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as marked:
        assert (marked.format, marked.size) == ("PNG", (512, 512))
    assert re.fullmatch(r"-: 1 face \(0\.\d\d\) → -\n", done.stderr.decode())
    assert inside("detect", "-", "-o", "-", "-q", input=no_face()).stdout_bytes == no_face()
    assert json.loads(inside("detect", "-", "--json", input=photo).stdout)["file"] == "-"
    for arguments in (("a", "-o", "-"), ("a/1.jpg", "-o", "-", "--json")):
        refused = inside("detect", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, ""), arguments
    too_many = inside("generate", "-", "-o", "-", "--count", "2", "--style", "pixel", "--size", "64", input=photo)
    assert (too_many.exit_code, "standard output holds one" in too_many.stderr) == (1, True)


def test_places_that_are_full_or_closed(limner: Limner, folder: Path) -> None:
    full = limner("detect", "a/1.jpg", "a/sub/2.jpg", "b", "-o", "/dev/full/x")
    assert (full.returncode, b"Traceback" in full.stderr) == (1, False)
    with Path("/dev/full").open("wb") as nowhere:
        done = limner("detect", "a/1.jpg", stdout=nowhere, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (
        1,
        b"Error: Standard output cannot be written: No space left on device.\n",
    )
    closed, end = os.pipe()
    os.close(closed)
    with os.fdopen(end, "wb") as pipe:
        done = limner("detect", "a", "b", stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, b"Traceback" in done.stderr, b"Exception" in done.stderr) == (1, False, False)


def test_what_is_not_there(inside: Inside, folder: Path) -> None:
    done = inside("detect", "missing/", "-o", "out")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        2,
        "Error: Invalid value for 'PHOTOS...': Path 'missing/' does not exist.",
    )
    (folder / "empty").mkdir()
    done = inside("detect", "empty")
    assert (done.exit_code, done.stderr) == (1, "Error: There are no files in empty (-r: folders too).\n")


# --- a terminal, and Ctrl-C -----------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, Callable[[], bytes]]]:
    """The end of a terminal for a program, and a function that closes it and gives what was shown."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(master, 65536):
                shown.extend(chunk)
        except OSError:
            pass  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    closed = []

    def end() -> bytes:
        if not closed:
            closed.append(True)
            os.close(slave)
            reader.join(PATIENCE_S)
        return bytes(shown)

    yield slave, end
    end()
    os.close(master)


def test_progress_is_drawn_on_the_terminal_and_output_goes_where_it_is_sent(
    limner: Limner, folder: Path, terminal: tuple[int, Callable[[], bytes]]
) -> None:
    slave, end = terminal
    done = limner("detect", "a", "b", "--json", stdout=subprocess.PIPE, stderr=slave)
    shown = end().decode()
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [
        "a/1.jpg",
        "a/half.jpg",
        "a/no.png",
        "b/1.jpg",
    ]
    assert "\x1b[" in shown
    assert "%" in shown
    assert '"file"' not in shown
    assert "4 photos: 3 done (1 without a face), 1 failed, 1 other file skipped." in shown


def left(group: int) -> list[int]:
    """The processes of a group that still run after a while."""
    deadline = time.monotonic() + 30
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        if time.monotonic() > deadline:
            return [group]
        time.sleep(0.1)


@pytest.mark.parametrize(
    "jobs", [pytest.param((), marks=pytest.mark.slow), ("--jobs", "2")], ids=["threads", "processes"]
)
def test_an_interrupt_ends_it_at_once(folder: Path, astronaut_jpeg: bytes, jobs: tuple[str, ...]) -> None:
    many = folder / "many"
    many.mkdir()
    for number in range(40):
        (many / f"{number:02}.jpg").write_bytes(another(astronaut_jpeg, number))
    command = [
        sys.executable,
        "-m",
        "limner",
        "generate",
        "many",
        "--style",
        "oil",
        "--size",
        "500",
        "-o",
        "out",
        *jobs,
    ]
    running = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # What runs in the background of a script is started with it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads here
    )
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline().startswith(b"many/00.jpg: painted by drawn")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: all processes of the group
    began = time.monotonic()
    status = running.wait(PATIENCE_S)
    told = running.stderr.read().decode()
    running.stdout.close()
    running.stderr.close()
    assert status == 130, told
    assert time.monotonic() - began < 30
    assert told.startswith("Stopped after "), told
    assert len(told.splitlines()) == 1, told
    assert left(running.pid) == [], "no process of the group is left"


def test_nothing_but_its_own_words_on_standard_error(limner: Limner, folder: Path) -> None:
    """No library's remarks: of TensorFlow's delegates, of ONNX Runtime about devices, of Pillow about EXIF data."""
    broken_exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\0\0\xff\xff\0\0"
    with Image.open(folder / "a/1.jpg") as image:
        image.save(folder / "remark.jpg", exif=broken_exif)
    painted = {"operation": "generate", "area": "background", "style": "pixel"}
    steps = [{"operation": "detect", "landmarks": "mesh"}, {"operation": "contours"}, painted]
    done = limner("pipeline", "remark.jpg", "-o", "out/", "--steps", json.dumps(steps))
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(files(folder / "out")) == 3
