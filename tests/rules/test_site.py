"""The documents become a website without a warning, and all its links lead somewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.test_documents import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from build_site import broken_links


def test_the_site_is_built_and_its_links_lead_somewhere() -> None:
    command = [sys.executable, "scripts/build_site.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "POST /v1/detect" in (ROOT / "build/site/html/docs/reference.html").read_text()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "leads nowhere"),
        ('<a href="#gone">x</a>', "leads nowhere"),
        ('<a href="other.html#gone">x</a>', "leads nowhere"),
        ('<img src="gone.png">', "leads nowhere"),
        ('<script src="https://elsewhere.example/x.js"></script>', "loads https://elsewhere.example/x.js"),
        ('<a href="other.html#here">x</a><a href="https://elsewhere.example">y</a><img src="data:,">', None),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, body: str, fault: str | None) -> None:
    (tmp_path / "page.html").write_text(body)
    (tmp_path / "other.html").write_text('<h2 id="here">Here</h2>')
    found = broken_links(tmp_path)
    assert (len(found), fault is None or fault in found[0]) == (int(fault is not None), True), found
