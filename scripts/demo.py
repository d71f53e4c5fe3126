"""Sends a real photo to Limner and prints the faces and the URL of the marked picture.

It uses a running Limner, or starts one in the background with its data in `data/demo`; `demo.py --stop` ends that one
and removes its data. It needs only the standard library.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "demo"
NOTE = FOLDER / "server.json"  # process id and URL of the demo's own server
LOG = FOLDER / "server.log"
PHOTO = ROOT / "data" / "astronaut.png"
PORT = int(os.environ.get("LIMNER_PORT", "8282"))
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

# No proxy, because the server is on this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class DemoError(Exception):
    """An error that is shown to the user as one line."""


def main() -> None:
    """Run the demo, or stop its server."""
    if "--stop" in sys.argv[1:]:
        stop()
        return
    url, ours = server()
    job = detect(url, photo())
    show(job, url, ours)


def photo() -> bytes:
    """NASA's portrait of Eileen Collins (public domain), from scikit-image's wheel.

    pip downloads the wheel once, from the configured index and with the hashes of the lock file. It is not installed.
    """
    if not PHOTO.exists():
        lock = (ROOT / "requirements-dev.lock").read_text()
        pinned = re.search(r"^scikit-image==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
        if pinned is None:
            raise DemoError("requirements-dev.lock does not name scikit-image")
        with tempfile.TemporaryDirectory() as scratch:
            wanted = Path(scratch, "wanted.txt")
            wanted.write_text(pinned[0])
            print("Fetching the photo …", flush=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
            command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", scratch, "-r", str(wanted)]
            if subprocess.run(command, check=False).returncode:
                raise DemoError("pip could not fetch the photo (see above)")
            (wheel,) = Path(scratch).glob("*.whl")
            data = zipfile.ZipFile(wheel).read("skimage/data/astronaut.png")
        PHOTO.parent.mkdir(exist_ok=True)
        part = PHOTO.with_suffix(".part")
        part.write_bytes(data)
        part.replace(PHOTO)
    return PHOTO.read_bytes()


# --- the server -----------------------------------------------------------------------------------------------------


def server() -> tuple[str, int | None]:
    """The URL of a running Limner, and its process id if it is the demo's own."""
    ours = running()
    if ours is not None and is_limner(ours[1]):
        return ours[1], ours[0]
    usual = f"http://127.0.0.1:{PORT}"
    if is_limner(usual):
        return usual, None
    return start()


def running() -> tuple[int, str] | None:
    """Process id and URL of the demo's server, if it is running."""
    try:
        note = json.loads(NOTE.read_text())
        process, url = int(note["process"]), str(note["url"])
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    # Process ids are reused, so check that this process is a Limner of this folder.
    return (process, url) if b"limner" in command and str(ROOT).encode() in command else None


def is_limner(url: str) -> bool:
    """Whether a Limner that accepts photos answers at this URL."""
    try:
        with _open(f"{url}/readyz", timeout=3) as ready, _open(f"{url}/v1/operations", timeout=3) as answer:
            return bool(ready.status == 200) and "detect" in {each["name"] for each in json.load(answer)["operations"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def start() -> tuple[str, int]:
    """Start a server in the background. It outlives this program."""
    if running() is not None:
        stop()  # it is running but does not answer
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {
        "LIMNER_DATABASE_URL": f"sqlite:///{FOLDER}/limner.db",
        "LIMNER_BLOBS_URL": str(FOLDER / "blobs"),
        "LIMNER_MODELS_DIR": os.environ.get("LIMNER_MODELS_DIR", str(ROOT / "models")),
    }
    command = [str(ROOT / ".venv/bin/python"), str(ROOT / ".venv/bin/limner"), "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    NOTE.write_text(json.dumps({"process": process.pid, "url": url}))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_limner(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise DemoError(f"the server did not start:\n{LOG.read_text()}")
        time.sleep(0.1)
    return url, process.pid


def free_port() -> int:
    """The default port, or a free one if the default is in use."""
    for port in (PORT, 0):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(free.getsockname()[1])
    raise DemoError("no port is free")


def stop() -> None:
    """End the demo's server and remove its data."""
    ours = running()
    if ours is None:
        print("No demo server is running.")
    else:
        os.kill(ours[0], signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while running() is not None:
            if time.monotonic() > deadline:
                raise DemoError(f"process {ours[0]} does not stop")
            time.sleep(0.1)
        print(f"Stopped the server at {ours[1]}.")
    shutil.rmtree(FOLDER, ignore_errors=True)


# --- the photo ------------------------------------------------------------------------------------------------------


def detect(url: str, data: bytes) -> dict[str, Any]:
    """The finished job. This is what `curl -F image=@… -H 'Prefer: wait=30'` does."""
    boundary = "limner-demo-7f3c1e"
    body = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="image"; filename="astronaut.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    request = urllib.request.Request(
        f"{url}/v1/detect",
        data=body + data + f"\r\n--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}", "Prefer": "wait=30"},
    )
    with _open(request, timeout=60) as answer:
        job: dict[str, Any] = json.load(answer)
    if job["status"] != "succeeded":
        raise DemoError(f"the job is {job['status']}: {job['error']}")
    return job


def show(job: dict[str, Any], url: str, ours: int | None) -> None:
    """Print the faces and the URLs. DemoError if the picture cannot be fetched."""
    faces = job["result"]["faces"]
    size = job["result"]["image"]
    if not faces:
        raise DemoError("no face was found")
    known = ", answered from the cache" if job["cached"] else ""
    print(f"astronaut.png, {size['width']} × {size['height']}: {len(faces)} face{'s' * (len(faces) > 1)}{known}")
    for number, face in enumerate(faces, 1):
        box = face["box"]
        print(
            f"  face {number}: score {face['score']:.2f}, {box['width']:.0f} × {box['height']:.0f} pixels "
            f"at {box['x']:.0f}, {box['y']:.0f}, tilt {face['roll_degrees']:.1f}°"
        )
    marked = job["artifacts"][0]
    with _open(marked["url"], timeout=30) as answer:
        served = len(answer.read())
        kind = answer.headers["Content-Type"]
    if served != marked["size"] or kind != marked["media_type"]:
        raise DemoError(f"{marked['url']} does not serve the picture")
    print(f"  marked picture: {marked['url']}  ({kind}, {served:,} bytes)")
    print(f"  the page:       {url}/")
    if ours is None:
        print("It was done by a server that was already running.")
    else:
        print(f"The server keeps running in the background (process {ours}). `make stop` ends it and removes its data.")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as refusal:
        sys.exit(f"demo: {refusal.url} answered {refusal.code}: {refusal.read().decode(errors='replace')}")
    except (DemoError, urllib.error.URLError) as problem:
        sys.exit(f"demo: {problem}")
