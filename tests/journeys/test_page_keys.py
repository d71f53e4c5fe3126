"""The page of a service that asks for keys: the log-in, live events and pictures with a key, and the log-out."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, Dialog, Page, Route, expect

from limner.domain.key import Scope, new_token
from tests.journeys.conftest import served
from tests.journeys.keys import as_caller, key_server, new_key, revoke, send
from tests.journeys.server import Server
from tests.journeys.test_page import (
    add,
    chromium,
    complaint,
    different,
    expect_accessible,
    no_sideways_scroll,
    photo,
    shot,
)

__all__ = ["chromium"]  # the fixture


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from served(key_server(tmp_path_factory.mktemp("keys")))


@pytest.fixture
def open_login(chromium: Browser) -> Iterator[Any]:
    """Opens the page in a new browser context. The consoles may complain only about answers 401 and 403."""
    contexts, complaints = [], []

    def open_login(server: Server, path: str = "/", **visitor: Any) -> Page:
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | visitor
        )
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("console", lambda line: complaints.extend(complaint(line)))
        page.on("pageerror", lambda error: complaints.append(f"{error}\n{error.stack}"))
        page.goto(server.url + path)
        return page

    yield open_login
    for context in contexts:
        context.close()
    assert [line for line in complaints if "status of 401" not in line and "status of 403" not in line] == []


def log_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_the_log_in_and_what_follows(house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]) -> None:
    key, other = new_key(house), new_key(house)
    with as_caller(house, other) as client:
        theirs = send(client, different(astronaut, 901))["id"]
    page = open_login(house)
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.locator("#content")).to_be_hidden()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()
    shot(page, "login")

    log_in(page, new_token())
    expect(page.get_by_role("alert").filter(has_text="does not accept this key")).to_be_visible()
    shot(page, "login-refused")

    field.fill(f"  {key}  ")
    field.press("Enter")
    expect(page.locator("#link-state")).to_have_text("Live")
    expect(page.locator("#login")).to_be_hidden()
    assert key not in page.url
    add(page, photo(different(astronaut, 902)))
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text("1 face")
    width = card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width == 480, "the thumbnail"
    assert "signature=" in str(card.locator("img").get_attribute("src"))
    expect(page.locator(f"[data-job='{theirs}']")).to_have_count(0)
    expect(page.locator(".card")).to_have_count(1)
    card.get_by_role("button", name="JSON").click()
    expect(page.get_by_role("link", name="Open in the API")).to_have_count(0)  # it would be answered 401
    page.get_by_role("button", name="Close").first.click()

    with as_caller(house, key) as client:  # another client of the same owner
        mine = send(client, different(astronaut, 903))["id"]
    expect(page.locator(f"[data-job='{mine}'] h3")).to_have_text("1 face")
    assert key not in house.log.read_text()
    shot(page, "logged-in")

    page.reload()
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_role("button", name="Log out").click()
    expect(field).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    page.reload()
    expect(field).to_be_visible()


def test_logging_out_deletes_what_waits(house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]) -> None:
    key = new_key(house)
    with as_caller(house, key) as client:
        job = send(client, different(astronaut, 908))["id"]
        page = open_login(house)
        log_in(page, key)
        page.locator(f"[data-job='{job}']").get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert client.get(f"/v1/jobs/{job}").status_code == 404


def test_logging_out_asks_while_photos_are_sent(
    house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]
) -> None:
    held: list[Route] = []
    asked: list[str] = []

    def hold(route: Route) -> None:
        held.append(route)

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        if len(asked) == 1:
            dialog.dismiss()
        else:
            dialog.accept()

    page = open_login(house)
    page.route("**/v1/detect", hold)
    page.on("dialog", answer)
    log_in(page, new_key(house))
    expect(page.locator("#link-state")).to_have_text("Live")
    add(page, photo(different(astronaut, 909), "first.jpg"))
    first = page.locator(".card", has_text="first.jpg")
    expect(first).to_have_attribute("data-status", "sending")
    page.get_by_role("button", name="Log out").click()
    assert len(asked) == 1
    held[0].continue_()
    expect(first.locator("h3")).to_have_text("1 face")
    page.reload()
    expect(first.locator("h3")).to_have_text("1 face")  # so the key was kept

    expect(page.locator("#link-state")).to_have_text("Live")
    add(page, photo(different(astronaut, 910), "second.jpg"))
    expect(page.locator(".card", has_text="second.jpg")).to_have_attribute("data-status", "sending")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert asked == 2 * ["Photos are still being sent. They are lost when you log out. Log out now?"]


def test_pictures_are_made_and_compared_with_a_key(
    house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_login(house)
    log_in(page, new_key(house))
    page.get_by_role("radio", name="Generate").check(force=True)
    add(page, photo(different(astronaut, 907)))
    page.get_by_role("button", name="Show my photo in these styles").click()
    expect(page.locator(".tile canvas")).to_have_count(11)
    page.locator(".tile", has_text="Pixel").click()
    page.get_by_role("button", name="Make the picture").click()
    card = page.locator(".card", has_text="astronaut.jpg").first
    expect(card.locator("h3")).to_have_text(re.compile("^Drawn: pixel$"))
    page.reload()  # the browser has no photo any more
    page.locator(".card .frame").click()
    expect(page.get_by_role("slider", name="How much of the original is shown")).to_be_visible()
    assert page.locator(".compare-original").evaluate("image => image.naturalWidth") == 512
    page.get_by_role("button", name="Run again with changes").click()
    expect(page.locator("#tray img")).to_be_visible()
    expect(page.get_by_role("radio", name="Pixel")).to_be_checked()


def test_a_key_that_is_revoked_brings_the_log_in_back(
    house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]
) -> None:
    key = new_key(house)
    page = open_login(house)
    log_in(page, key)
    expect(page.locator("#link-state")).to_have_text("Live")
    revoke(house, key)
    expect(page.get_by_role("alert").filter(has_text="does not accept this key")).to_be_visible(timeout=20_000)
    expect(page.locator("#content")).to_be_hidden()
    log_in(page, new_key(house))
    expect(page.locator("#link-state")).to_have_text("Live")
    add(page, photo(different(astronaut, 904)))
    expect(page.locator(".card h3").first).to_have_text("1 face")


def test_a_link_to_a_job_opens_after_the_log_in(
    house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]
) -> None:
    key = new_key(house)
    with as_caller(house, key) as client:
        job = send(client, different(astronaut, 905))["id"]
    page = open_login(house, f"/#job={job}")
    log_in(page, key)
    expect(page.get_by_role("dialog", name="1 face")).to_be_visible()


def test_a_key_that_may_only_submit_says_what_it_lacks(
    house: Server, open_login: Any, astronaut: npt.NDArray[np.uint8]
) -> None:
    page = open_login(house)
    log_in(page, new_key(house, [Scope.SUBMIT]))
    expect(page.locator("#link-state")).to_have_text("No live updates")
    expect(page.locator("#list-problem")).to_contain_text("lacks the scope `read`")
    add(page, photo(different(astronaut, 906)))
    expect(page.locator(".card")).to_have_count(1)
    shot(page, "submit-only")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_log_in_fits_a_small_phone(house: Server, open_login: Any, scheme: str) -> None:
    page = open_login(house, viewport={"width": 360, "height": 640}, color_scheme=scheme)
    expect(page.get_by_label("API key")).to_be_visible()
    assert no_sideways_scroll(page)
    shot(page, f"login-360-{scheme}")
    log_in(page, new_token())
    expect(page.get_by_role("alert").filter(has_text="does not accept this key")).to_be_visible()
    assert no_sideways_scroll(page)
    if scheme == "light":  # it looks at both
        expect_accessible(page, "the log-in")
    shot(page, f"login-360-{scheme}-refused")
    log_in(page, new_key(house))
    expect(page.locator("#link-state")).to_have_text("Live")
    assert no_sideways_scroll(page)
    shot(page, f"logged-in-360-{scheme}")


def test_the_pages_policy_allows_no_form_to_send_the_key_elsewhere(house: Server) -> None:
    answer = httpx.get(house.url)
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert 'method="get"' not in answer.text.lower(), "the key would be in the address"
