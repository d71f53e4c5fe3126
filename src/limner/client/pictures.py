"""Pictures and parameters of a request as a form, or as JSON where a form cannot tell them."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

Photo = str | os.PathLike[str] | bytes | IO[bytes]
"""A picture: the path of a file, its bytes, or a file that is open for reading bytes."""

PICTURES = ("image", "segmentation_map", "style_image")
"""Parameters that are pictures, so that a text is a path. Bytes, `Path`s and open files are pictures anywhere."""


@dataclass(frozen=True)
class Body:
    """The body of a request: a form (`files` and `data`), or `json`."""

    data: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    json: dict[str, Any] | None = field(default=None, repr=False)


def body_of(photo: Photo | None, params: Mapping[str, Any]) -> Body:
    """The body for a photo, the parameter `image`, and others; what is None is left out. OSError of a file.

    File names are not sent.
    """
    files: dict[str, bytes] = {}
    values: dict[str, Any] = {}
    for name, value in {"image": photo, **params}.items():
        if value is None:
            continue
        if (
            (name in PICTURES and not isinstance(value, bool))
            or isinstance(value, bytes | os.PathLike)
            or _is_file(value)
        ):
            files[name] = _bytes(value)
        else:
            values[name] = value
    # The service reads a form's text as JSON where it begins like JSON, and an empty one as not given.
    if not files or any(isinstance(each, str) and each[:1] in ("", "[", "{") for each in values.values()):
        coded = {name: base64.b64encode(data).decode() for name, data in files.items()}
        return Body(json={**values, **coded})
    return Body(data={name: _text(value) for name, value in values.items()}, files=files)


def _is_file(value: object) -> bool:
    return callable(getattr(value, "read", None))


def _bytes(photo: Photo) -> bytes:
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    if isinstance(photo, str | os.PathLike):
        return Path(photo).read_bytes()
    data = photo.read() if _is_file(photo) else None
    if not isinstance(data, bytes):
        raise TypeError("a picture is a path, bytes, or a file that is open for reading bytes: open(path, 'rb')")
    return data


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
