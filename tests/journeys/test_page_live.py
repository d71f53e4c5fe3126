"""The camera with faces shown live, in headless Chromium with a camera whose picture is a file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.conftest import as_jpeg
from tests.journeys.client import metric, submit
from tests.journeys.conftest import StartServer
from tests.journeys.keys import key_server, new_key
from tests.journeys.server import Server
from tests.journeys.test_page import OpenPage, complaints, expect_accessible, no_sideways_scroll, open_page, shot
from tests.services import browser

__all__ = ["complaints", "open_page"]  # fixtures


@pytest.fixture(scope="module")
def seen(astronaut: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What the camera sees: one face, left of the middle."""
    return np.asarray(Image.fromarray(astronaut).crop((100, 0, 484, 288)).resize((640, 480)))


@pytest.fixture(scope="module")
def chromium(seen: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with that camera."""
    film = tmp_path_factory.mktemp("camera") / "face.y4m"
    planes = cv2.cvtColor(seen, cv2.COLOR_RGB2YUV_I420).tobytes()
    film.write_bytes(b"YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420\n" + 2 * (b"FRAME\n" + planes))
    expect.set_options(timeout=60_000)
    with browser.chromium(f"--use-file-for-fake-video-capture={film}") as started:
        yield started


def drawn(page: Page) -> tuple[float, float, float, float] | None:
    """The bounds of what is drawn over the video (left, top, right, bottom), as shares of the canvas; None: nothing."""
    found: list[float] | None = page.evaluate(
        """() => {
          const canvas = document.getElementById("camera-faces");
          if (canvas.hidden || !canvas.width) return null;
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          let bounds = [width, height, -1, -1];
          for (let at = 0; at < width * height; at += 1) {
            if (!data[4 * at + 3]) continue;
            const x = at % width, y = Math.floor(at / width);
            bounds = [Math.min(bounds[0], x), Math.min(bounds[1], y), Math.max(bounds[2], x), Math.max(bounds[3], y)];
          }
          return bounds[2] < 0 ? null : [bounds[0] / width, bounds[1] / height, bounds[2] / width, bounds[3] / height];
        }"""
    )
    return None if found is None else (found[0], found[1], found[2], found[3])


def toggle(page: Page) -> Any:
    return page.get_by_role("checkbox", name="Show faces live")


def test_faces_are_framed_while_the_camera_runs(
    shared_server: Server, open_page: OpenPage, seen: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server, permissions=["camera"])
    expect(toggle(page)).to_be_hidden()
    page.get_by_role("button", name="Use the camera").click()
    expect(toggle(page)).to_be_enabled()
    assert not toggle(page).is_checked()
    assert drawn(page) is None
    jobs = metric(shared_server, "limner_jobs_submitted_total")

    toggle(page).check()
    expect(page.locator("#camera-live-words")).to_have_text("1 face in the picture")
    box = submit(shared_server, as_jpeg(seen), wait=True)["result"]["faces"][0]["box_relative"]
    bounds = drawn(page)
    assert bounds is not None
    expected = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    assert all(abs(one - other) < 0.06 for one, other in zip(bounds, expected, strict=True)), (bounds, expected)
    video, canvas = page.locator("#camera-video"), page.locator("#camera-faces")
    assert video.bounding_box() == canvas.bounding_box()
    for rule in ("objectFit", "scale"):  # so it lies over the picture, mirrored as it is
        asked = f"node => getComputedStyle(node).{rule}"
        assert video.evaluate(asked) == canvas.evaluate(asked)
    assert canvas.evaluate("node => getComputedStyle(node).scale") == "-1 1"
    shot(page, "camera-live")
    assert no_sideways_scroll(page)

    toggle(page).uncheck()
    expect(canvas).to_be_hidden()
    expect(page.locator("#camera-live-words")).to_have_text("")
    toggle(page).check()
    expect(page.locator("#camera-live-words")).to_have_text("1 face in the picture")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    answered = settled(shared_server)
    assert answered > 2
    assert metric(shared_server, "limner_jobs_submitted_total") == jobs + 1  # that of `submit` above

    page.get_by_role("button", name="Use the camera").click()
    expect(toggle(page)).to_be_enabled()
    assert not toggle(page).is_checked()  # nothing is sent unless it is asked for
    assert settled(shared_server) == answered


def settled(server: Server) -> float:
    """How many frames were answered, once no socket is open."""
    while metric(server, "limner_sockets", stream="live"):
        pass
    return metric(server, "limner_live_frames_total", outcome="answered")


def test_on_a_phone(shared_server: Server, open_page: OpenPage) -> None:
    page = open_page(shared_server, permissions=["camera"], viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.get_by_role("button", name="Use the camera").click()
    toggle(page).check()
    expect(page.locator("#camera-live-words")).to_have_text("1 face in the picture")
    assert no_sideways_scroll(page)
    expect(page.get_by_role("button", name="Take the photo")).to_be_in_viewport()
    expect(toggle(page)).to_be_in_viewport()
    shot(page, "camera-live-phone-dark")
    expect_accessible(page, "the camera")


# The browser asks whether the page may use the camera: it gets a stream when the test says so.
ASKING = """if (navigator.mediaDevices) {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  Object.assign(window, { streams: [], asking: [] });
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    window.streams.push(stream);
    await new Promise((resolve) => window.asking.push(resolve));
    return stream;
  };
}"""


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_camera_is_off_when_it_was_closed_while_the_browser_asked(
    shared_server: Server, open_page: OpenPage, order: tuple[int, int]
) -> None:
    page = open_page(shared_server, permissions=["camera"], before=lambda page: page.add_init_script(ASKING))
    running = "window.streams.flatMap((each) => each.getTracks()).filter((each) => each.readyState === 'live').length"
    shoot = page.get_by_role("button", name="Take the photo")

    def asks(times: int) -> None:
        page.wait_for_function(f"() => window.asking.length === {times}")

    for times in (1, 2):
        page.get_by_role("button", name="Use the camera").click()
        asks(times)
        if times == 1:
            page.keyboard.press("Escape")
    for number in order:
        page.evaluate(f"window.asking[{number}]()")
    expect(shoot).to_be_enabled()
    page.wait_for_function(f"() => {running} === 1")
    assert page.evaluate("document.getElementById('camera-video').srcObject === window.streams[1]")

    # A second press while the other camera starts.
    page.locator("#camera-switch").evaluate("each => { each.hidden = false; each.click(); each.click(); }")
    asks(3)
    page.evaluate("window.asking[2]()")
    expect(shoot).to_be_enabled()
    page.keyboard.press("Escape")
    page.wait_for_function(f"() => {running} === 0")
    assert page.evaluate("window.asking.length") == 3


def test_a_server_that_does_not_do_it_is_told(start_server: StartServer, open_page: OpenPage) -> None:
    page = open_page(start_server(LIMNER_LIVE_SOCKETS="0"), permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    toggle(page).click()  # not `check`: it is unchecked again at once
    expect(page.locator("#camera-live-words")).to_have_text("Live detection is switched off on this server.")
    expect(toggle(page)).not_to_be_checked()
    expect(page.get_by_role("button", name="Take the photo")).to_be_enabled()


def test_with_a_key(tmp_path: Path, chromium: Browser) -> None:
    server = key_server(tmp_path)
    server.start()
    context = chromium.new_context(permissions=["camera"])
    try:
        page = context.new_page()
        page.goto(server.url)
        page.get_by_label("API key").fill(new_key(server))
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#link-state")).to_have_text("Live")
        page.get_by_role("button", name="Use the camera").click()
        toggle(page).check()
        expect(page.locator("#camera-live-words")).to_have_text("1 face in the picture")
    finally:
        context.close()
        server.stop()
    server.check_log()


def test_the_example_in_the_documents(shared_server: Server, open_page: OpenPage) -> None:
    text = (Path(__file__).parents[2] / "docs/live.md").read_text()
    example = re.search(r"^```js\n([^`]*v1/live/detect[^`]*)^```", text, re.MULTILINE)
    assert example is not None
    page = open_page(shared_server, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    expect(toggle(page)).to_be_enabled()
    with page.expect_console_message(lambda line: line.text == "3 1"):  # the third frame has one face
        page.evaluate(example[1] + "undefined")  # else Playwright calls the last function
