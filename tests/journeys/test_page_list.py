"""The page's list in headless Chromium: search, selection, undo, folders, memory, the keyboard, installing."""

import io
import json
import re
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.journeys.client import PATIENCE_S, submit
from tests.journeys.server import Server
from tests.journeys.test_page import (
    OpenPage,
    add,
    chromium,
    complaints,
    different,
    expect_accessible,
    expect_announced,
    job_json,
    no_sideways_scroll,
    open_page,
    photo,
    shot,
)

__all__ = ["chromium", "complaints", "open_page"]  # the fixtures

SIZES = {1440: 900, 1280: 900, 390: 844}


@pytest.fixture(scope="module")
def named(shared_server: Server, astronaut: npt.NDArray[np.uint8]) -> dict[str, str]:
    """Jobs of another client: their ids by label. No test takes these away."""
    made = {}
    for number, label in enumerate(["Anna.jpg", "Berta.jpg", "Cäsar.jpg", "Anna again.jpg"]):
        made[label] = submit(shared_server, different(astronaut, 200 + number), wait=True, label=label)["id"]
    made["oval.jpg"] = submit(
        shared_server, different(astronaut, 204), wait=True, path="/v1/contours", label="oval.jpg"
    )["id"]
    return made


def card_of(page: Page, name: str) -> Locator:
    return page.locator(".card", has=page.locator(".file", has_text=re.compile(f"^{re.escape(name)}$")))


def names(page: Page) -> list[str]:
    """What the list shows, in its order."""
    found: list[str] = page.locator(".card .file").all_inner_texts()
    return found


def exists(server: Server, job_id: str) -> bool:
    return httpx.get(f"{server.url}/v1/jobs/{job_id}", timeout=PATIENCE_S).status_code == 200


def gone(server: Server, job_id: str) -> None:
    """Wait until the job is erased."""
    deadline = time.monotonic() + PATIENCE_S
    while exists(server, job_id):
        assert time.monotonic() < deadline, "it was not deleted"
        time.sleep(0.05)


def test_the_list_has_names_and_small_pictures_and_asks_for_no_job(
    shared_server: Server, open_page: OpenPage, named: dict[str, str]
) -> None:
    asked: list[str] = []
    page = open_page(shared_server, before=lambda page: page.on("request", lambda request: asked.append(request.url)))
    card = card_of(page, "Anna.jpg")
    expect(card.locator("h3")).to_have_text("1 face")
    expect(card.locator("img")).to_have_attribute("src", re.compile(r"/thumbnail$"))
    expect(card.get_by_role("button", name="Open: Anna.jpg, 1 face")).to_be_visible()
    page.reload()
    expect(card.locator("h3")).to_have_text("1 face")
    expect(card_of(page, "oval.jpg").locator("img")).to_be_visible()
    assert [url for url in asked if re.search(r"/v1/jobs/[^/?]+$", url)] == []


def test_names_are_searched_and_lists_are_filtered(
    shared_server: Server, open_page: OpenPage, named: dict[str, str], astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    expect(card_of(page, "Berta.jpg")).to_be_visible()
    search = page.get_by_role("searchbox", name="Search names")
    search.fill("ANNA")
    expect(page.locator(".card")).to_have_count(2)
    assert names(page) == ["Anna again.jpg", "Anna.jpg"]
    expect_announced(page, "2 pictures found.")
    shot(page, "list-search")

    # What is sent meanwhile is shown if it fits.
    submit(shared_server, different(astronaut, 210), wait=True, label="other.jpg")
    submit(shared_server, different(astronaut, 211), wait=True, label="Susanna.jpg")
    expect(card_of(page, "Susanna.jpg")).to_be_visible()
    assert names(page) == ["Susanna.jpg", "Anna again.jpg", "Anna.jpg"]

    search.fill("nobody")
    expect(page.get_by_text("No picture found", exact=True)).to_be_visible()
    page.get_by_role("button", name="Show all pictures").click()
    expect(card_of(page, "other.jpg")).to_be_visible()
    expect(search).to_be_focused()

    page.get_by_label("Operation", exact=True).select_option("contours")
    expect(card_of(page, "Berta.jpg")).to_have_count(0)
    expect(card_of(page, "oval.jpg")).to_be_visible()
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_text("No picture found", exact=True)).to_be_visible()
    page.get_by_label("Status").select_option("succeeded")
    page.get_by_label("Operation", exact=True).select_option("")
    page.get_by_label("Time").select_option("today")
    expect(card_of(page, "Berta.jpg")).to_be_visible()
    page.get_by_label("Time").select_option("days")
    page.get_by_label("From", exact=True).fill("2001-01-01")
    page.get_by_label("to", exact=True).fill("2001-12-31")
    expect(page.get_by_text("No picture found", exact=True)).to_be_visible()
    page.get_by_label("to", exact=True).fill("2999-12-31")
    expect(card_of(page, "Berta.jpg")).to_be_visible()


