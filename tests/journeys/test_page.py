"""The page in headless Chromium with a real server: what a person does and sees.

`CHROMIUM` names another browser binary; `PAGE_SHOTS` a folder for screenshots to look at.
"""

import base64
import io
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, WebSocketRoute, expect

from tests.conftest import as_jpeg
from tests.journeys.conftest import served
from tests.journeys.server import Server
from tests.services import browser

SHOTS = os.environ.get("PAGE_SHOTS")
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the file."""
    expect.set_options(timeout=60_000)  # a busy machine's, which may have servers to start meanwhile
    with browser.chromium() as started:
        yield started


def complaint(line: ConsoleMessage) -> list[str]:
    """An error or warning of the console. The preview of a job that has just ended is gone, which is none."""
    address = str(line.location["url"])
    if line.type not in ("error", "warning") or ("404" in line.text and "/preview" in address):
        return []
    return [f"{line.text} {address}" if "Failed to load" in line.text else line.text]


LISTENS = """addEventListener("DOMContentLoaded", () => {
    window.announced = [];
    const status = document.getElementById("status");
    const listen = () => window.announced.push(status.textContent);
    if (status) new MutationObserver(listen).observe(status, { childList: true }); // other pages have none
})"""


def expect_announced(page: Page, words: str) -> None:
    """The page has told it to screen readers, and perhaps something else since."""
    page.wait_for_function("words => window.announced.some((line) => line.includes(words))", arg=words, timeout=60_000)


@pytest.fixture
def complaints() -> list[str]:
    """Errors and warnings in the consoles of the opened pages. A test removes those that it expects; others fail it."""
    return []


@pytest.fixture
def open_page(chromium: Browser, complaints: list[str]) -> Iterator[OpenPage]:
    """Opens the page in a new browser context each time, and waits for the live connection."""
    contexts = []

    def open_page(server: Server, *, before: Callable[[Page], object] | None = None, **visitor: Any) -> Page:
        visitor = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **visitor}
        context = chromium.new_context(**visitor)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.add_init_script(LISTENS)
        page.on("console", lambda line: complaints.extend(complaint(line)))
        page.on("pageerror", lambda error: complaints.append(f"{error}\n{error.stack}"))
        if before:
            before(page)
        page.goto(server.url)
        expect(page.locator("#link-state")).to_have_text("Live")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def photo(content: bytes, name: str = "astronaut.jpg") -> Any:
    """A file for the browser's file chooser."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def add(page: Page, *photos: Any) -> None:
    """Add photos by the file chooser."""
    page.set_input_files("#files", list(photos))


def shot(page: Page, name: str) -> None:
    """Save a screenshot, if `PAGE_SHOTS` is set."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def different(pixels: npt.NDArray[np.uint8], number: int) -> bytes:
    """The photo, changed a little so that its result is not in the cache."""
    changed = pixels.copy()
    changed[:4, :4] = (number * 37 % 255, number % 255, 0)
    return as_jpeg(changed)


def post(server: Server, content: bytes) -> str:
    """Send a photo from another client; the job's id."""
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"{server.url}/v1/detect", body, {"Content-Type": "multipart/form-data; boundary=x", "Prefer": "wait=10"}
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["id"])


def pixels_at(url: str) -> npt.NDArray[np.uint8]:
    """The picture at an address, (H, W, 3) RGB."""
    with urllib.request.urlopen(url) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


def fulfil(value: object) -> Callable[[Route], None]:
    """Answers a request of the page with this JSON."""
    return lambda route: route.fulfill(json=value)


def no_sideways_scroll(page: Page) -> bool:
    """Whether the page is no wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def expect_accessible(page: Page, what: str) -> None:
    """Axe finds no fault, in light nor in dark colours. The other colours can spoil the contrast alone."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{what}: {found.generate_report()}"
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
    page.emulate_media(color_scheme=schemes[not dark])
    found = Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 0, f"{what}, {schemes[not dark]}: {found.generate_report()}"
    page.emulate_media(color_scheme=schemes[dark])


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """The server stands still: what is sent to it arrives, as far as the system keeps it, and is answered later."""
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_photo_becomes_a_marked_card(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server, permissions=["clipboard-read", "clipboard-write"])
    add(page, photo(different(astronaut, 1)))
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text("1 face")
    expect(card.locator(".facts").last).to_contain_text("Detect · ")
    expect(card.locator(".facts").last).to_have_text(re.compile(r"\d m?s · "))
    expect_announced(page, "astronaut.jpg: 1 face.")
    expect(card.locator("img")).to_have_attribute("src", re.compile(r"/thumbnail$"))
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 480
    shot(page, "card")

    card.get_by_role("button", name="Link").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{shared_server.url}/v1/jobs/")
    assert pixels_at(link).shape == (512, 512, 3)

    card.get_by_role("button", name="JSON").click()
    viewer = page.get_by_role("dialog", name="1 face")
    job = json.loads(viewer.locator("pre").inner_text())
    assert job["status"] == "succeeded"
    assert len(job["result"]["faces"]) == 1
    viewer.get_by_role("button", name="Copy JSON").click()
    expect(viewer.get_by_role("button", name="Copied")).to_be_visible()
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == job
    viewer.locator(".faces li").hover()
    assert viewer.locator(".face.lit rect").count() == 1
    shot(page, "viewer")

    address = page.url
    assert address.endswith(f"#job={job['id']}")
    other = open_page(shared_server)
    other.goto(address)
    other.reload()
    expect(other.get_by_role("dialog", name="1 face")).to_be_visible()


