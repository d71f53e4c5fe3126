"""Makes the pictures of README and the documents in `docs/pictures`: NASA's portrait of Eileen Collins (public domain,
from scikit-image) with boxes, blurred, outlined and drawn, and the page, light and dark.

Needs the development packages, all of the service's models (`limner models`) and Chromium.
"""

import sys
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import skimage.data
from playwright.sync_api import Browser, ViewportSize

from limner import settings
from limner.bench import processes
from limner.client import Client
from limner.painters.drawn.fields import Pixels
from limner.vision.image import encode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.services import browser  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"
SIDE = 360  # pixels of the small pictures, which README shows at half of that
PAGE: ViewportSize = {"width": 1280, "height": 840}
PAGE_SHOWN = 1000  # pixels of width that the page's picture has
QUALITY = 80
MAX_BYTES = 400_000  # all together

# What the page shows: operation, label, parameters. The newest is the first.
JOBS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("detect", "launch day.jpg", {"mark": "box"}),
    ("contours", "contours.jpg", {}),
    ("generate", "in watercolour.jpg", {"style": "watercolour"}),
    ("generate", "in ink.jpg", {"style": "ink"}),
    ("detect", "for the press.jpg", {"mark": "pixelate"}),
    ("generate", "poster.jpg", {"style": "pop-art"}),
)


def main() -> None:
    portrait: Pixels = np.ascontiguousarray(skimage.data.astronaut()[:370, 30:400])  # type: ignore[no-untyped-call]
    photo = encode(portrait, "jpeg", quality=95)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with processes.server(settings.load()) as service, browser.chromium() as chromium:
        url = service.url("")
        with Client(url) as client:
            make_small(client, chromium, photo)
            for operation, label, parameters in JOBS:
                client.run(operation, photo, label=label, **parameters)
        save("page-light", page(chromium, url, "light"))
        save("page-dark", page(chromium, url, "dark"))
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.iterdir())}
    print(*(f"{size:7} {name}" for name, size in sizes.items()), sep="\n")
    if sum(sizes.values()) > MAX_BYTES:
        sys.exit(f"They are larger than {MAX_BYTES} bytes together.")


def make_small(client: Client, browser: Browser, photo: bytes) -> None:
    save("boxes", picture(client.detect(photo, format="png").read()), SIDE)
    save("blur", picture(client.detect(photo, mark="blur", format="png").read()), SIDE)
    save("drawn", picture(client.generate(photo, style="ink", size="720x720", format="png").read()), SIDE)
    drawing = client.contours(photo, size=SIDE * 2).read().decode()
    with browser.new_context(viewport={"width": SIDE, "height": SIDE}, device_scale_factor=2) as context:
        shown = context.new_page()
        shown.set_content(
            f"<style>body {{ margin: 0 }} svg {{ width: {SIDE}px; height: {SIDE}px }}</style>"
            + drawing.replace("<svg ", '<svg preserveAspectRatio="xMidYMid slice" ', 1)
        )
        save("contours", picture(shown.screenshot()), SIDE)


def page(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> Pixels:
    with browser.new_context(
        viewport=PAGE, color_scheme=scheme, reduced_motion="reduce", device_scale_factor=1.5
    ) as it:
        shown = it.new_page()
        shown.goto(url)
        shown.locator("#cards img").nth(len(JOBS) - 1).wait_for()
        shown.wait_for_load_state("networkidle")
        return picture(shown.screenshot())


def picture(data: bytes) -> Pixels:
    """Decode a PNG to RGB."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def save(name: str, pixels: Pixels, width: int = PAGE_SHOWN) -> None:
    height = round(pixels.shape[0] * width / pixels.shape[1])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    (FOLDER / f"{name}.webp").write_bytes(encode(np.asarray(small, np.uint8), "webp", quality=QUALITY))


if __name__ == "__main__":
    main()
