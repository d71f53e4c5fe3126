"""Makes the page's PNG icons from `favicon.svg`, in Chromium. Needs the development packages and a Chromium."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.services import browser  # noqa: E402

PAGE = ROOT / "src" / "limner" / "web" / "page"
GROUND = "#f5f0e6"  # the page's, behind icons that a system cuts to its own shape
ICONS = {  # file: side in pixels, part of the side that the drawing takes, ground
    "icon-180.png": (180, 0.86, GROUND),
    "icon-192.png": (192, 1.0, None),
    "icon-512.png": (512, 1.0, None),
    "icon-maskable-512.png": (512, 0.72, GROUND),
}


def main() -> None:
    drawing = (PAGE / "favicon.svg").read_text(encoding="utf-8")
    with browser.chromium() as chromium:
        for name, (side, part, ground) in ICONS.items():
            page = chromium.new_page(viewport={"width": side, "height": side})
            side_of_drawing = f"{100 * part}vw"
            page.set_content(
                "<style>body { margin: 0; display: grid; place-items: center; height: 100vh;"
                f" background: {ground or 'transparent'} }}"
                f" svg {{ width: {side_of_drawing}; height: {side_of_drawing} }}</style>{drawing}"
            )
            page.screenshot(path=PAGE / name, omit_background=ground is None)
            page.close()


if __name__ == "__main__":
    main()
