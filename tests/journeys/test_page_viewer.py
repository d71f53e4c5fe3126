"""The page's viewer: size, faces, covering, mesh, contours of one face, crops, notes; and that everybody can use it."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.conftest import as_jpeg
from tests.journeys.client import finished, submit
from tests.journeys.server import Server
from tests.journeys.test_page import (
    OpenPage,
    add,
    chromium,
    complaints,
    expect_accessible,
    no_sideways_scroll,
    open_page,
    photo,
    shot,
)

__all__ = ["chromium", "complaints", "open_page"]  # the fixtures
Pixels = npt.NDArray[np.uint8]
Job = dict[str, Any]
Make = Callable[..., Job]
STEPS = [{"operation": "detect", "mark": "blur"}, {"operation": "generate", "style": "pixel", "name": "small"}]


@pytest.fixture(scope="module")
def two(astronaut: Pixels) -> bytes:
    """Two faces, the left one larger."""
    small = cv2.resize(astronaut[:, ::-1], (400, 400), interpolation=cv2.INTER_AREA)
    beside = np.full((512, 400, 3), 90, np.uint8)
    beside[112:] = small
    return as_jpeg(np.concatenate([astronaut, beside], axis=1), 92)


@pytest.fixture(scope="module")
def make(shared_server: Server, two: bytes) -> Make:
    """Makes a job of the photo with two faces, as another client does; each once."""
    made: dict[str, Job] = {}

    def make(operation: str, content: bytes = two, **fields: str) -> Job:
        key = json.dumps([operation, len(content), fields])
        if key not in made:
            made[key] = submit(shared_server, content, wait=True, path=f"/v1/{operation}", **fields)
        return made[key]

    return make


def show(page: Page, job: Job) -> Locator:
    """Open the viewer of a job, as a link does."""
    page.evaluate("id => { location.hash = `job=${id}` }", job["id"])
    viewer = page.locator("#viewer")
    expect(viewer.locator(".values").last).to_contain_text(job["id"])
    page.wait_for_function("() => [...document.querySelectorAll('#viewer img')].every((each) => each.complete)")
    return viewer


def now(server: Server, page: Page, other_than: Job) -> Job:
    """The job that the viewer shows, once it is another one, when it has ended."""
    expect(page).not_to_have_url(re.compile(other_than["id"]))
    return finished(server, page.url.partition("#job=")[2])


def pixels_of(url: str) -> npt.NDArray[np.int64]:
    """The picture at an address, (H, W, 3) RGB."""
    return np.asarray(Image.open(io.BytesIO(httpx.get(url, timeout=60).content)).convert("RGB")).astype(int)


def zoom_of(page: Page) -> float:
    return float(page.locator(".zoomable").first.evaluate("each => each.zoom.scale"))


def test_a_picture_is_enlarged_by_wheel_keys_buttons_double_click_and_moved(
    open_page: OpenPage, shared_server: Server, make: Make
) -> None:
    page = open_page(shared_server)
    viewer = show(page, make("generate", style="ink", seed="1"))
    stage = page.locator(".zoomable")
    area = stage.bounding_box()
    assert area is not None
    corner = (area["x"] + 20, area["y"] + 20)
    page.mouse.move(*corner)
    page.mouse.wheel(0, -300)
    assert zoom_of(page) > 1.5
    shift = "each => ['--pan-x', '--pan-y'].map((name) => getComputedStyle(each).getPropertyValue(name))"
    before = [float(each[:-2]) for each in stage.evaluate(shift)]
    assert all(-30 < each <= 0 for each in before), "what is below the pointer stays there"
    page.mouse.move(area["x"] + 300, area["y"] + 200)
    page.mouse.down()
    page.mouse.move(area["x"] + 200, area["y"] + 150, steps=4)
    page.mouse.up()
    assert [float(each[:-2]) for each in stage.evaluate(shift)] == pytest.approx(
        [before[0] - 100, before[1] - 50], abs=2
    )
    expect(viewer.get_by_role("slider")).to_have_value("50")  # the drag has moved the picture, not the line
    line = page.locator(".compare-line").bounding_box()
    assert line is not None
    page.mouse.move(line["x"] + line["width"] / 2, line["y"] + line["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + area["height"] / 2, steps=4)
    page.mouse.up()
    assert float(viewer.get_by_role("slider").input_value()) == pytest.approx(25, abs=2)
    shot(page, "viewer-enlarged")

    page.keyboard.press("0")
    assert zoom_of(page) == 1
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert zoom_of(page) == pytest.approx(2.25)
    stage.focus()
    x = stage.evaluate(shift)[0]
    page.keyboard.press("ArrowRight")
    assert stage.evaluate(shift)[0] != x
    page.keyboard.press("-")
    expect(page.locator(".zoom-scale")).to_have_text("150 %")
    viewer.get_by_role("button", name="Larger").click()
    expect(page.locator(".zoom-scale")).to_have_text("225 %")
    viewer.get_by_role("button", name="Whole picture").click()
    expect(page.locator(".zoom-scale")).to_have_text("100 %")
    page.mouse.dblclick(area["x"] + 50, area["y"] + 50)
    assert zoom_of(page) == pytest.approx(2.5)
    page.mouse.dblclick(area["x"] + 50, area["y"] + 50)
    assert zoom_of(page) == 1
    assert page.locator(".zoomed").first.evaluate("each => getComputedStyle(each).transitionDuration") in ("0s", "")


def test_a_picture_is_enlarged_by_two_fingers(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    page = open_page(shared_server, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    viewer = show(page, make("generate", style="ink", seed="1"))
    area = page.locator(".zoomable").bounding_box()
    assert area is not None
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    devtools = page.context.new_cdp_session(page)

    def touch(kind: str, *apart: float) -> None:
        points = [{"x": x + side * each, "y": y, "id": number} for each in apart for number, side in enumerate((-1, 1))]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for apart in (40, 60, 90):
        touch("touchMove", apart)
    touch("touchEnd")
    assert zoom_of(page) == pytest.approx(3, abs=0.3)
    expect(viewer.get_by_role("slider")).to_have_value(re.compile(r"^(4\d|5\d)$"))  # the line is where it was
    shot(page, "viewer-pinched")


def test_the_jobs_before_and_after(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    jobs = [make("detect", mark="none"), make("crop"), make("detect", mark="pixelate")]
    page = open_page(shared_server)
    cards = [each.get_attribute("data-job") for each in page.locator(".card[data-job]").all()]
    order = sorted(jobs, key=lambda job: cards.index(job["id"]))
    viewer = show(page, order[1])
    place = cards.index(order[1]["id"])
    older, newer = (
        viewer.get_by_role("button", name="Older picture"),
        viewer.get_by_role("button", name="Newer picture"),
    )
    older.click()
    expect(page).to_have_url(re.compile(str(cards[place + 1])))
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(str(cards[place])))
    newer.click()
    expect(page).to_have_url(re.compile(str(cards[place - 1])))
    show(page, {"id": cards[0]})
    expect(newer).to_be_disabled()
    expect(older).to_be_enabled()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(str(cards[1])))
    page.keyboard.press("Escape")
    expect(page.locator(f'[data-job="{cards[1]}"] .frame')).to_be_focused()


DRAWN = "each => each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some((value) => value > 0)"


def test_faces_have_small_pictures_and_those_that_are_covered_only_when_asked_for(
    open_page: OpenPage, shared_server: Server, make: Make
) -> None:
    page = open_page(shared_server)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    viewer = show(page, make("detect"))
    crops = viewer.locator(".faces .face-crop.drawn")
    expect(crops).to_have_count(2)
    assert all(each.evaluate(DRAWN) for each in crops.all())
    viewer.locator(".face rect").first.click()
    expect(viewer.locator(".faces li").first).to_be_focused()
    expect(viewer.locator(".face").first).to_have_class(re.compile("lit"))
    shot(page, "viewer-faces")

    asked.clear()
    covered = make("detect", mark="blur")
    viewer = show(page, covered)
    expect(viewer.locator(".faces li")).to_have_count(len(covered["result"]["faces"]))
    expect(viewer.locator(".face-crop")).to_have_count(0)
    expect(viewer.get_by_role("slider")).to_be_hidden()
    viewer.get_by_role("button", name="Change what is covered").click()
    expect(viewer.locator(".face-crop")).to_have_count(0)
    assert not [url for url in asked if "/inputs/" in url], "the bare photo is not even loaded"
    viewer.get_by_role("button", name="Cancel", exact=True).click()
    viewer.get_by_role("button", name="Show the original").click()
    expect(viewer.locator(".faces .face-crop.drawn")).to_have_count(len(covered["result"]["faces"]))
    expect(viewer.get_by_role("slider")).to_be_visible()
    assert [url for url in asked if "/inputs/image" in url]

    asked.clear()
    viewer = show(page, make("pipeline", steps=json.dumps(STEPS)))
    expect(viewer.locator(".step-shown")).to_have_count(2)
    expect(viewer.get_by_role("button", name="Show the original")).to_have_count(2)
    assert not [url for url in asked if "/inputs/" in url], "no step shows what another one covers"


def test_a_face_is_uncovered_by_a_click_and_a_place_covered_by_a_box(
    open_page: OpenPage, shared_server: Server, make: Make, two: bytes
) -> None:
    job = make("detect", mark="blur", format="png")
    page = open_page(shared_server)
    viewer = show(page, job)
    faces = [each["box"] for each in job["result"]["faces"]]
    left = min(range(len(faces)), key=lambda number: faces[number]["x"])
    viewer.locator(".face rect").nth(left).click()
    expect(viewer.get_by_role("checkbox", name=f"Face {left + 1}", exact=True)).not_to_be_checked()
    area = page.locator(".areas-drawn").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 0.1, area["y"] + area["height"] * 0.6)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.8, steps=4)
    page.mouse.up()
    expect(viewer.get_by_role("checkbox", name="Box 1", exact=True)).to_be_checked()
    viewer.get_by_label("Cover with").select_option("solid")
    shot(page, "viewer-cover")
    viewer.get_by_role("button", name="Apply").click()
    made = now(shared_server, page, job)
    assert made["parameters"]["mark"] == "solid"
    assert len(made["parameters"]["boxes"]) == len(faces)
    result, original = pixels_of(made["artifacts"][0]["url"]), pixels_of(made["inputs"][0]["url"])
    height, width = original.shape[:2]
    assert result[round(0.62 * height) : round(0.78 * height), round(0.12 * width) : round(0.28 * width)].max() == 0
    box = {name: round(value) for name, value in faces[left].items()}
    inside = np.s_[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
    assert np.abs(result[inside] - original[inside]).max() == 0, "uncovered"
    other = {name: round(value) for name, value in faces[1 - left].items()}
    assert result[other["y"] : other["y"] + other["height"], other["x"] : other["x"] + other["width"]].max() == 0
    expect(viewer.get_by_role("button", name="Change what is covered")).to_be_visible()
    shot(page, "viewer-covered")


def test_covering_by_keyboard(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    make("crop")  # an older picture
    job = make("detect", precise="true")
    make("detect", mark="none", precise="true")  # a newer one
    page = open_page(shared_server)
    viewer = show(page, job)
    viewer.get_by_role("button", name="Cover faces…").focus()
    page.keyboard.press("Enter")
    first = viewer.get_by_role("checkbox", name="Face 1", exact=True)
    expect(first).to_be_focused()
    page.keyboard.press("Space")
    expect(first).not_to_be_checked()
    viewer.get_by_role("button", name="Add a box").focus()
    page.keyboard.press("Enter")
    box = viewer.get_by_role("checkbox", name="Cover box 1")
    expect(box).to_be_focused()
    where = "each => ['x', 'y', 'width', 'height'].map((name) => Number(each.querySelector('rect').getAttribute(name)))"
    before = box.evaluate(where)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    after = box.evaluate(where)
    assert after[0] > before[0]
    assert after[3] > before[3]
    assert after[1:3] == before[1:3]
    expect(page).to_have_url(re.compile(job["id"]))  # the arrows were for the box
    page.keyboard.press("Space")
    expect(box).to_have_attribute("aria-checked", "false")
    page.keyboard.press("Enter")
    for key in ("ArrowRight", "ArrowLeft"):  # what is edited is not lost for the picture beside it
        viewer.get_by_role("button", name="Add a box").press(key)
        expect(page).to_have_url(re.compile(job["id"]))
        expect(box).to_be_visible()
    page.mouse.click(5, 5)  # beside the viewer
    expect(box).to_be_visible()
    viewer.get_by_role("button", name="Add a box").press("Enter")
    page.keyboard.press("Delete")
    expect(viewer.get_by_role("checkbox", name="Box 2", exact=True)).to_have_count(0)
    viewer.get_by_role("button", name="Apply").focus()
    page.keyboard.press("Enter")
    made = now(shared_server, page, job)
    assert made["parameters"]["mark"] == "blur"
    assert made["parameters"]["precise"] is True
    assert len(made["parameters"]["boxes"]) == len(job["result"]["faces"])


def test_mesh_and_pose_are_drawn_when_wanted(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    page = open_page(shared_server)
    job = make("detect", mark="none")
    viewer = show(page, job)
    viewer.get_by_role("button", name="Find mesh and pose").click()
    made = now(shared_server, page, job)
    mesh = viewer.locator(".mesh")
    expect(mesh).to_have_attribute("visibility", "hidden")
    viewer.get_by_label("Show the mesh").check()
    expect(mesh).to_have_attribute("visibility", "visible")
    viewer.get_by_label("Show where the heads point").check()
    expect(viewer.locator(".pose-look")).to_have_count(2)
    expect(viewer.locator(".faces li").first).to_contain_text("Looks ")
    box = made["result"]["faces"][0]["box"]
    inside = """(each, box) => { const bounds = each.getBBox();
      return bounds.x > box.x - box.width && bounds.x + bounds.width < box.x + 2 * box.width; }"""
    assert viewer.locator(".mesh-lines").first.evaluate(inside, box)
    shot(page, "viewer-mesh")


def test_a_new_job_is_not_opened_over_another_picture(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    page = open_page(shared_server)
    other, job = make("crop"), make("detect", mark="none", min_score="0.6")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/rerun", hold)
    with page.expect_request("**/rerun"):
        show(page, job).get_by_role("button", name="Find mesh and pose").click()
    show(page, other)
    page.evaluate("window.announced = []")
    held[0].continue_()
    page.wait_for_function("() => window.announced.some((line) => /It is being made|Done/.test(line))")
    expect(page).to_have_url(re.compile(other["id"]))
    expect(page.locator("#viewer .values").last).to_contain_text(other["id"])


def test_the_face_for_contours_is_chosen_on_the_photo(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    page = open_page(shared_server)
    job = make("contours")
    viewer = show(page, job)
    expect(viewer.locator(".notes")).to_contain_text("The photo has 2 faces")
    viewer.get_by_role("button", name="Draw the other faces too").click()
    every = now(shared_server, page, job)
    assert every["parameters"]["face"] == "all"
    viewer.locator(".numbered rect").nth(1).click()
    expect(viewer.get_by_role("radio", name="Face 2")).to_be_checked()
    shot(page, "viewer-contours")
    viewer.get_by_role("button", name="Draw only this face").click()
    one = now(shared_server, page, every)
    assert one["parameters"]["face"] == "2"
    assert one["result"]["mask_contours"] == every["result"]["faces"][1]["mask_contours"]

    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Contours").check(force=True)
    page.get_by_text("More options").click()
    page.get_by_role("radio", name="Number").check(force=True)
    page.get_by_label("Another value for face").fill("2")
    with page.expect_response("**/v1/contours") as answer:
        add(page, photo(httpx.get(one["inputs"][0]["url"]).content))
    assert httpx.get(answer.value.json()["url"]).json()["parameters"]["face"] == "2"


def test_what_a_result_says_of_itself_is_shown(
    open_page: OpenPage, shared_server: Server, make: Make, astronaut: Pixels
) -> None:
    deep = cv2.imencode(".png", astronaut[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    job = make("generate", deep, style="pixel", seed="3")
    assert job["result"]["notes"]
    page = open_page(shared_server)
    expect(show(page, job).get_by_role("region", name="Notes")).to_contain_text(job["result"]["notes"][0])
    steps = make("pipeline", deep, steps='[{"operation": "crop", "width": 90}]')
    expect(show(page, steps).locator(".step-shown .notes")).to_contain_text(job["result"]["notes"][0])


def cut(job: Job) -> list[float]:
    """Which part of the photo it shows: x, y, width, height."""
    crop = job["result"]["crops"][0]
    [[a, _, c], [_, e, f], _] = crop["transform"]
    return [-c / a, -f / e, crop["width"] / a, crop["height"] / e]


@pytest.mark.embedded
def test_a_crop_shows_its_frame_before_and_after(
    open_page: OpenPage, shared_server: Server, make: Make, two: bytes
) -> None:
    page = open_page(shared_server)
    page.get_by_role("radio", name="Crop").check(force=True)
    add(page, photo(two))
    frame = page.locator(".frame-preview .cut-frame")
    ratio = "each => Number(each.getAttribute('width')) / Number(each.getAttribute('height'))"
    assert frame.evaluate(ratio) == pytest.approx(1)
    expect(page.locator(".frame-preview")).to_contain_text("The frame is about 2 faces.")
    page.get_by_role("radio", name="16:9").check(force=True)
    assert frame.evaluate(ratio) == pytest.approx(16 / 9)
    place = "each => ['x', 'y', 'width', 'height'].map((name) => Number(each.getAttribute(name)))"
    page.locator("#options").get_by_role("radio", name="2:3").check(force=True)
    told = frame.evaluate(place)
    shot(page, "form-crop")
    with page.expect_response("**/v1/crop") as answer:
        page.get_by_role("button", name="Make the picture").click()
    job = finished(shared_server, answer.value.json()["id"])
    assert told == pytest.approx(cut(job), abs=0.06 * max(told[2:])), "the frame was shown where it was cut"
    card = page.locator(f'[data-job="{job["id"]}"]')
    expect(card.locator("h3")).to_have_text(re.compile(r"^Cropped: \d+ × \d+$"))
    card.locator(".frame").click()
    viewer = page.locator("#viewer")
    viewer.get_by_role("radio", name="Frame on the photo").check(force=True)
    expect(viewer.get_by_role("radio", name="2:3")).to_be_checked()
    viewer.get_by_role("radio", name="3:4").check(force=True)
    viewer.get_by_label("How close").fill("0.8")
    told = viewer.locator(".cut-frame").evaluate(place)
    shot(page, "viewer-crop")
    viewer.get_by_role("button", name="Crop like this").click()
    made = now(shared_server, page, job)
    assert (made["parameters"]["aspect"], made["parameters"]["zoom"]) == ("3:4", 0.8)
    assert told == pytest.approx(cut(made), abs=0.06 * max(told[2:])), "so it was in the viewer"


@pytest.mark.parametrize("width", [1440, 1280, 390])
def test_everybody_can_use_it(open_page: OpenPage, shared_server: Server, make: Make, width: int) -> None:
    scheme = "dark" if width == 1280 else "light"
    phone = {"has_touch": True, "is_mobile": True} if width == 390 else {}
    page = open_page(shared_server, viewport={"width": width, "height": 900}, color_scheme=scheme, **phone)
    shown = {
        "detect": make("detect", landmarks="mesh"),
        "blur": make("detect", mark="blur"),
        "generate": make("generate", style="ink", seed="1"),
        "crop": make("crop"),
        "contours": make("contours", face="all"),
        "pipeline": make("pipeline", steps=json.dumps(STEPS)),
    }
    for name, job in shown.items():
        viewer = show(page, job)
        viewer.get_by_text("Use it in a program").click()
        expect(viewer.locator(".code-place pre")).to_be_visible()
        if name == "blur":
            viewer.get_by_role("button", name="Change what is covered").click()
        expect_accessible(page, name)
        assert viewer.evaluate("each => each.scrollWidth <= each.clientWidth")
        shot(page, f"viewer-{name}-{width}-{scheme}")
    page.keyboard.press("Escape")
    for operation in ("Detect", "Contours", "Crop", "Generate", "Pipeline"):
        page.get_by_role("radio", name=operation).check(force=True)
        for more in page.locator("#options details > summary").all():
            if more.is_visible():
                more.click()
        expect_accessible(page, operation)
        assert no_sideways_scroll(page)


def test_a_job_that_is_opened_while_the_page_starts_is_drawn_once(
    open_page: OpenPage, shared_server: Server, make: Make
) -> None:
    job = make("detect")
    page = open_page(shared_server)
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/v1/operations", hold)
    page.reload()
    page.locator(f'.card[data-job="{job["id"]}"] .frame').click()
    viewer = page.locator("#viewer")
    viewer.get_by_text("JSON", exact=True).click()
    drawn = viewer.locator(".view").element_handle()
    assert waiting, "the page still starts"
    for route in waiting:
        route.continue_()
    expect(page.locator("#link-state")).to_have_text("Live")
    assert drawn.evaluate("each => each.isConnected")
    expect(viewer.locator(".json pre")).to_be_visible()


def test_a_job_that_ends_while_it_is_fetched_is_shown_with_its_result(
    open_page: OpenPage, shared_server: Server, make: Make
) -> None:
    job = make("detect")
    page = open_page(shared_server)
    before_its_end = [job | {"status": "running", "finished_at": None, "result": None, "artifacts": []}]

    def answer(route: Route) -> None:
        if before_its_end:
            route.fulfill(json=before_its_end.pop())
        else:
            route.continue_()

    page.route(f"**/v1/jobs/{job['id']}", answer)
    page.locator(f'.card[data-job="{job["id"]}"] .frame').click()
    viewer = page.locator("#viewer")
    viewer.get_by_text("JSON", exact=True).click()
    expect(viewer.locator(".json pre")).to_contain_text('"faces"')
