"""The page with 10,000 jobs in its history, made by the filler of `limner bench scale`, in headless Chromium."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.sql.migrate import migrate
from limner.adapters.sql.opening import open_stores
from limner.bench.filler import fill_sqlite
from limner.domain.key import new_token
from tests.journeys.conftest import served
from tests.journeys.server import Server
from tests.journeys.test_page import OpenPage, chromium, complaints, open_page, shot

__all__ = ["chromium", "complaints", "open_page"]  # the fixtures

JOBS = 10_000
CARDS_MAX = 70  # in the document at once
FIRST_PICTURES_S = 1.0  # the aim on an idle machine, which docs/scale.md tells
BUSY = 10  # times slower: a machine that does other work too
FRAME_MS = 100


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose history is long. Each job has a thumbnail, of which there are forty kinds."""
    server = Server(tmp_path_factory.mktemp("full"))
    stores = open_stores(server.variables["LIMNER_DATABASE_URL"], durable=False)
    migrate(stores.database)
    stores.close()
    fill_sqlite(server.folder / "limner.db", JOBS, "k" * 64, (new_token(), new_token()))
    blobs = DiskBlobs(server.folder / "blobs", durable=False)
    random = np.random.default_rng(1)
    pictures = []
    for _ in range(40):
        rough = Image.fromarray(random.integers(0, 255, (12, 16, 3), np.uint8))
        data = BytesIO()
        rough.resize((480, 360), Image.Resampling.BICUBIC).save(data, "WEBP", quality=75)
        pictures.append((blobs.put(data.getvalue()), len(data.getvalue())))
    with closing(sqlite3.connect(server.folder / "limner.db")) as database, database:
        # Jobs that wait in a lane which this server does not have.
        database.execute("DELETE FROM files WHERE job_id IN (SELECT id FROM jobs WHERE status = 'queued')")
        database.execute("DELETE FROM jobs WHERE status = 'queued'")
        database.executemany("INSERT INTO blobs (sha256, size, state, changed_at) VALUES (?, ?, 'kept', 0)", pictures)
        jobs = database.execute("SELECT id FROM jobs WHERE status = 'succeeded'").fetchall()
        database.executemany(
            "INSERT INTO files (id, job_id, position, role, name, sha256, media_type, size, width, height)"
            " VALUES (?, ?, 9, 'thumbnail', 'thumbnail.webp', ?, 'image/webp', ?, 480, 360)",
            ((f"t{job[1:]}", job, *pictures[number % 40]) for number, (job,) in enumerate(jobs)),
        )
    yield from served(server)


# When the pictures in the window are there, in ms from the start of the navigation; 0: not yet.
PICTURES_MS = """() => {
  const seen = [...document.querySelectorAll(".card img")]
    .filter((image) => image.getBoundingClientRect().top < innerHeight);
  if (seen.length < 3 || !seen.every((image) => image.complete && image.naturalWidth)) return 0;
  return performance.now();
}"""

# Scroll for some seconds, one step a frame, until `wanted` jobs have been reached. Tells the frames' times in ms.
SCROLL = """async ({ wanted, step }) => {
  const frames = [];
  let [most, blank, before, nodes] = [0, 0, performance.now(), 0];
  const end = before + 100_000;
  while (most < wanted && performance.now() < end) {
    scrollBy({ top: step, behavior: "instant" });
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const now = performance.now();
    frames.push(now - before);
    before = now;
    const cards = [...document.querySelectorAll(".card")];
    nodes = Math.max(nodes, cards.length);
    most = Math.max(most, ...cards.map((card) => Number(card.getAttribute("aria-posinset"))));
    const boxes = cards.map((card) => card.getBoundingClientRect());
    if (!boxes.some(({ top, bottom }) => bottom > 0 && top < innerHeight)) blank += 1;
  }
  frames.sort((one, other) => one - other);
  return { most, blank, nodes, count: frames.length, median: frames[frames.length >> 1],
    late: frames[Math.floor(frames.length * 0.95)], all: document.querySelectorAll("*").length };
}"""


def pictures_ms(page: Page) -> float:
    return float(page.wait_for_function(PICTURES_MS, polling="raf").json_value())


def test_the_first_pictures_come_soon(full: Server, open_page: OpenPage) -> None:
    page = open_page(full)
    times = []
    for _ in range(3):
        page.reload(wait_until="commit")
        times.append(pictures_ms(page))
    print(f"first pictures after {times} ms")
    shot(page, "history")
    assert min(times) < 1000 * FIRST_PICTURES_S * BUSY


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])  # the first takes a minute or two
def test_the_whole_history_is_scrolled_through(full: Server, open_page: OpenPage, width: int) -> None:
    page = open_page(full, viewport={"width": width, "height": 900})
    expect(page.locator(".card")).not_to_have_count(0)
    wanted = JOBS if width == 1280 else 1500
    told = page.evaluate(SCROLL, {"wanted": wanted, "step": 900})
    print(f"{width} px: {told}")
    assert told["most"] >= wanted
    assert told["nodes"] <= CARDS_MAX
    assert told["all"] < 3000
    assert told["blank"] <= told["count"] / 50
    assert told["median"] < FRAME_MS
    pictures_ms(page)
    shot(page, f"history-{width}-end")

    # A card keeps the focus, though it is far from the window, and the keyboard goes on from it.
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    frame = page.locator(".card[aria-posinset='1'] .frame")
    frame.focus()
    page.evaluate("scrollTo({top: 200000, behavior: 'instant'})")
    expect(page.locator(".card[aria-posinset='9']")).to_have_count(0)
    expect(frame).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".card[aria-posinset='2'] .frame")).to_be_focused()
    expect(page.locator(".card[aria-posinset='2'] .frame")).to_be_in_viewport()