def test_several_at_once_and_the_options_count(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    page.get_by_label("Blur").check()
    page.get_by_role("switch", name="Precise").check()
    page.get_by_text("More options").click()
    score = page.locator(".field", has=page.get_by_label("Minimum score"))
    score.get_by_label("Automatic").uncheck()
    page.get_by_label("Minimum score").fill("0.7")
    page.get_by_label("Format").select_option("png")
    add(page, *(photo(different(astronaut, 10 + number), f"{number}.jpg") for number in range(6)))
    expect(page.locator(".card.mine")).to_have_count(6)
    expect(page.locator(".card.mine[data-status=succeeded]")).to_have_count(6)
    page.locator(".card", has_text="0.jpg").locator(".frame").click()
    link = page.get_by_role("link", name="marked.png")
    marked = pixels_at(str(link.get_attribute("href"))).astype(int)
    # The face is where it was and smooth now; beside it nothing changed.
    face, beside = np.s_[70:170, 185:265], np.s_[300:400, 20:100]
    rough = [np.abs(np.diff(picture[face], axis=0)).mean() for picture in (marked, astronaut.astype(int))]
    assert rough[0] < 0.5 * rough[1]
    assert np.abs(marked[beside] - astronaut[beside]).mean() < 4


def test_what_others_send_arrives_live(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    job_id = post(shared_server, different(astronaut, 30))
    card = page.locator(f'[data-job="{job_id}"]')
    expect(card.locator("h3")).to_have_text("1 face")
    expect(card.locator("img")).to_be_visible()
    page.get_by_label("Only mine").check()
    expect(card).to_be_hidden()
    expect(page.get_by_text("No pictures yet")).to_be_visible()


def test_a_lost_server_is_shown_and_the_feed_goes_on_where_it_stopped(
    server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    sockets: list[str] = []
    page = open_page(server, before=lambda page: page.on("websocket", lambda socket: sockets.append(socket.url)))
    expect(page.get_by_text("No pictures yet")).to_be_visible()
    expect(page.locator("#drop-hint")).to_contain_text("The limit is 40 MB per photo.")
    shot(page, "empty")
    add(page, photo(different(astronaut, 40), "before.jpg"))
    expect(page.locator(".card h3")).to_have_text("1 face")
    arrived = page.locator(".card", has_text="arrived.jpg")
    with paused(server):
        add(page, photo(different(astronaut, 43), "arrived.jpg"))
        expect(arrived.locator("h3")).to_have_text("Sent, waiting for the answer")
        server.kill()
    expect(page.locator("#banner")).to_contain_text("The connection to the server was lost. Reconnecting in ")
    arrived.get_by_role("button", name="Cancel").click()
    expect(arrived).to_have_count(0)
    expect_announced(page, "Cancelled here. The connection was lost after the photo was sent")
    expect(page.locator("#link-state")).to_have_text("Reconnecting…")
    add(page, photo(different(astronaut, 41), "meanwhile.jpg"))
    held = page.locator(".card", has_text="meanwhile.jpg")
    expect(held.locator("h3")).to_have_text("Not sent yet")
    shot(page, "lost")
    server.start()
    job_id = post(server, different(astronaut, 42))
    page.locator("#banner-retry").dispatch_event("click")  # unless the page has reconnected already
    expect(page.locator(f'[data-job="{job_id}"] h3')).to_have_text("1 face")
    expect(page.locator("#banner")).to_be_hidden()
    expect(held.locator("h3")).to_have_text("1 face")
    assert "after=" not in sockets[0]
    assert re.search(r"after=\d+$", sockets[-1])
    server.restart()  # closes with 1012, and the page reconnects by itself
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#link-state")).to_have_text("Live")
    # 503: the page asked whether the service is ready before its first worker was.
    expected = ("ERR_CONNECTION", "WebSocket", "503 (Service Unavailable)")
    complaints[:] = [line for line in complaints if not any(each in line for each in expected)]


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[Server]:
    """A server that does one job at a time and accepts photos of at most 1.5 MB."""
    yield from served(Server(tmp_path, LIMNER_WORKERS="1", LIMNER_MAX_UPLOAD_BYTES="1500000"))


def test_cancel_and_delete(one_worker: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    page, other = open_page(one_worker), open_page(one_worker)
    # Enough work for one worker that what comes next has to wait.
    walls = [as_jpeg(np.full((5000 + number, 6000, 3), 90, np.uint8)) for number in range(4)]
    page.get_by_role("switch", name="Precise").check()
    add(page, *(photo(wall, f"wall {number}.jpg") for number, wall in enumerate(walls)))
    expect(page.locator(".card[data-job]")).to_have_count(len(walls))
    add(page, photo(as_jpeg(astronaut)))
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text("Queued")
    card.get_by_role("button", name="Cancel").click()
    expect(card.locator("h3")).to_have_text("Cancelled")
    job = card.get_attribute("data-job")
    expect(other.locator(f'[data-job="{job}"] h3')).to_have_text("Cancelled")
    for each in httpx.get(f"{one_worker.url}/v1/jobs?limit=20", timeout=60).json()[
        "jobs"
    ]:  # the walls have done their part
        httpx.post(f"{each['url']}/cancel", timeout=60)
    card.get_by_role("button", name="Redo").or_(card.get_by_role("button", name="Retry")).click()
    expect(page.locator(".card", has_text="1 face")).to_have_count(1)

    done = page.locator(".card", has_text="1 face")
    expect(done.locator("img")).to_have_attribute("src", re.compile("^http"))
    link = str(done.locator("img").get_attribute("src"))
    done.get_by_role("button", name="Delete").click()
    expect(done).to_have_count(0)
    assert pixels_at(link).any()  # it can be undone
    page.get_by_role("button", name="Delete now").click()
    expect_announced(page, "1 picture deleted.")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        pixels_at(link)


def test_what_the_server_has_when_it_is_cancelled_does_not_stay(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    known = different(astronaut, 45)
    post(shared_server, known)  # so that the next answer is a finished job
    wall = as_jpeg(np.full((5000, 6000, 3), 91, np.uint8))  # and this one takes a while
    page = open_page(shared_server)
    for name, content, left in (("known.jpg", known, []), ("wall.jpg", wall, ["cancelled"])):
        page.evaluate("window.announced = []")
        card = page.locator(".card", has_text=name)
        with paused(shared_server):
            add(page, photo(content, name))
            expect(card.locator("h3")).to_have_text("Sent, waiting for the answer")
            card.get_by_role("button", name="Cancel").click()
            expect(card.locator("h3")).to_have_text("Cancelling…")
            assert "Cancelled." not in page.evaluate("window.announced")
        expect_announced(page, "Cancelled.")
        jobs = httpx.get(f"{shared_server.url}/v1/jobs?q={name}", timeout=60).json()["jobs"]
        assert [job["status"] for job in jobs] in ([], left), "not done, and not left there done"
        expect(card).to_have_count(len(jobs))
    # It may end before it can be cancelled, and its event come before it is erased.
    complaints[:] = [line for line in complaints if "409" not in line and "/thumbnail" not in line]


def test_files_that_are_refused_say_why(
    shared_server: Server, open_page: OpenPage, complaints: list[str], tmp_path: Path
) -> None:
    for name, size in (("nothing.jpg", 0), ("huge.jpg", 40_000_001)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page = open_page(shared_server)
    add(page, *(tmp_path / name for name in ("notes.jpg", "nothing.jpg", "huge.jpg")))
    notes = page.locator(".card", has_text="notes.jpg")
    expect(notes.locator("h3")).to_have_text("Unsupported media type")
    expect(notes.get_by_role("button", name="Retry")).to_be_visible()
    expect(page.locator(".card", has_text="nothing.jpg").locator("h3")).to_have_text("Empty file")
    expect(page.locator(".card", has_text="huge.jpg")).to_contain_text("The file has 40.1 MB. The limit is 40 MB.")
    shot(page, "refused")
    notes.get_by_role("button", name="Dismiss").click()
    expect(notes).to_have_count(0)
    assert len(complaints) == 1
    assert "415" in complaints.pop()


def test_the_size_limit_is_that_of_the_server(one_worker: Server, open_page: OpenPage) -> None:
    page = open_page(one_worker)
    expect(page.locator("#drop-hint")).to_contain_text("The limit is 1.5 MB per photo.")
    add(page, photo(bytes(1_500_001), "huge.jpg"))
    expect(page.locator(".card", has_text="huge.jpg")).to_contain_text("The file has 1.6 MB. The limit is 1.5 MB.")


def test_a_full_queue_is_waited_for(
    shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes, complaints: list[str]
) -> None:
    answers = [429]

    def busy(route: Route) -> None:
        if answers:
            route.fulfill(status=answers.pop(), headers={"Retry-After": "4"}, json={"title": "Queue full"})
        else:
            route.fallback()

    page = open_page(shared_server, before=lambda page: page.route("**/v1/detect", busy))
    add(page, photo(astronaut_jpeg))
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text("Not sent yet")
    expect(card).to_contain_text("The server is busy. Trying again")
    expect(card.locator("h3")).to_have_text("1 face")
    complaints[:] = [line for line in complaints if "429" not in line]


def test_many_photos_wait_in_a_queue(shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = open_page(shared_server, before=lambda page: page.route("**/v1/detect", hold))
    add(page, *(photo(astronaut_jpeg, f"{number}.jpg") for number in range(40)))
    expect(page.locator("#waiting")).to_contain_text("36 photos are waiting to be sent.")
    expect(page.locator(".card[data-status=sending]")).to_have_count(4)
    assert len(held) == 4
    assert page.locator(".card[data-status=waiting]").count() <= 24
    page.locator(".card[data-status=sending]", has_text="0.jpg").last.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel them").click()
    expect(page.locator(".card[data-status=waiting]")).to_have_count(0)
    expect(page.locator(".card[data-status=sending]")).to_have_count(4)  # the next had moved up
    expect(page.locator(".card[data-tone=bad]")).to_have_count(0)
    for _ in range(4):
        page.locator(".card[data-status=sending]").first.get_by_role("button", name="Cancel").click()
    expect(page.locator(".card[data-status=sending]")).to_have_count(0)
    for route in held:
        route.abort()


def test_by_keyboard_alone(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    # A listener from the start: only then is the browser sure to hand over its file choosers.
    page = open_page(shared_server, before=lambda page: page.on("filechooser", lambda _: None))

    def tab_to(locator: Any) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if locator.evaluate_all("found => found.includes(document.activeElement)"):
                return
        raise AssertionError("not reached by Tab")

    expect(page.locator("#drop")).to_be_visible()
    tab_to(page.get_by_role("link", name="Skip to the pictures"))
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab_to(page.locator("#drop"))
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([photo(different(astronaut, 50), "keys.jpg")])
    card = page.locator(".card", has_text="keys.jpg")
    expect(card.locator("h3")).to_have_text("1 face")
    tab_to(page.locator("input[name=mark]:checked"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Blur")).to_be_checked()
    tab_to(card.locator(".frame"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(card.locator(".frame")).to_be_focused()
    tab_to(card.get_by_role("button", name="Delete"))
    page.keyboard.press("Enter")
    expect(card).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body")


def test_paste_and_drop(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    page = open_page(shared_server)
    event = """([base64, kind, name]) => {
      const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], name, {type: "image/jpeg"}));
      const made = kind === "paste" ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true, cancelable: true})
        : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
      document.body.dispatchEvent(made);
    }"""
    content = base64.b64encode(different(astronaut, 60)).decode()
    page.evaluate(event, [content, "paste", "pasted.jpg"])
    expect(page.locator(".card", has_text="pasted.jpg").locator("h3")).to_have_text("1 face")
    page.evaluate(event, [content, "dragenter", "dropped.jpg"])
    expect(page.get_by_text("Drop to add the photos")).to_be_visible()
    page.evaluate(event, [content, "drop", "dropped.jpg"])
    expect(page.get_by_text("Drop to add the photos")).to_be_hidden()
    # The same photo once more is the same job, or one from the cache.
    expect(page.locator(".card", has_text="dropped.jpg").locator("h3")).to_have_text("1 face")


def test_the_camera(shared_server: Server, open_page: OpenPage) -> None:
    page = open_page(shared_server, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the photo").click()
    expect(page.get_by_text("1 photo taken")).to_be_visible()
    page.keyboard.press("Escape")
    assert page.locator("#camera-video").evaluate("video => video.srcObject") is None
    expect(page.locator(".card", has_text="camera-1.jpg").locator("h3")).to_have_text("No face found")

    refused = open_page(shared_server)
    refused.get_by_role("button", name="Use the camera").click()
    expect(refused.get_by_role("dialog")).to_contain_text("does not let this page use the camera")
    with refused.expect_file_chooser():
        refused.get_by_role("button", name="Choose a photo instead").click()


def test_on_a_phone(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    page = open_page(shared_server, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert no_sideways_scroll(page)
    shot(page, "phone")
    name = "a-very-long-file-name-without-a-single-break-as-phones-make-them-20260101.jpg"
    add(page, photo(different(astronaut, 70), name))
    card = page.locator(".card", has_text=name)
    expect(card.locator("h3")).to_have_text("1 face")
    expect(card).to_be_in_viewport()
    assert no_sideways_scroll(page)
    small = """() => [...document.querySelectorAll("button, select, summary, .tick, .switch, .tab, .chip")]
      .filter((each) => each.getClientRects().length && each.getBoundingClientRect().height < 42)
      .map((each) => each.outerHTML)"""
    assert page.evaluate(small) == []
    shot(page, "phone-card")
    card.locator(".frame").tap()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.locator("#viewer").evaluate("each => each.scrollWidth <= each.clientWidth")
    shot(page, "phone-viewer")


def test_light_and_dark_are_readable(shared_server: Server, open_page: OpenPage) -> None:
    page = open_page(shared_server, color_scheme="dark")

    def contrasts() -> dict[str, float]:
        found: dict[str, float] = page.evaluate(CONTRASTS)
        return found

    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(contrasts().values()) >= 4.5, contrasts()
    shot(page, "dark")
    page.get_by_role("button", name="Colours: as the system").click()
    page.get_by_role("button", name="Colours: light").focus()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert min(contrasts().values()) >= 4.5, contrasts()
    page.reload()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


# The contrast (WCAG 2) of each kind of text with its background.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = numbers(colour).map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255,255,255)";
  };
  const found = {};
  for (const node of document.querySelectorAll("h2, p, span, a, button, small, label, output, summary, legend")) {
    const words = [...node.childNodes].filter((each) => each.nodeType === 3 && each.data.trim());
    if (!words.length || !node.getClientRects().length || node.closest(":disabled")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    found[`${node.localName}.${node.className} ${node.textContent.trim().slice(0, 20)}`] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


def job_json(number: int, operation: str = "detect", **more: object) -> dict[str, object]:
    """A finished job as the API gives it."""
    return {
        "id": f"job-{number}",
        "operation": operation,
        "status": "succeeded",
        "progress": 1.0,
        "cached": None,
        "created_at": f"2026-01-01T00:00:00.{number:06}Z",
        "started_at": "2026-01-01T00:00:01Z",
        "finished_at": "2026-01-01T00:00:01.084Z",
        "url": "",
        "result": None,
        "error": None,
        "artifacts": [],
        **more,
    }


def test_a_new_operation_has_its_form_and_its_result(shared_server: Server, open_page: OpenPage) -> None:
    """An operation that the page has no code for."""
    invent = {
        "name": "invent",
        "summary": "Invent something.",
        "version": 1,
        "url": "/v1/invent",
        "result": {},
        "parameters": {
            "type": "object",
            "required": ["image", "prompt"],
            "$defs": {
                "Kind": {"type": "string", "enum": ["oil", "ink", "wash", "chalk", "pen", "wax"], "title": "Kind"}
            },
            "properties": {
                "image": {"type": "string", "format": "binary"},
                "prompt": {"type": "string", "maxLength": 500, "title": "Prompt"},
                "kind": {"$ref": "#/$defs/Kind", "default": "ink", "title": "Kind of paint"},
                "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
                "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "mask": {"anyOf": [{"type": "string", "format": "binary"}, {"type": "null"}], "default": None},
                "points": {"type": "array", "items": {"type": "number"}, "default": []},
            },
        },
    }
    sent: list[str] = []
    made: dict[str, object] = {}

    def take(route: Route) -> None:
        sent.append((route.request.post_data_buffer or b"").decode("latin-1"))
        artifacts = [
            {"name": "notes.txt", "media_type": "text/plain", "size": 5, "width": None, "height": None, "url": ""}
        ]
        made.update(job_json(1, "invent", result={"mood": "gay"}, artifacts=artifacts))
        route.fulfill(json=made)

    def stub(page: Page) -> None:
        page.route("**/v1/jobs/job-1", lambda route: route.fulfill(json=made))
        page.route("**/v1/operations", fulfil({"operations": [invent]}))
        page.route("**/v1/invent", take)

    page = open_page(shared_server, before=stub)
    add(page, photo(b"x", "a.jpg"))
    expect(page.get_by_label("Prompt")).to_be_focused()  # required, so nothing was sent
    assert sent == []
    page.get_by_label("Prompt").fill("a <b>hat</b>")
    page.get_by_label("Kind of paint").select_option("wax")
    page.get_by_text("More options").click()
    page.get_by_label("Points").fill("[1, 2")
    add(page, photo(b"x", "a.jpg"))
    expect(page.get_by_label("Points")).to_be_focused()
    page.get_by_label("Points").fill("[1, 2]")
    page.get_by_label("Seed").fill("7")
    page.set_input_files("#option-mask", photo(b"mask", "mask.png"))
    shot(page, "new-operation")
    add(page, photo(b"x", "a.jpg"))
    card = page.locator(".card", has_text="Invent")
    expect(card.locator("h3")).to_have_text("Done")
    names = re.findall(r'name="(\w+)"', sent[0])
    assert names == [
        "image",
        "label",
        "prompt",
        "kind",
        "seed",
        "mask",
        "points",
    ]  # "strength" has its default, so it is not sent
    assert "a <b>hat</b>" in sent[0]
    card.locator(".frame").click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("link", name="notes.txt")).to_be_visible()
    expect(viewer).to_contain_text("Mood")


def test_contours_of_a_photo(shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes) -> None:
    page = open_page(shared_server)
    page.get_by_role("radio", name="Contours").check()
    shot(page, "contours-form")
    add(page, photo(astronaut_jpeg))
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text(re.compile(r"^\d+ regions$"))
    card.locator(".frame").click()
    drawing = page.locator(".drawing")
    expect(drawing.locator("image")).to_be_visible()
    page.get_by_role("checkbox", name="Landmarks").check()
    inside = """drawing => {
      const [dots, nose] = [".dots", "[data-region=nose]"].map((each) => drawing.querySelector(each).getBBox());
      const { width, height } = drawing.viewBox.baseVal;
      return dots.x > 0 && dots.y > 0 && dots.x + dots.width < width && dots.y + dots.height < height
        && nose.x > dots.x && nose.x + nose.width < dots.x + dots.width;
    }"""
    assert drawing.evaluate(inside)
    page.get_by_role("checkbox", name="Nose").uncheck()
    expect(drawing.locator("[data-region=nose]")).to_be_hidden()
    drawing.locator("[data-region=chin] path").hover()
    expect(page.locator(".caption")).to_have_text("Chin")
    shot(page, "contours-real")


DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 120" width="100" height="120">
<script>document.title = "broken into"</script><style>path { fill: red }</style>
<g id="cards" data-region="forehead" fill="#A16AA9" fill-opacity="0.5" style="stroke: #80929C; position: fixed">
<title>Forehead</title><path d="M10 10H90V40H10Z" onclick="document.title = 'broken into'"/></g>
<g id="nose" data-region="nose" fill="#A16AA9"><path d="M40 50H60V80H40Z"/></g></svg>"""


def test_contours_can_be_switched_and_pointed_at(shared_server: Server, open_page: OpenPage) -> None:
    job = job_json(
        2,
        "contours",
        result={
            "mask_contours": {"forehead": [[[10, 10], [90, 10], [90, 40]]], "nose": [[[40, 50], [60, 50], [60, 80]]]},
            "transform": [[2, 0, 10], [0, 2, 20], [0, 0, 1]],
            "landmarks": [{"x": 10, "y": 20}, {"x": 30, "y": 40}],
            "landmarks_source": "server",
        },
        artifacts=[
            {"name": "contours.svg", "media_type": "image/svg+xml", "size": 9, "width": 100, "height": 120, "url": ""}
        ],
    )

    def stub(page: Page) -> None:
        page.route("**/v1/jobs?*", fulfil({"jobs": [job], "next_cursor": None}))
        page.route("**/v1/jobs/job-2", fulfil(job))
        page.route("**/artifacts/contours.svg", lambda route: route.fulfill(body=DRAWING, content_type="image/svg+xml"))

    page = open_page(shared_server, before=stub)
    card = page.locator(".card")
    expect(card.locator("h3")).to_have_text("2 regions")
    card.locator(".frame").click()
    drawing = page.locator(".drawing")
    forehead = drawing.locator("[data-region=forehead]")
    forehead.hover()
    expect(page.locator(".caption")).to_have_text("Forehead")
    page.get_by_role("checkbox", name="Nose").uncheck()
    expect(drawing.locator("[data-region=nose]")).to_be_hidden()
    page.get_by_role("button", name="None", exact=True).click()
    expect(forehead).to_be_hidden()
    page.get_by_role("button", name="All", exact=True).click()
    expect(forehead).to_be_visible()
    page.get_by_role("checkbox", name="Landmarks (2, found by the server)").check()
    assert drawing.locator(".dots").get_attribute("d") == "M30.0 60.0h0M70.0 100.0h0"
    expect(drawing.locator(".dots")).to_have_attribute("visibility", "visible")
    shot(page, "contours")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save SVG").click()
    assert Path(download.value.path()).read_text() == DRAWING
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    assert json.loads(Path(download.value.path()).read_text()) == job["result"]
    # Only shapes were copied from the drawing: no script, style, handler or unprefixed id.
    assert drawing.locator("script, style, [onclick], [style]").count() == 0
    assert forehead.get_attribute("id") == "drawn-cards"
    assert forehead.get_attribute("stroke") == "#80929C"
    assert page.title() == "Limner"


def test_each_face_of_a_group_is_shown(shared_server: Server, open_page: OpenPage) -> None:
    def face(number: int) -> dict[str, Any]:
        return {
            "artifact": f"contours-{number}.svg",
            "mask_contours": {"nose": [[[40, 50], [60, 50], [60, 80]]]},
            "transform": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            "landmarks": [{"x": number, "y": 20}],
            "assumptions": [f"What was assumed of face {number}."],
        }

    faces = [face(1), face(2)]
    names = [each["artifact"] for each in faces]
    job = job_json(
        2,
        "contours",
        result={**faces[0], "landmarks_source": "server", "faces": faces},
        artifacts=[
            {"name": name, "media_type": "image/svg+xml", "size": 9, "width": 100, "height": 120, "url": ""}
            for name in names
        ],
    )

    def stub(page: Page) -> None:
        page.route("**/v1/jobs?*", fulfil({"jobs": [job], "next_cursor": None}))
        page.route("**/v1/jobs/job-2", fulfil(job))
        page.route("**/artifacts/*.svg", lambda route: route.fulfill(body=DRAWING, content_type="image/svg+xml"))

    page = open_page(shared_server, before=stub)
    card = page.locator(".card")
    expect(card.locator("h3")).to_have_text("2 faces")
    card.locator(".frame").click()
    viewer = page.get_by_role("dialog")
    expect(viewer).to_contain_text("What was assumed of face 1.")
    viewer.get_by_role("radio", name="Face 2").check()
    expect(viewer).to_contain_text("What was assumed of face 2.")
    assert page.locator(".dots").get_attribute("d") == "M2.0 20.0h0"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save SVG").click()
    assert download.value.suggested_filename.endswith("contours-2.svg")
    shot(page, "contours-faces")


def test_a_flood_of_events_does_not_flood_the_page(shared_server: Server, open_page: OpenPage) -> None:
    sockets: list[WebSocketRoute] = []

    def accept(socket: WebSocketRoute) -> None:
        sockets.append(socket)

    def details(route: Route) -> None:
        route.fulfill(json=job_json(int(route.request.url.rpartition("-")[2]), result={"faces": []}))

    def stub(page: Page) -> None:
        page.route_web_socket("**/v1/events", accept)
        page.route("**/v1/jobs/job-*", details)
        page.route("**/v1/jobs?*", fulfil({"jobs": [], "next_cursor": None}))

    page = open_page(shared_server, before=stub)
    told = ("id", "operation", "status", "progress", "artifacts", "created_at")
    for number in range(1, 301):
        job = {key: value for key, value in job_json(number).items() if key in told} | {"faces_count": 3}
        event = {"id": number, "type": "job.succeeded", "time": "2026-01-01T00:00:02Z", "job": job}
        for _ in range(1 + number % 2):  # some come twice
            sockets[0].send(json.dumps(event))
    expect(page.locator('[data-job="job-300"]')).to_be_visible()
    expect(page.locator('[data-job="job-300"]')).to_have_attribute("aria-setsize", "300")
    assert page.locator(".card").count() <= 60  # the others are added when they are scrolled to
    erased = {
        "id": 301,
        "type": "job.failed",
        "time": "2026-01-01T00:00:03Z",
        "job": {"id": "job-300", "operation": "detect"},
    }
    sockets[0].send(json.dumps(erased))
    expect(page.locator('[data-job="job-300"]')).to_have_count(0)


@pytest.mark.parametrize("first", ["event", "answer"])
def test_the_result_is_there_whichever_comes_first(
    shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes, first: str
) -> None:
    """The event of a job's end has no result; it can come before or after the answer to the upload."""
    sockets: list[WebSocketRoute] = []
    face = {"box": {"x": 9, "y": 9, "width": 9, "height": 9}, "score": 0.5, "landmarks": {}}
    whole = job_json(7, result={"image": {"width": 512, "height": 512}, "faces": [face, face]})
    told = {"id": "job-7", "operation": "detect", "status": "succeeded", "progress": 1.0, "artifacts": []}
    event = json.dumps({"id": 9, "type": "job.succeeded", "time": "2026-01-01T00:00:02Z", "job": told})

    def accept(socket: WebSocketRoute) -> None:
        sockets.append(socket)

    def take(route: Route) -> None:
        if first == "event":
            sockets[0].send(event)
        route.fulfill(status=202, json=whole | {"status": "running", "finished_at": None, "result": None})

    def stub(page: Page) -> None:
        page.route_web_socket("**/v1/events", accept)
        page.route("**/v1/detect", take)
        page.route("**/v1/jobs/job-7", fulfil(whole))

    page = open_page(shared_server, before=stub)
    add(page, photo(astronaut_jpeg))
    card = page.locator(".card", has_text="astronaut.jpg").first
    if first == "answer":
        expect(card.locator("h3")).to_have_text("Running")
        sockets[0].send(event)
    expect(card.locator("h3")).to_have_text("2 faces")
    expect(page.locator('[data-job="job-7"]')).to_have_count(1)
    card.locator(".frame").click()
    expect(page.locator(".faces li")).to_have_count(2)


@pytest.mark.parametrize(
    ("position", "eta_s", "words"),
    [
        (1, 0.2, "Next in the queue, about 1 s"),
        (3, 12.4, "3rd in the queue, about 12 s"),
        (11, None, "11th in the queue"),
        (42, 75.0, "42nd in the queue, about 1 min 15 s"),
        (0, 2.0, "Waiting for the same work, which is running, about 2 s"),
        (None, None, "Far back in the queue"),
    ],
)
def test_a_queued_job_shows_its_place(
    shared_server: Server, open_page: OpenPage, position: int | None, eta_s: float | None, words: str
) -> None:
    waiting = job_json(7, result=None) | {"status": "queued", "started_at": None, "finished_at": None}
    place = {"position": position, "age_s": 1.0, "eta_s": eta_s}

    def stub(page: Page) -> None:
        page.route("**/v1/jobs?*", fulfil({"jobs": [waiting], "next_cursor": None}))
        page.route("**/v1/jobs/job-7", fulfil(waiting | {"queue": place}))

    page = open_page(shared_server, before=stub)
    card = page.locator('[data-job="job-7"]')
    expect(card.locator("h3")).to_have_text("Queued")
    expect(card.locator(".card-detail")).to_have_text(words)


def test_failures_of_the_list_and_the_service_are_shown(
    shared_server: Server, open_page: OpenPage, complaints: list[str]
) -> None:
    broken = {"on": True}

    def fail(route: Route) -> None:
        if broken["on"]:
            route.fulfill(status=503, json={"title": "Unavailable", "detail": "A model is missing."})
        else:
            route.fallback()

    def stub(page: Page) -> None:
        for path in ("**/v1/jobs?*", "**/v1/operations", "**/readyz"):
            page.route(path, fail)

    page = open_page(shared_server, before=stub)
    expect(page.locator("#list-problem")).to_contain_text(
        "The list of pictures could not be loaded. A model is missing."
    )
    expect(page.locator("#operations")).to_contain_text("The operations could not be loaded. A model is missing.")
    expect(page.locator("#banner")).to_contain_text("cannot accept photos now. A model is missing.")
    shot(page, "failing")
    broken["on"] = False
    page.locator("#list-problem button").click()
    page.locator("#operations button").click()
    expect(page.locator("#list-problem")).to_be_hidden()
    expect(page.get_by_label("Blur")).to_be_visible()
    complaints[:] = [line for line in complaints if "503" not in line]


def test_it_loads_nothing_from_other_servers(shared_server: Server, open_page: OpenPage) -> None:
    asked: list[str] = []
    page = open_page(shared_server, before=lambda page: page.on("request", lambda request: asked.append(request.url)))
    time.sleep(0.2)
    assert len(asked) > 10
    assert all(url.startswith((shared_server.url, "blob:", "data:")) for url in asked)
    assert page.locator("script:not([src]), style, [onclick]").count() == 0
    assert " style=" not in httpx.get(shared_server.url).text