def test_a_deletion_can_be_undone(shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]) -> None:
    page = open_page(shared_server)
    one, two = (
        submit(shared_server, different(astronaut, 220 + number), wait=True, label=f"undo {number}.jpg")["id"]
        for number in range(2)
    )
    first, second = (card_of(page, f"undo {number}.jpg") for number in range(2))
    first.get_by_role("button", name="Delete").click()
    expect(first).to_have_count(0)
    toast = page.get_by_role("region", name="Deletion")
    expect(toast).to_contain_text("undo 0.jpg will be deleted.")
    expect_announced(page, "undo 0.jpg will be deleted in 8 seconds.")
    toast.get_by_role("button", name="Undo").focus()  # it has the time that it takes
    expect_accessible(page, "the toast")
    shot(page, "list-undo")
    toast.get_by_role("button", name="Undo").click()
    expect(first.locator(".frame")).to_be_focused()
    assert exists(shared_server, one)

    first.locator(".frame").focus()
    page.keyboard.press("Delete")
    expect(first).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(first).to_be_visible()
    expect(toast).to_be_hidden()

    # The time runs out for two together.
    first.get_by_role("button", name="Delete").click()
    second.get_by_role("button", name="Delete").click()
    page.mouse.move(0, 0)
    expect(toast).to_contain_text("2 pictures will be deleted.")
    assert exists(shared_server, one)
    expect_announced(page, "2 pictures deleted.")
    assert not exists(shared_server, one)
    assert not exists(shared_server, two)


