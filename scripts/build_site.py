"""Builds the documents as a website in `build/site/html`, with the API's reference, and checks all its links.

Needs the development packages. The pages keep the places that their files have in the repository.
"""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from api_reference import reference

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
PAGES, HTML = SITE / "pages", SITE / "html"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bench" / "README.md"])
LOGO = ROOT / "src" / "limner" / "web" / "page" / "favicon.svg"
STYLE = ROOT / "scripts" / "site.css"
_LINK = re.compile(r"(?:\]\(|(?:src|srcset|href)=\")([^)\s\"#]+)")


def main() -> None:
    """Build and check. The exit status is 1 if a page warns or a link leads nowhere."""
    shutil.rmtree(SITE, ignore_errors=True)
    for file in (LOGO, STYLE):
        copy(file)
    for document in DOCUMENTS:
        copy(document)
        for link in _LINK.findall(document.read_text()):
            target = (document.parent / link).resolve()
            if ":" not in link and target.is_file() and target not in DOCUMENTS:
                copy(target)
    openapi = subprocess.run([sys.executable, "-m", "limner", "openapi"], check=True, capture_output=True).stdout
    (PAGES / "docs" / "openapi.json").write_bytes(openapi)
    (PAGES / "docs" / "reference.md").write_text(reference(json.loads(openapi)))
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT, check=False)
    faults = broken_links(HTML)
    print(*faults, f"{len(list(HTML.rglob('*.html')))} pages in {HTML.relative_to(ROOT)}", sep="\n")
    sys.exit(built.returncode or bool(faults))


def copy(file: Path) -> None:
    """Copy it to the pages, at its place in the repository."""
    target = PAGES / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loads = {""}, set[str](), set[str]()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag != "a":
            self.loads |= {given[name] for name in ("src", "href") if name in given and given.get("rel") != "canonical"}


def broken_links(folder: Path) -> list[str]:
    """Links of its pages to what does not exist (page, file or heading), and what a page would load from elsewhere."""
    pages = {file: _Page(file) for file in folder.rglob("*.html") if file.name != "404.html"}
    faults = []
    for file, page in pages.items():
        for link in sorted(page.links | page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    faults.append(f"{file.relative_to(folder)} loads {link}")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (target in pages and unquote(parts.fragment) not in pages[target].anchors):
                faults.append(f"{file.relative_to(folder)}: {link} leads nowhere")
    return faults


if __name__ == "__main__":
    main()
