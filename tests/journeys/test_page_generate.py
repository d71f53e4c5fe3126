"""The page's part for making pictures: choosing a style, comparing, previews, running again, the own history."""

import io
import json
import re
from typing import Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, WebSocketRoute, expect

from tests.conftest import as_jpeg
from tests.journeys.client import submit
from tests.journeys.server import Server
from tests.journeys.test_page import (
    CONTRASTS,
    OpenPage,
    add,
    chromium,
    complaints,
    different,
    expect_announced,
    fulfil,
    job_json,
    no_sideways_scroll,
    open_page,
    photo,
    pixels_at,
    shot,
)

__all__ = ["chromium", "complaints", "open_page"]  # the fixtures
Pixels = npt.NDArray[np.uint8]


def to_generate(page: Page) -> None:
    page.get_by_role("radio", name="Generate").check(force=True)


def slider_of(page: Page) -> Locator:
    """The line between original and result."""
    return page.get_by_role("slider", name="How much of the original is shown")


def made(server: Server, content: bytes, **fields: str) -> dict[str, Any]:
    """A picture that another client has made."""
    return submit(server, content, wait=True, path="/v1/generate", **{"style": "ink", "seed": "1", **fields})


def seen(locator: Locator) -> Pixels:
    """What is on the screen, (H, W, 3) RGB."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))


def far(one: Pixels, other: Pixels) -> float:
    """The mean difference of two pictures, the second scaled to the first."""
    scaled = cv2.resize(other, (one.shape[1], one.shape[0]), interpolation=cv2.INTER_AREA)
    return float(np.abs(one.astype(int) - scaled).mean())


def test_from_a_photo_to_a_picture(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    to_generate(page)
    expect(page.locator(".tile")).to_have_count(11)
    expect(page.locator(".tile img").first).to_have_js_property("complete", True)
    page.get_by_role("button", name="Make the picture").click()
    expect(page.get_by_text("Choose a photo first.")).to_be_visible()
    expect(page.locator("#drop")).to_be_focused()
    expect(page.get_by_role("button", name="Show my photo in these styles")).to_be_hidden()
    add(page, photo(different(astronaut, 200)))
    expect(page.locator("#tray img")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)  # it is not sent before it is wanted

    page.get_by_role("button", name="Show my photo in these styles").click()
    expect(page.locator(".tile canvas")).to_have_count(11)
    expect_announced(page, "The styles now show your photo.")
    ink = page.locator(".tile", has_text="Ink")
    shades = """canvas => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const greys = Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
      return [canvas.width, greys.filter((each) => each < 60 || each > 200).length / greys.length];
    }"""
    width, black_or_white = ink.locator("canvas").evaluate(shades)
    assert width == 160
    assert black_or_white > 0.8
    shot(page, "samples")
    jobs = httpx.get(f"{shared_server.url}/v1/jobs", params={"operation": "samples"}).json()["jobs"]
    assert jobs == [], "nothing of the samples stays at the service"
    expect(page.locator(".card")).to_have_count(0)

    ink.click()
    page.get_by_label("Detail").fill("0.8")
    expect(page.get_by_label("Tones")).to_have_count(0)
    with page.expect_response("**/v1/generate") as answer:
        page.get_by_role("button", name="Make the picture").click()
    parameters = httpx.get(answer.value.json()["url"]).json()["parameters"]
    assert {"painter": "drawn", "style": "ink", "detail": 0.8, "blacks": 0.5}.items() <= parameters.items()
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text(re.compile(r"^Drawn: \w+$"))
    expect(card.locator("img")).to_have_attribute("src", re.compile(r"/thumbnail"))
    expect(page.locator("#tray img")).to_be_visible()  # for the next style
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#drop")).to_be_focused()
    expect(page.locator(".tile canvas")).to_have_count(0)


def test_samples_give_way_to_other_work(
    shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes, complaints: list[str]
) -> None:
    def busy(route: Route) -> None:
        route.fulfill(status=429, json={"title": "Queue full", "detail": "The queue is full."})

    page = open_page(shared_server, before=lambda page: page.route("**/v1/samples", busy))
    to_generate(page)
    add(page, photo(astronaut_jpeg))
    button = page.get_by_role("button", name="Show my photo in these styles")
    button.click()
    expect(page.get_by_text("Other work comes first. Try again in a moment.")).to_be_visible()
    expect(button).to_be_focused()
    expect(page.locator(".tile canvas")).to_have_count(0)
    complaints[:] = [line for line in complaints if "429" not in line]


def test_original_and_result_are_compared(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    content = different(astronaut, 201)
    job = made(shared_server, content)
    result = pixels_at(job["artifacts"][0]["url"])
    page = open_page(shared_server)
    page.locator(f'[data-job="{job["id"]}"] .frame').click()
    stage, slider = page.locator(".compare"), slider_of(page)
    expect(slider).to_have_attribute("aria-valuetext", "50 % original")
    shot(page, "compare")

    def sides() -> tuple[bool, bool]:
        """Whether the left and the right part, without the line and the words, show the original."""
        both = seen(stage)
        height, width = both.shape[:2]
        answer = []
        for part in (np.s_[height // 8 : height // 3, width // 20 : width // 3], np.s_[-height // 3 :, -width // 3 :]):
            whole = [cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA) for each in (astronaut, result)]
            to_original, to_result = (far(both[part], each[part]) for each in whole)
            assert min(to_original, to_result) < 8 < max(to_original, to_result)
            answer.append(to_original < to_result)
        return answer[0], answer[1]

    assert sides() == (True, False)
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0 % original")
    assert sides() == (False, False)
    page.keyboard.press("End")
    expect(page.locator(".compare-tag.right")).to_have_css("opacity", "0")
    assert sides() == (True, True)
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_value("99")
    expect(page.get_by_role("dialog")).to_be_visible()  # arrows outside the slider show the next picture

    area = stage.bounding_box()
    assert area is not None
    for share in (0, 0.25, 0.75, 1):
        x = area["x"] + min(max(share * area["width"], 1), area["width"] - 1)
        page.mouse.click(x, area["y"] + 40)
        assert float(slider.input_value()) == pytest.approx(100 * share, abs=1), "the line goes where the pointer is"
    page.mouse.move(area["x"] + area["width"] - 1, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.4 * area["width"], area["y"] + 80, steps=4)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(40, abs=1)
    expect(page.locator(".side")).to_contain_text("ink")


def test_pictures_of_other_shapes_are_shown_side_by_side_and_takes_are_chosen(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    content = different(astronaut, 202)
    job = made(shared_server, content, style="pixel", count="2")
    wide = as_jpeg(astronaut[:300])

    def other_shape(route: Route) -> None:
        route.fulfill(body=wide, content_type="image/jpeg")

    page = open_page(shared_server, before=lambda page: page.route("**/artifacts/image-2.jpg", other_shape))
    page.locator(f'[data-job="{job["id"]}"] .frame').click()
    expect(page.get_by_role("dialog", name="2 pictures, pixel")).to_be_visible()
    expect(slider_of(page)).to_be_visible()
    page.get_by_role("radio", name="Seed 2").check(force=True)
    expect(page.locator(".compare.beside")).to_be_visible()
    expect(slider_of(page)).to_be_hidden()
    left, right = (
        page.locator(f".beside > {each}").bounding_box() for each in (".compare-before", ".zoomed:first-child")
    )
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"] + 1
    shot(page, "beside")


def test_an_original_that_the_browser_cannot_show(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    file = io.BytesIO()
    Image.fromarray(astronaut).save(file, "TIFF")
    job = made(shared_server, file.getvalue(), style="pixel", format="png")
    page = open_page(shared_server)
    page.locator(f'[data-job="{job["id"]}"] .frame').click()
    expect(page.get_by_text("The original is in a format that this browser cannot show.")).to_be_visible()
    expect(slider_of(page)).to_be_hidden()
    expect(page.locator(".compare img").first).to_be_visible()


def test_a_running_job_shows_what_it_has_so_far(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    sockets: list[WebSocketRoute] = []
    shown = [as_jpeg(np.full((30, 40, 3), level, np.uint8)) for level in (40, 220)]
    asked: list[str] = []
    running = job_json(3, "generate") | {"status": "running", "finished_at": None, "progress": 0.0}

    def accept(socket: WebSocketRoute) -> None:
        sockets.append(socket)

    def preview(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body=shown[len(set(asked)) > 1], content_type="image/jpeg")

    def stub(page: Page) -> None:
        page.route_web_socket("**/v1/events", accept)
        page.route("**/v1/jobs?*", fulfil({"jobs": [running], "next_cursor": None}))
        page.route("**/v1/jobs/job-3", lambda route: route.fulfill(json=running))
        page.route("**/v1/jobs/job-3/preview?*", preview)

    def tell(number: int, progress: float) -> None:
        told = {"id": "job-3", "operation": "generate", "status": "running", "progress": progress, "artifacts": []}
        told["preview"] = f"{shared_server.url}/v1/jobs/job-3/preview?expires=1&signature=s"
        running.update(told)
        event = {"id": number, "type": "job.progress", "time": "2026-01-01T00:00:02Z", "job": told}
        sockets[0].send(json.dumps(event))

    def level(image: Locator) -> float:
        return float(seen(image)[5:-5, 5:-5].mean())

    page = open_page(shared_server, before=stub)
    card = page.locator('[data-job="job-3"]')
    expect(card.locator("h3")).to_have_text("Running")
    tell(10, 0.25)
    expect(card.locator("h3")).to_have_text("Running, 25 %")
    expect(card.locator("img")).to_have_attribute(
        "src", re.compile(r"/job-3/preview\?expires=1&signature=s&version=10$")
    )
    expect(card.locator("img")).to_have_css("opacity", "1")
    card.locator(".frame").click()
    dialog = page.get_by_role("dialog", name="Running, 25 %")
    expect(dialog.get_by_text("This is what it looks like so far.")).to_be_visible()
    first = level(dialog.locator(".live img"))
    tell(11, 0.75)
    expect(page.locator(".live img")).to_have_attribute("src", re.compile("version=11$"))
    assert level(page.locator(".live img")) > first + 100
    assert float(page.locator("#viewer progress").evaluate("bar => bar.value")) == 0.75
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_visible()
    shot(page, "preview")


@pytest.mark.alone  # the page must ask for a preview before the job ends
def test_a_large_picture_is_shown_while_it_is_drawn(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    page = open_page(shared_server)
    to_generate(page)
    page.locator(".tile", has_text="Pointillism").click()
    large = cv2.resize(astronaut, (4000, 4000), interpolation=cv2.INTER_LINEAR)
    add(page, photo(as_jpeg(np.asarray(large, np.uint8))))
    with page.expect_response(lambda answer: "/preview?" in answer.url and answer.ok, timeout=60_000) as preview:
        page.get_by_role("button", name="Make the picture").click()
    size = Image.open(io.BytesIO(preview.value.body())).size
    assert max(size) == 768
    expect(page.locator(".card h3").first).to_have_text(re.compile("^Drawn: pointillism$"), timeout=60_000)
    # A preview may be asked for in the moment in which the job ends.
    complaints[:] = [line for line in complaints if "404" not in line]


def test_a_job_is_run_again_with_changes(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    content = different(astronaut, 203)
    job = made(shared_server, content, style="halftone", dot="2", inks="black", keep_colour="true", seed="77")
    page = open_page(shared_server)
    card = page.locator(f'[data-job="{job["id"]}"]')
    card.get_by_role("button", name="Again…").click()
    expect(page.get_by_role("radio", name="Generate")).to_be_checked()
    expect(page.get_by_role("radio", name="Halftone")).to_be_checked()
    expect(page.get_by_label("Dot")).to_have_value("2")
    expect(page.get_by_role("radio", name="Black")).to_be_checked()
    expect(page.get_by_label("Seed")).to_have_value("77")
    expect(page.get_by_role("switch", name="Keep colours")).to_be_checked()
    expect(page.locator("#tray img")).to_be_visible()
    expect(page.get_by_role("button", name="Make the picture")).to_be_focused()
    shot(page, "again")

    page.keyboard.press("Enter")  # without a change it is the same work
    expect(page.locator(".card.mine .facts").last).to_contain_text("cached")
    page.locator(".tile", has_text="Pop art").click()
    page.get_by_role("switch", name="Keep colours").uncheck()
    with page.expect_response("**/v1/generate") as answer:
        page.get_by_role("button", name="Make the picture").click()
    changed = httpx.get(answer.value.json()["url"]).json()
    wanted = {"style": "pop-art", "palette": "sunset", "seed": 77, "keep_colour": False}
    assert wanted.items() <= changed["parameters"].items()
    assert httpx.get(changed["inputs"][0]["url"]).content == content, "the photo itself, not a copy of it"


def test_other_operations_are_run_again_too(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    content = different(astronaut, 204)
    job = submit(shared_server, content, wait=True, mark="blur", min_score="0.65", precise="true")
    page = open_page(shared_server)
    to_generate(page)
    page.locator(f'[data-job="{job["id"]}"] .frame').click()
    page.get_by_role("dialog").get_by_role("button", name="Run again with changes").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("radio", name="Detect")).to_be_checked()
    expect(page.get_by_role("radio", name="Blur")).to_be_checked()
    expect(page.get_by_label("Minimum score")).to_have_value("0.65")
    page.get_by_role("radio", name="Pixelate").check(force=True)
    with page.expect_response("**/v1/detect") as answer:
        page.get_by_role("button", name="Run", exact=True).click()
    parameters = httpx.get(answer.value.json()["url"]).json()["parameters"]
    assert {"mark": "pixelate", "min_score": 0.65, "precise": True}.items() <= parameters.items()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_hidden()
    with page.expect_response("**/v1/detect"):
        add(page, photo(different(astronaut, 205)))  # as before: sent at once


def test_a_job_that_is_gone_cannot_be_run_again(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    job = made(shared_server, different(astronaut, 206), style="pixel")
    page = open_page(shared_server, before=lambda page: page.route_web_socket("**/v1/events", lambda _: None))
    card = page.locator(f'[data-job="{job["id"]}"]')
    expect(card).to_be_visible()
    httpx.delete(job["url"])
    card.get_by_role("button", name="Again…").click()
    expect(card).to_contain_text("It cannot be run again. The job does not exist.")
    complaints[:] = [line for line in complaints if "404" not in line]


HOSTED = {
    "name": "openai",
    "summary": "Any server.",
    "licence": "theirs",
    "lanes": ["remote"],
    "ready": True,
    "reason": None,
    "preview": None,
    "styles": {},
}
WAITING = {**HOSTED, "name": "stability", "ready": False, "reason": "Set `STABILITY_API_KEY`."}


def test_painters_of_other_servers(shared_server: Server, open_page: OpenPage) -> None:
    sent: list[str] = []

    def take(route: Route) -> None:
        sent.append((route.request.post_data_buffer or b"").decode("latin-1"))
        route.fulfill(json=job_json(1, "generate", result={"painter": "openai", "pictures": []}))

    def stub(page: Page) -> None:
        page.route("**/v1/painters", fulfil({"painters": [HOSTED, WAITING]}))
        page.route("**/v1/generate", take)

    page = open_page(shared_server, before=stub)
    to_generate(page)
    painter = page.get_by_label("Painter", exact=True)
    assert painter.locator("option[value=stability]").is_disabled()
    page.get_by_text("1 painter not ready").click()
    expect(page.locator(".reasons")).to_contain_text("Set STABILITY_API_KEY.")
    painter.select_option("openai")
    expect(page.get_by_text("The photo is sent to another server.")).to_be_visible()
    expect(page.locator(".tiles")).to_be_hidden()
    page.get_by_role("button", name="Make the picture").click()
    expect(page.get_by_label("Words", exact=True)).to_be_focused()  # required
    page.get_by_label("Words", exact=True).fill("a <b>king</b>")
    server = page.get_by_label("Server", exact=True)
    server.fill("No such name")  # the schema has a pattern for it
    page.get_by_role("button", name="Make the picture").click()
    expect(server).to_be_focused()
    assert "must have the form" in server.evaluate("input => input.validationMessage")
    assert sent == []
    server.fill("openai")
    page.get_by_role("button", name="Make the picture").click()
    expect(page.locator(".card", has_text="Made by Openai")).to_be_visible()
    assert re.findall(r'name="(\w+)"', sent[0]) == ["painter", "prompt"]
    shot(page, "hosted")


def test_presets_are_chosen_like_styles(shared_server: Server, open_page: OpenPage) -> None:
    diffusion = {**HOSTED, "name": "diffusion", "lanes": ["gpu"]}
    sent: list[str] = []

    def take(route: Route) -> None:
        sent.append((route.request.post_data_buffer or b"").decode("latin-1"))
        route.fulfill(json=job_json(len(sent), "generate", result={"painter": "diffusion", "pictures": []}))

    def stub(page: Page) -> None:
        page.route("**/v1/painters", fulfil({"painters": [diffusion]}))
        page.route("**/v1/generate", take)

    page = open_page(shared_server, before=stub)
    to_generate(page)
    page.get_by_label("Painter", exact=True).select_option("diffusion")
    expect(page.get_by_role("radio", name="Your words")).to_be_checked()
    page.get_by_label("Prompt", exact=True).fill("a king")
    run = page.get_by_role("button", name="Make the picture")
    run.click()
    expect(page.locator('[data-job="job-1"]')).to_be_visible()
    page.locator(".tile", has_text="Cartoon film").first.click()
    run.click()
    expect(page.locator('[data-job="job-2"]')).to_be_visible()
    names = [re.findall(r'name="(\w+)"', each) for each in sent]
    assert names == [["painter", "prompt"], ["painter", "preset", "prompt"]]
    assert "cartoon-film" in sent[1]
    shot(page, "presets")


def test_a_style_of_the_users_own_needs_its_picture(
    shared_server: Server, open_page: OpenPage, astronaut_jpeg: bytes
) -> None:
    styles = {**HOSTED, "name": "styles", "lanes": ["cpu"], "styles": {}}
    page = open_page(shared_server, before=lambda page: page.route("**/v1/painters", fulfil({"painters": [styles]})))
    to_generate(page)
    page.get_by_label("Painter", exact=True).select_option("styles")
    expect(page.get_by_role("radio", name="Ochre")).to_be_checked()
    expect(page.get_by_label("Style picture")).to_be_hidden()  # under "More options"
    page.locator(".tile", has_text="Your picture").click()
    expect(page.get_by_label("Style picture")).to_be_visible()
    add(page, photo(astronaut_jpeg))
    page.get_by_role("button", name="Make the picture").click()
    expect(page.get_by_label("Style picture")).to_be_focused()
    expect(page.locator(".card.mine")).to_have_count(0)


def test_the_own_pictures_are_remembered(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    mine, gone = (made(shared_server, different(astronaut, number), style="pixel") for number in (207, 208))
    httpx.delete(gone["url"])
    ids = json.dumps([mine["id"], gone["id"]])
    script = f"localStorage.setItem('limner-mine', localStorage.getItem('limner-mine') ?? '{ids}')"

    def stub(page: Page) -> None:
        page.add_init_script(script)
        page.route("**/v1/jobs?*", fulfil({"jobs": [job_json(1)], "next_cursor": None}))  # those of others, newer

    page = open_page(shared_server, before=stub)
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_label("Only mine").check()
    expect(page.locator(f'[data-job="{mine["id"]}"]')).to_be_visible()
    expect(page.locator('[data-job="job-1"]')).to_be_hidden()
    assert page.evaluate("localStorage.getItem('limner-mine')") == json.dumps([mine["id"]])
    page.get_by_role("button", name="Forget my list").click()
    expect(page.get_by_text("No pictures yet")).to_be_visible()
    assert page.evaluate("localStorage.getItem('limner-mine')") == "[]"
    page.get_by_label("Only mine").uncheck()
    expect(page.locator('[data-job="job-1"]')).to_be_visible()
    complaints[:] = [line for line in complaints if "404" not in line]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": scheme}
    page = open_page(shared_server, **phone)
    to_generate(page)
    add(page, photo(different(astronaut, 209)))
    run = page.get_by_role("button", name="Make the picture")
    expect(run).to_be_in_viewport()  # without scrolling past the styles
    page.locator(".tile", has_text="Pixel").tap()
    assert no_sideways_scroll(page)
    contrasts: dict[str, float] = page.evaluate(CONTRASTS)
    assert min(contrasts.values()) >= 4.5, contrasts
    shot(page, f"phone-generate-{scheme}")
    run.tap()
    card = page.locator(".card.mine").first
    expect(card.locator("h3")).to_have_text(re.compile(r"^Drawn: \w+$"))
    card.locator(".frame").tap()
    stage = page.locator(".compare")
    expect(slider_of(page)).to_be_visible()
    area = stage.bounding_box()
    assert area is not None
    page.touchscreen.tap(area["x"] + 0.2 * area["width"], area["y"] + area["height"] / 2)
    assert float(slider_of(page).input_value()) == pytest.approx(20, abs=2)
    assert page.locator("#viewer").evaluate("each => each.scrollWidth <= each.clientWidth")
    shot(page, f"phone-compare-{scheme}")


def test_by_keyboard_alone(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    page = open_page(shared_server)
    to_generate(page)
    add(page, photo(different(astronaut, 210)))
    page.get_by_label("Painter", exact=True).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Cartoon")).to_be_focused()
    outline = "input => getComputedStyle(input.nextElementSibling).outlineStyle"
    assert page.get_by_role("radio", name="Cartoon").evaluate(outline) == "solid"
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Ink")).to_be_checked()
    expect(page.get_by_label("Blacks")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show my photo in these styles")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".tile canvas")).to_have_count(11)
    expect(page.get_by_role("radio", name="Ink")).to_be_focused()
