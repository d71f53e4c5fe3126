"""Shared by the benchmarks: a photo in many versions, and an HTTP client that needs little CPU time."""

import io
import json
import re
import socket
from typing import Any

from limner.domain.errors import SettingsError

_BOUNDARY = b"limner-bench-boundary"


def default_photo() -> bytes:
    """scikit-image's astronaut (NASA, public domain) on 1280×720, as JPEG. SettingsError where it is not installed."""
    try:
        import skimage.data
    except ImportError:
        raise SettingsError("scikit-image is not installed. Name a photo with --photo.") from None
    from PIL import Image

    face = Image.fromarray(skimage.data.astronaut()).resize((720, 720))  # type: ignore[no-untyped-call]
    canvas = Image.new("RGB", (1280, 720), (90, 96, 104))
    canvas.paste(face, (280, 0))
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=90)
    return file.getvalue()


def version(jpeg: bytes, number: int) -> bytes:
    """The same photo as a different file (with a numbered JPEG comment), so that it is not in the cache."""
    comment = f"{number:012}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def multipart(photo: bytes, fields: dict[str, str]) -> tuple[bytes, str]:
    """Body and content type of a form with the photo as `image`."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (_BOUNDARY, name.encode(), value.encode())
        for name, value in fields.items()
    ]
    head = (
        b'--%s\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % _BOUNDARY
    )
    body = b"".join([*parts, head, photo, b"\r\n--", _BOUNDARY, b"--\r\n"])
    return body, f"multipart/form-data; boundary={_BOUNDARY.decode()}"


class Client:
    """One keep-alive connection. It is written by hand to leave the CPU time to the service."""

    def __init__(self, host: str, port: int, timeout_s: float = 60, *, token: str | None = None) -> None:
        """`token` is an API key, if the service asks for one."""
        self._host = f"{host}:{port}"
        self._key = "" if token is None else f"Authorization: Bearer {token}\r\n"
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def submit(
        self, operation: str, photo: bytes, fields: dict[str, str] | None = None, *, wait_s: int = 60
    ) -> tuple[int, dict[str, Any]]:
        """Submit and wait for the job; status and body of the answer."""
        body, kind = multipart(photo, fields or {})
        headers = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nPrefer: wait={wait_s}\r\n"
        status, answer = self._ask(f"POST /v1/{operation}", headers, body)
        return status, json.loads(answer)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        return self._ask(f"GET {path}", "", b"")

    def delete(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        return self._ask(f"DELETE {path}", "", b"")

    def _ask(self, what: str, headers: str, body: bytes) -> tuple[int, bytes]:
        """Status and body. ConnectionError for an answer without a length, or one that is cut short."""
        self._socket.sendall(f"{what} HTTP/1.1\r\nHost: {self._host}\r\n{self._key}{headers}\r\n".encode() + body)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._more()
        head, _, rest = head.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        if length is None:
            if head[9:12] == b"204":
                return 204, b""
            raise ConnectionError("an answer without Content-Length")
        parts, missing = [rest], int(length[1]) - len(rest)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return int(head[9:12]), b"".join(parts)

    def _more(self) -> bytes:
        data = self._socket.recv(262_144)
        if not data:
            raise ConnectionError("the connection was closed")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0..1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