def test_leaving_the_page_deletes_what_waits(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    job_id = submit(shared_server, different(astronaut, 225), wait=True, label="leaving.jpg")["id"]
    page = open_page(shared_server)
    card_of(page, "leaving.jpg").get_by_role("button", name="Delete").click()
    expect(card_of(page, "leaving.jpg")).to_have_count(0)
    page.goto("about:blank")
    gone(shared_server, job_id)


def test_leaving_the_page_deletes_what_was_not_asked_for_yet(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    """Four are asked for at once, the others when there is an answer, which a page that is left does not get."""
    jobs = [
        submit(shared_server, different(astronaut, 270 + number), wait=True, label=f"leaves {number}.jpg")["id"]
        for number in range(6)
    ]
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "DELETE":
            held.append(route)
        else:
            route.fallback()

    page = open_page(shared_server, before=lambda page: page.route("**/v1/jobs/*", hold))
    page.get_by_role("searchbox").fill("leaves ")
    expect(page.locator(".card")).to_have_count(6)
    page.locator(".card .frame").first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Delete now").click()
    expect(page.get_by_role("region", name="Deletion")).to_be_hidden()
    assert len(held) == 4
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    expect(page.locator(".card")).to_have_count(0)
    assert len(held) == 6
    for route in held:
        route.continue_()
    for job_id in jobs:
        gone(shared_server, job_id)


def test_a_search_in_the_time_to_undo_brings_no_picture_back(
    shared_server: Server, open_page: OpenPage, named: dict[str, str], astronaut: npt.NDArray[np.uint8]
) -> None:
    ids = {
        label: submit(shared_server, different(astronaut, 280 + number), wait=True, label=label)["id"]
        for number, label in enumerate(["ghost.jpg", "returning.jpg"])
    }
    page = open_page(shared_server)
    search = page.get_by_role("searchbox", name="Search names")
    undo = page.get_by_role("button", name="Undo", exact=True)

    def delete_and_search(name: str) -> None:
        card_of(page, name).get_by_role("button", name="Delete").click()
        undo.hover()  # it has the time that it takes
        search.fill("nobody")
        expect(page.get_by_text("No picture found", exact=True)).to_be_visible()
        search.fill("")
        expect(card_of(page, "Anna.jpg")).to_have_count(1)
        expect(card_of(page, name)).to_have_count(0)

    delete_and_search("ghost.jpg")
    page.get_by_role("button", name="Delete now").click()
    expect_announced(page, "1 picture deleted.")
    assert not exists(shared_server, ids["ghost.jpg"])
    expect(card_of(page, "ghost.jpg")).to_have_count(0)

    delete_and_search("returning.jpg")
    undo.click()
    expect(card_of(page, "returning.jpg").locator(".frame")).to_be_focused()
    expect(card_of(page, "returning.jpg")).to_have_count(1)
    assert exists(shared_server, ids["returning.jpg"])


def test_what_cannot_be_deleted_comes_back_and_says_why(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], complaints: list[str]
) -> None:
    submit(shared_server, different(astronaut, 226), wait=True, label="stays.jpg")

    def refuse(route: Route) -> None:
        if route.request.method == "DELETE":
            route.fulfill(status=503, json={"title": "Unavailable", "detail": "The disk is full."})
        else:
            route.fallback()

    page = open_page(shared_server, before=lambda page: page.route("**/v1/jobs/*", refuse))
    card = card_of(page, "stays.jpg")
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete now").click()
    expect(card).to_contain_text("It was not deleted. The disk is full.")
    complaints[:] = [line for line in complaints if "503" not in line]


def test_many_are_selected_saved_run_again_and_deleted(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    jobs = [
        submit(shared_server, different(astronaut, 230 + number), wait=True, label=f"many {number}.jpg")["id"]
        for number in range(4)
    ]
    page.get_by_role("searchbox").fill("many ")
    expect(page.locator(".card")).to_have_count(4)
    bar = page.get_by_role("region", name="Selected pictures")
    expect(bar).to_be_hidden()

    def tick(number: int) -> Locator:
        return page.get_by_role("checkbox", name=f"Select many {number}.jpg, 1 face")

    tick(3).check()
    expect(bar).to_contain_text("1 selected")
    tick(1).click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    expect(tick(2)).to_be_checked()
    tick(2).uncheck()
    expect(page.locator(".card.selected")).to_have_count(2)
    shot(page, "list-selected")

    with page.expect_download() as download:
        bar.get_by_role("button", name="Save as zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"many 1", "many 3"}

    page.get_by_label("Blur").check()
    bar.get_by_role("button", name="Run with these options").click()
    expect(page.locator(".card")).to_have_count(6)
    expect(page.locator(".card[data-status=succeeded]")).to_have_count(6)
    expect(bar).to_be_hidden()
    listed = httpx.get(f"{shared_server.url}/v1/jobs?q=many", timeout=PATIENCE_S).json()["jobs"]
    again = [each["id"] for each in listed if each["id"] not in jobs]
    for job_id in again:
        told = httpx.get(f"{shared_server.url}/v1/jobs/{job_id}", timeout=PATIENCE_S).json()
        assert told["parameters"]["mark"] == "blur"

    tick(0).check()
    bar.get_by_role("button", name="Run again").click()
    expect(page.locator(".card[data-status=succeeded]")).to_have_count(7)

    page.locator(".card .frame").first.focus()
    page.keyboard.press("Control+a")
    expect(bar).to_contain_text("7 selected")
    bar.get_by_role("button", name="Delete").click()
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Delete now").click()
    expect_announced(page, "7 pictures deleted.")
    assert not any(exists(shared_server, job_id) for job_id in [*jobs, *again])


def test_too_many_for_one_zip(shared_server: Server, open_page: OpenPage) -> None:
    jobs = [job_json(number, summary={"faces_count": 1}) for number in range(200, 0, -1)]

    def stub(page: Page) -> None:
        page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": jobs, "next_cursor": None}))

    page = open_page(shared_server, before=stub)
    page.locator(".pick input").first.check(force=True)
    page.get_by_role("button", name="All", exact=True).click()
    bar = page.get_by_role("region", name="Selected pictures")
    expect(bar).to_contain_text("200 selected")
    expect(bar).to_contain_text("Zip and run: at most 150 at once.")
    expect(bar.get_by_role("button", name="Save as zip")).to_be_disabled()
    bar.get_by_role("button", name="Select nothing").click()
    expect(bar).to_be_hidden()


def test_a_folder_is_dropped_and_chosen(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    inner = tmp_path / "album" / "inner"
    inner.mkdir(parents=True)
    for number, path in enumerate((tmp_path / "album" / "top.jpg", inner / "deep.jpg", inner / ".hidden.jpg")):
        path.write_bytes(different(astronaut, 240 + number))
    (inner / "notes.txt").write_text("no photo")
    page = open_page(shared_server)
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "album")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 900, "y": 700, "data": data})
    for name in ("top.jpg", "deep.jpg"):
        expect(card_of(page, name).locator("h3")).to_have_text("1 face")
    expect(page.locator(".card.mine")).to_have_count(2)
    expect_announced(page, "2 files left out, because they are no photos.")

    other = open_page(shared_server)
    expect(other.get_by_role("button", name="Choose a folder")).to_be_visible()
    other.set_input_files("#folder", str(tmp_path / "album"))
    expect(other.locator(".card.mine[data-status=succeeded]")).to_have_count(2)


def test_options_are_remembered_and_told(
    shared_server: Server, open_page: OpenPage, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_page(shared_server)
    told = page.locator("#chosen")
    expect(told).to_be_hidden()
    page.get_by_label("Blur").check()
    page.get_by_role("switch", name="Precise").check()
    page.get_by_text("More options").click()
    score = page.locator(".field", has=page.get_by_label("Minimum score"))
    score.get_by_label("Automatic").uncheck()
    page.get_by_label("Minimum score").fill("0.7")
    expect(told).to_contain_text("Mark: Blur · Minimum score: 0.7 · Precise")
    shot(page, "list-options")
    add(page, photo(different(astronaut, 250), "private name.jpg"))
    expect(card_of(page, "private name.jpg").locator("h3")).to_have_text("1 face")
    stored = json.loads(page.evaluate("JSON.stringify(localStorage)"))
    assert json.loads(stored["limner-options"]) == {"detect": {"mark": "blur", "precise": True, "min_score": 0.7}}
    assert "private name" not in json.dumps(stored)

    page.reload()
    expect(page.get_by_label("Blur")).to_be_checked()
    expect(page.get_by_role("switch", name="Precise")).to_be_checked()
    expect(page.get_by_label("Minimum score")).to_have_value("0.7")
    expect(told).to_contain_text("Mark: Blur · Minimum score: 0.7 · Precise")
    page.get_by_role("button", name="Reset the options").click()
    expect(told).to_be_hidden()
    page.get_by_role("radio", name="Contours").check()
    page.reload()
    expect(page.get_by_role("radio", name="Contours")).to_be_checked()
    page.get_by_role("radio", name="Detect").check()
    expect(page.get_by_label("Blur")).not_to_be_checked()
    assert json.loads(page.evaluate("localStorage['limner-options']")) == {}


def test_the_options_of_a_job_that_is_run_again_are_told(
    shared_server: Server, open_page: OpenPage, named: dict[str, str], astronaut: npt.NDArray[np.uint8]
) -> None:
    submit(shared_server, different(astronaut, 255), wait=True, label="with options.jpg", mark="pixelate")
    page = open_page(shared_server)
    told = page.locator("#chosen")
    page.get_by_label("Blur").check()
    expect(told).to_contain_text("Mark: Blur")
    card_of(page, "with options.jpg").get_by_role("button", name="Again…").click()
    expect(page.get_by_label("Pixelate")).to_be_checked()
    expect(told).to_contain_text("Mark: Pixelate")
    card_of(page, "Anna.jpg").get_by_role("button", name="Again…").click()
    expect(page.get_by_label("Pixelate")).not_to_be_checked()
    expect(told).to_be_hidden()


def test_keys(shared_server: Server, open_page: OpenPage, named: dict[str, str]) -> None:
    page = open_page(shared_server)
    page.get_by_role("searchbox").fill("jpg")
    expect(card_of(page, "Berta.jpg")).to_be_visible()
    page.keyboard.press("?")  # in a field it is a letter
    page.keyboard.press("Backspace")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#gallery").focus()
    page.keyboard.press("?")
    helped = page.get_by_role("dialog", name="Keyboard")
    expect(helped).to_be_visible()
    shot(page, "list-keys")
    helped.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(helped).to_be_hidden()
    page.get_by_role("button", name="Keyboard help").click()
    helped.get_by_role("checkbox").check()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()

    frames = page.locator(".card .frame")
    frames.first.focus()
    page.keyboard.press("ArrowRight")
    expect(frames.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(frames.nth(1 + 3)).to_be_focused()  # three columns
    page.keyboard.press("ArrowUp")
    page.keyboard.press("x")
    expect(page.locator(".card.selected")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".card.selected")).to_have_count(0)
    page.keyboard.press("Home")
    expect(frames.first).to_be_focused()
    page.keyboard.press("End")
    expect(frames.last).to_be_focused()


def test_it_can_be_installed(shared_server: Server, open_page: OpenPage) -> None:
    page = open_page(shared_server)
    devtools = page.context.new_cdp_session(page)
    told = devtools.send("Page.getAppManifest")
    assert told["errors"] == []
    manifest = json.loads(told["data"])
    answer = httpx.get(told["url"])
    assert answer.headers["content-type"].startswith("application/manifest+json")
    for icon in manifest["icons"]:
        content = httpx.get(f"{shared_server.url}/page/{icon['src']}").content
        if icon["type"] == "image/png":
            assert "x".join(map(str, Image.open(io.BytesIO(content)).size)) == icon["sizes"]
    assert devtools.send("Page.getInstallabilityErrors")["installabilityErrors"] in (
        [],
        [{"errorId": "in-incognito", "errorArguments": []}],  # what a test opens is always that
    )
    assert page.evaluate("navigator.serviceWorker.getRegistrations()") == []  # nothing keeps photos


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_it_is_accessible(
    shared_server: Server, open_page: OpenPage, named: dict[str, str], width: int, scheme: str
) -> None:
    small = {"has_touch": True, "is_mobile": True} if width < 500 else {}
    page = open_page(shared_server, viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme, **small)
    expect(card_of(page, "Anna.jpg")).to_have_count(1)

    def check(name: str) -> None:
        shot(page, f"list-{width}-{scheme}-{name}")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert no_sideways_scroll(page)

    check("page")
    page.get_by_label("Time").select_option("days")
    card_of(page, "Anna.jpg").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.querySelector('#gallery').offsetTop - 12)")
    for tick in page.locator(".pick input").all()[:2]:
        tick.dispatch_event("click")  # the bar may cover it
    check("selected")
    if small:
        low = """() => [...document.querySelectorAll("button, select, summary, .tick, .pick")]
          .filter((each) => each.getClientRects().length && each.getBoundingClientRect().height < 43.9)
          .map((each) => `${each.getBoundingClientRect().height} ${each.outerHTML}`)"""
        assert page.evaluate(low) == []
    page.get_by_role("button", name="Keyboard help").click()
    check("keys")
