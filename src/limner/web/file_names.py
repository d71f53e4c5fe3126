"""Names of files that are safe on every system, and the header that tells a browser such a name."""

import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

MAX_STEM = 80
_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/heic": ".heic",
    "image/avif": ".avif",
    "image/svg+xml": ".svg",
}
_FORBIDDEN = frozenset('<>:"/\\|?*%;')  # by Windows, by shells, or with a meaning in a header
_PICTURES = frozenset((*_SUFFIXES.values(), ".jpeg", ".jpe", ".tiff", ".heif"))
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10)))
)  # of Windows, with any suffix


def safe_stem(label: str) -> str:
    """What is left of a label as a file's name without the suffix of a picture; empty if nothing is.

    No folders, nothing that a system forbids or hides, no direction marks that would show another suffix.
    """
    name = unicodedata.normalize("NFC", label)
    name = "".join("_" if each in _FORBIDDEN else each for each in name if unicodedata.category(each)[0] != "C")
    path = PurePosixPath(name.strip(" ."))
    stem = path.stem if path.suffix.lower() in _PICTURES else path.name
    stem = stem[:MAX_STEM].strip(" .")
    return f"_{stem}" if stem.partition(".")[0].strip().lower() in _DEVICES else stem


def suffix_of(media_type: str) -> str:
    """The suffix of a picture's file, with its dot; empty for an unknown type."""
    return _SUFFIXES.get(media_type, "")


def disposition(name: str) -> str:
    """`Content-Disposition` that shows the picture and tells the name to save it under (RFC 6266).

    The name is one of `safe_stem` with a suffix.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # Some letters have an ASCII form that is forbidden: a full-width quotation mark would end the name.
    plain = " ".join("".join("_" if each in _FORBIDDEN else each for each in plain).split())
    if plain.startswith("."):  # nothing is left but the suffix
        plain = f"photo{plain}"
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
