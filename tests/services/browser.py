"""Which Chromium the tests open, and how. `CHROMIUM` names another binary than Debian's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
]


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A running browser without a window, with further flags. The test fails where there is none."""
    if not CHROMIUM.exists():
        pytest.fail(
            f"This is tested in a real browser, and there is none at {CHROMIUM}: install Debian's `chromium`, "
            "or name another Chromium in the variable CHROMIUM."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS, *flags])
        yield browser
        browser.close()
