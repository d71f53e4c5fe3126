"""The page's forms, whose fields come from the schema, and jobs as programs that make them again."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.journeys.server import Server
from tests.journeys.test_page import OpenPage, add, chromium, complaints, different, open_page, photo, shot
from tests.journeys.test_page_viewer import STEPS, Job, Make, Pixels, make, show, two

__all__ = ["chromium", "complaints", "make", "open_page", "two"]  # the fixtures


def test_every_field_has_a_control(open_page: OpenPage, shared_server: Server, two: bytes) -> None:
    page = open_page(shared_server)
    page.get_by_role("radio", name="Contours").check(force=True)
    page.get_by_text("More options").click()
    expect(page.locator("#options textarea.code")).to_have_count(0)  # no JSON
    page.get_by_label("Fill: choose a colour").fill("#12ab9f")
    expect(page.get_by_label("Fill", exact=True)).to_have_value("#12ab9f")
    page.get_by_label("Line colour", exact=True).fill("red")
    expect(page.get_by_label("Line colour: choose a colour")).to_have_value("#ff0000")
    padding = page.locator(".field", has=page.get_by_label("Padding"))
    padding.get_by_label("Exact value").fill("0.25")
    expect(padding.get_by_label("Padding")).to_have_value("0.25")
    page.get_by_label("Dashes").fill("4, 2.5")
    fills = page.locator("fieldset", has=page.get_by_text("Fills", exact=True)).last
    fills.get_by_role("button", name="Add an entry").click()
    page.keyboard.type("nose")
    fills.get_by_label("Value", exact=True).fill("gold")
    fills.get_by_role("button", name="Add an entry").click()
    fills.get_by_role("button", name="Remove this entry").last.click()
    shot(page, "form-contours")
    with page.expect_response("**/v1/contours") as answer:
        add(page, photo(two))
    sent = httpx.get(answer.value.json()["url"], timeout=60).json()["parameters"]
    wanted = {"fill": "#12ab9f", "stroke": "red", "padding": 0.25, "dash": [4.0, 2.5], "fills": {"nose": "gold"}}
    assert {name: sent.get(name) for name in wanted} == wanted

    card = page.locator(f'[data-job="{answer.value.json()["id"]}"]')
    card.get_by_role("button", name="Again…").click()
    page.get_by_label("Fill", exact=True).fill("")  # it fills the form, and what is emptied is the default again
    expect(page.get_by_label("Dashes")).to_have_value("4, 2.5")
    expect(fills.get_by_label("Name", exact=True)).to_have_value("nose")
    page.get_by_role("button", name="Remove", exact=True).click()

    page.get_by_role("radio", name="Detect").check(force=True)
    page.get_by_text("More options").click()
    expect(page.get_by_label("Colour", exact=True)).to_be_hidden()  # only for what it has a meaning for
    page.get_by_role("radio", name="Solid").check(force=True)
    page.get_by_label("Colour", exact=True).fill("#fff")
    page.get_by_role("button", name="Add a box").click()
    boxes = page.locator(".list-row")
    add(page, photo(two))
    expect(boxes.get_by_label("X", exact=True)).to_be_focused()  # what is missing is asked for
    for name, value in {"X": "5", "Y": "6", "Width": "70", "Height": "80"}.items():
        boxes.get_by_label(name, exact=True).fill(value)
    with page.expect_response("**/v1/detect") as answer:
        add(page, photo(two))
    sent = httpx.get(answer.value.json()["url"], timeout=60).json()["parameters"]
    assert (sent["colour"], sent["boxes"]) == ("#fff", [{"x": 5.0, "y": 6.0, "width": 70.0, "height": 80.0}])


def test_the_steps_of_a_pipeline_are_a_list(open_page: OpenPage, shared_server: Server, two: bytes) -> None:
    page = open_page(shared_server)
    page.get_by_role("radio", name="Pipeline").check(force=True)
    steps = page.locator(".step")
    expect(steps).to_have_count(3)
    page.get_by_role("button", name="Remove this step").nth(1).click()
    steps.first.locator("summary").first.click()
    steps.first.get_by_role("radio", name="Blur").check(force=True)
    for _ in range(2):
        page.get_by_label("Operation of the next step").select_option("crop")
        page.get_by_role("button", name="Add step").click()
    steps.nth(2).get_by_role("radio", name="16:9").check(force=True)
    steps.nth(3).get_by_role("switch", name="Each face").check()
    expect(steps.nth(3).get_by_role("radio", name="16:9")).to_be_hidden()
    steps.nth(1).locator("summary").first.click()
    steps.nth(1).get_by_role("radio", name="Pixel").check(force=True)
    page.get_by_role("button", name="Earlier").nth(2).click()
    expect(steps.nth(1).locator("summary").first).to_have_text("2. Crop")
    shot(page, "form-pipeline")
    with page.expect_response("**/v1/pipeline") as answer:
        add(page, photo(two))
    job = httpx.get(answer.value.json()["url"], timeout=60).json()
    sent = [
        {name: step.get(name) for name in ("operation", "name", "mark", "aspect", "each", "style")}
        for step in job["parameters"]["steps"]
    ]
    empty = dict.fromkeys(("mark", "aspect", "each", "style"))
    assert sent == [
        {**empty, "operation": "detect", "name": "detect", "mark": "blur"},
        {**empty, "operation": "crop", "name": "crop", "aspect": "16:9", "each": False},
        {**empty, "operation": "generate", "name": "generate", "style": "pixel"},
        {**empty, "operation": "crop", "name": "crop-2", "each": True},
    ]
    card = page.locator(f'[data-job="{job["id"]}"]')
    expect(card.locator("h3")).to_have_text("4 steps")
    card.get_by_role("button", name="Again…").click()
    expect(steps).to_have_count(4)
    with page.expect_response("**/v1/pipeline") as answer:
        page.get_by_role("button", name="Run", exact=True).click()
    again = httpx.get(answer.value.json()["url"], timeout=60).json()
    assert again["parameters"]["steps"] == job["parameters"]["steps"]
    viewer = show(page, job)
    expect(viewer.locator(".step-shown")).to_have_count(4)
    expect(viewer.locator(".step-shown").first).to_contain_text("Detect · ")
    shot(page, "viewer-pipeline")


def code_of(viewer: Locator, language: str) -> str:
    viewer.get_by_role("radio", name=language).check(force=True)
    return viewer.locator(".code-place pre").inner_text()


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("generate", {"style": "pop-art", "palette": "ocean", "seed": "7", "keep_colour": "true"}),
        ("detect", {"mark": "solid", "colour": "#A16AA9", "boxes": '[{"x": 1, "y": 2, "width": 30, "height": 40.5}]'}),
        ("pipeline", {"steps": json.dumps(STEPS)}),
    ],
)
def test_a_job_is_copied_as_a_program(
    open_page: OpenPage,
    shared_server: Server,
    make: Make,
    two: bytes,
    tmp_path: Path,
    operation: str,
    fields: dict[str, str],
) -> None:
    job = make(operation, **fields)
    page = open_page(shared_server, permissions=["clipboard-read", "clipboard-write"])
    viewer = show(page, job)
    viewer.get_by_text("Use it in a program").click()
    (tmp_path / "photo.jpg").write_bytes(two)

    def run(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    def same(made: Job) -> None:
        assert made["cached"] is not None, "the same work, so it was answered by the cache"
        assert made["parameters"] == job["parameters"]

    same(json.loads(run("sh", "-c", code_of(viewer, "curl"))))
    viewer.get_by_role("button", name="Copy code").click()
    expect(viewer.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code_of(viewer, "curl")
    run(sys.executable, "-c", code_of(viewer, "Python"))
    newest = httpx.get(f"{shared_server.url}/v1/jobs?limit=1&operation={operation}", timeout=60).json()["jobs"][0]
    same(httpx.get(newest["url"], timeout=60).json())
    assert list((tmp_path / "result").iterdir())
    program = code_of(viewer, "JavaScript").replace("console.log(job.result, job.artifacts);", "return job;")
    take = "const image = await (await fetch(address)).blob();"
    same(page.evaluate(f"async (address) => {{ {take}\n{program} }}", job["inputs"][0]["url"]))
    shot(page, f"viewer-code-{operation}")


def test_the_programs_of_a_job_without_a_picture(
    open_page: OpenPage, shared_server: Server, make: Make, two: bytes, astronaut: Pixels, tmp_path: Path
) -> None:
    page = open_page(shared_server)
    viewer = show(page, make("detect", mark="none"))
    viewer.get_by_text("Use it in a program").click()
    (tmp_path / "photo.jpg").write_bytes(two)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code_of(viewer, "Python")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "faces=[" in done.stdout
    assert not (tmp_path / "result").exists()
    # It waits itself for a job that takes longer than the service has waited.
    program = code_of(viewer, "JavaScript").replace("wait=60", "wait=0")
    program = program.replace("console.log(job.result, job.artifacts);", "return job.result;")
    new = base64.b64encode(different(astronaut, 950)).decode()
    take = "const image = new Blob([Uint8Array.from(atob(photo), (each) => each.charCodeAt(0))]);"
    assert len(page.evaluate(f"async (photo) => {{ {take}\n{program} }}", new)["faces"]) == 1


def test_no_program_has_the_key(open_page: OpenPage, shared_server: Server, make: Make) -> None:
    key = "lim_" + "s" * 30
    before = f"sessionStorage.setItem('limner-key', '{key}')"
    page = open_page(shared_server, before=lambda page: page.add_init_script(before))
    viewer = show(page, make("detect"))
    viewer.get_by_text("Use it in a program").click()
    programs = [code_of(viewer, language) for language in ("curl", "Python", "JavaScript")]
    assert not [each for each in programs if key in each or "lim_" in each]
    assert '"Authorization: Bearer $LIMNER_KEY"' in programs[0]
    assert 'os.environ["LIMNER_KEY"]' in programs[1]
    assert "Bearer ${key}" in programs[2]
