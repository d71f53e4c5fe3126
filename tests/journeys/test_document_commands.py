"""Every command and program in the documents, run as it is printed, with a real server in a folder with photos.

A new block is run too. If it cannot be, it belongs in `NOT_RUN` of `document_blocks.py`, with the reason.
"""

import base64
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import expect
from websockets.sync.client import connect

from limner.cli import main
from tests.conftest import another
from tests.journeys.document_blocks import (
    BLOCKS,
    ENDLESS,
    NOT_RUN,
    ONLY_READ,
    PATIENCE_S,
    ROOT,
    RUN,
    SLOW,
    TOLD_STATUS,
    Block,
    is_slow,
    why_not,
)  # fmt: skip
from tests.journeys.photo_server import serving
from tests.journeys.server import Server
from tests.services import browser
from tests.services.process import free_port


def those(language: str) -> list[object]:
    chosen = [block for block in BLOCKS if block.language == language and why_not(block) is None]
    return [
        pytest.param(block, id=f"{block.document}:{block.first[:60]}", marks=[pytest.mark.slow] * is_slow(block))
        for block in chosen
    ]


class Place:
    """A server, a folder of programs, and what stands in the documents for something of one's own."""

    def __init__(self, server: Server, elsewhere: str, programs: Path, photo: bytes) -> None:
        self.server = server
        self.elsewhere = elsewhere
        self.programs = programs
        self.photo = photo
        self._count = 0

    def as_run(self, text: str) -> str:
        """The one place in which a printed text is changed: other addresses, and keys that exist."""
        for printed, meant in {
            "http://127.0.0.1:8282": self.server.url,
            "ws://127.0.0.1:8282": self.server.socket_url,
            "Client()": f'Client("{self.server.url}")',
            "https://faces.example": self.server.url,
            "wss://": "ws://",
            "https://example.org": self.elsewhere,
        }.items():
            text = text.replace(printed, meant)
        text = text.replace("lim_…", "lim_any")  # where keys are only sent: this service needs none
        return re.sub(r"\blim_\w{6}\b", lambda _: self.key()[:10], text)

    def variables(self, text: str) -> dict[str, str]:
        """The variables that a block uses without setting them."""
        makers: dict[str, Callable[[], str]] = {
            "U": lambda: self.server.url, "ID": self.job, "OTHER": self.job, "WAITING": self.job,
            "HOOK": self.webhook, "KEY": self.key,
        }  # fmt: skip
        return {name: make() for name, make in makers.items() if re.search(rf"\${name}\b", text)}

    def job(self) -> str:
        """The id of a new finished job, whose end was sent to a webhook."""
        self._count += 1
        answer = httpx.post(
            f"{self.server.url}/v1/detect",
            files={"image": ("photo.jpg", another(self.photo, self._count))},
            data={"webhook_url": f"{self.elsewhere}/hook", "label": f"img_{self._count}.jpg"},
            headers={"Prefer": "wait=60"},
            timeout=90,
        )
        assert answer.status_code == 200, answer.text
        job_id = str(answer.json()["id"])
        deadline = time.monotonic() + PATIENCE_S
        while not httpx.get(f"{self.server.url}/v1/jobs/{job_id}/webhooks").json()["webhooks"][0]["deliveries"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return job_id

    def receipt(self) -> str:
        """The receipt of an erasure."""
        answer = httpx.delete(f"{self.server.url}/v1/jobs/{self.job()}", headers={"Prefer": "return=representation"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def key(self) -> str:
        """A new key."""
        made = self.limner("keys", "create", "reader")
        return next(word for word in made.split() if word.startswith("lim_"))

    def webhook(self) -> str:
        """The id of a new webhook."""
        self.limner("webhooks", "add", f"{self.elsewhere}/hook")
        return self.limner("webhooks", "list").splitlines()[-1].split()[0]

    def limner(self, *words: str) -> str:
        """What a command prints."""
        done = CliRunner().invoke(main, words, env=self.server.variables)
        assert done.exit_code == 0, done.output
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The variables of the service, and the programs."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
        return inherited | self.server.variables | {"PATH": f"{self.programs}:{os.environ['PATH']}", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Iterator[Place]:
    programs = tmp_path_factory.mktemp("programs")
    # `curl` tells each status, because it succeeds whatever a service answers.
    wrapper(programs / "curl", f'exec {shutil.which("curl")} -sS -w "%{{stderr}}HTTP %{{http_code}}\\n" "$@"')
    wrapper(programs / "limner", f'exec {sys.executable} -m limner "$@"')
    wrapper(programs / "python3", f'exec {sys.executable} "$@"')
    with serving({"/photo.jpg": astronaut_jpeg}) as elsewhere:
        server = Server(
            tmp_path_factory.mktemp("server"),
            LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1",
            LIMNER_FETCH_PORTS=elsewhere.url.rpartition(":")[2],
        )
        server.start()
        yield Place(server, elsewhere.url, programs, astronaut_jpeg)
        server.stop()
        server.check_log()


def wrapper(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def folder(tmp_path: Path, place: Place, astronaut_jpeg: bytes) -> Path:
    """A folder as the documents assume it: photos, a folder of photos, `.venv`."""
    here = tmp_path / "here"
    (here / "holiday" / "beach").mkdir(parents=True)
    (here / "frames").mkdir()
    for number, name in enumerate(
        ("frames/1.jpg", "photo.jpg", "one.jpg", "two.jpg", "holiday/1.jpg", "holiday/beach/2.jpg")
    ):
        (here / name).write_bytes(another(astronaut_jpeg, 1000 + number))
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv/bin/limner").symlink_to(place.programs / "limner")
    (here / "key").write_text("lim_any")
    return here


@pytest.mark.parametrize("block", those("sh"))
def test_a_command(block: Block, place: Place, folder: Path) -> None:
    run_block(block, ["bash", "-euo", "pipefail", "-c"], place, folder)


@pytest.mark.parametrize("block", those("python"))
def test_a_python_program(block: Block, place: Place, folder: Path) -> None:
    run_block(block, [sys.executable, "-c"], place, folder)


def run_block(block: Block, command: list[str], place: Place, folder: Path) -> None:
    environment = place.environment() | place.variables(block.text)
    text = place.as_run(block.text)
    if "verify-erasure" in text:
        (folder / "receipt.json").write_text(place.receipt())
    if any(sign in block.text for sign in ENDLESS):
        place.job()
        told = until_it_tells(r"job\.succeeded", [*command, text], environment, folder)
        assert "job.queued" in told
        return
    done = subprocess.run(
        [*command, text], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.document}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    expected = set(TOLD_STATUS.findall(block.text))
    bad = {status for status in re.findall(r"HTTP (\d+)", done.stderr) if not status.startswith("2")} - expected
    assert not bad, f"{block.document}:{block.line} was answered {bad}\n{done.stdout[-2000:]}"


def until_it_tells(pattern: str, command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Start a program that does not end, and stop it when it has printed what fits; returns what it printed."""
    printed = folder / "printed"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment | {"PYTHONUNBUFFERED": "1"}, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, printed.read_text()):
            assert process.poll() is None, printed.read_text()
            assert time.monotonic() < deadline, printed.read_text()
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    return printed.read_text()


# What follows a block of JavaScript, so that it is seen to work.
THEN = {
    "docs/events.md": "await send(); while (!said.includes('job.succeeded')) await soon();",
    "docs/keys.md": "await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });",
    "docs/recipes.md": "const made = await blurred(photo); if (made.type !== 'image/jpeg' || made === photo) throw 1;",
}
BEFORE = """
const key = "any", said = [];
const photo = await (await fetch("data:image/jpeg;base64," + given)).blob();
const soon = () => new Promise((resolve) => setTimeout(resolve, 50));
console.log = (text) => said.push(text);
const send = () => { const form = new FormData(); form.append("image", photo, "photo.jpg");
  return fetch("/v1/detect", { method: "POST", body: form }); };
"""


@pytest.mark.parametrize("block", those("js"))
def test_a_script(block: Block, place: Place, astronaut_jpeg: bytes) -> None:
    expect.set_options(timeout=60_000)
    photo = base64.b64encode(another(astronaut_jpeg, 2000 + block.line)).decode()
    with browser.chromium() as started:
        page = started.new_page(bypass_csp=True)
        page.goto(f"{place.server.url}/healthz")
        page.evaluate(f"async (given) => {{ {BEFORE} {place.as_run(block.text)}\n{THEN[block.document]} }}", photo)


# --- what is in the lists ---------------------------------------------------------------------------------------------


def test_every_block_says_what_it_is() -> None:
    unknown = [
        (block.document, block.line, block.language) for block in BLOCKS if block.language not in RUN + ONLY_READ
    ]
    assert not unknown


def test_every_reason_has_a_block() -> None:
    for document, reasons in NOT_RUN.items():
        of_document = [block for block in BLOCKS if block.document == document and block.language in RUN]
        for beginning in reasons:
            assert any(block.text[block.text.index(block.first) :].startswith(beginning) for block in of_document), (
                f"{document}: {beginning}"
            )
    assert sum(map(is_slow, BLOCKS)) == len(SLOW)


def test_a_reason_names_files_that_exist() -> None:
    for reasons in NOT_RUN.values():
        for reason in reasons.values():
            for path in re.findall(r"tests/[\w/]+\.py", reason):
                assert (ROOT / path).exists(), path


def test_nginx_as_the_recipe_has_it(place: Place, tmp_path: Path) -> None:
    (printed,) = (block.text for block in BLOCKS if (block.document, block.language) == ("docs/recipes.md", "nginx"))
    port = free_port()
    site = re.sub(r" +(ssl_certificate\w*|server_name) .*\n", "", place.as_run(printed)).replace(
        "443 ssl", f"127.0.0.1:{port}"
    )
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid; user root; error_log {tmp_path}/errors; events {{}}\n"
        f"http {{ access_log off; {folders} {site} }}"
    )
    command = ["nginx", "-c", str(configuration), "-g", "daemon off;"]
    nginx = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.TransportError:
                assert nginx.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with httpx.stream("GET", f"{url}/v1/events?after=0", timeout=60) as events:
            sent = httpx.post(f"{url}/v1/detect", files={"image": ("a.jpg", another(place.photo, 3000))})
            assert sent.json()["url"].startswith(url)
            assert any(sent.json()["id"] in line for line in events.iter_lines())
        with connect(f"ws://127.0.0.1:{port}/v1/events?after=0", proxy=None) as socket:
            assert "job.queued" in str(socket.recv(timeout=30))
    finally:
        nginx.terminate()
        nginx.wait(30)


def test_pictures_of_the_documents_are_small() -> None:
    pictures = list((ROOT / "docs/pictures").iterdir())
    assert sum(path.stat().st_size for path in pictures) <= 400_000
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "WEBP"
