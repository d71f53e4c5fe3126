"""A small server with one repository that speaks as the hub of Hugging Face does, to `huggingface_hub`."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.painters.servers import LocalServer, Reply, Request, serving

REPOSITORY, COMMIT = "some.body/tiny", "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The repository's files, and how it misbehaves."""

    files: dict[str, bytes]
    break_off_at: int | None = None
    """The first file that is larger breaks off after so many bytes, once."""
    lie: bool = False
    """Sends safetensors files that are not those it has told of."""
    status: int = 200
    sent: list[tuple[str, int]] = field(default_factory=list)
    """Path and first byte of each file that was asked for."""

    def answer(self, request: Request) -> Reply:
        """The answer of the hub."""
        path = request.path.partition("?")[0]
        if self.status != 200:
            told = f"Not for {request.headers.get('authorization', 'you')}."
            return Reply(b"{}", self.status, {"Content-Type": "application/json", "X-Error-Message": told})
        if path.startswith(f"/api/models/{REPOSITORY}/tree/{COMMIT}"):
            return _json([self._entry(name) for name in sorted(self.files)])
        if path == f"/api/models/{REPOSITORY}/revision/{COMMIT}":
            return _json({"id": REPOSITORY, "sha": COMMIT, "cardData": {"license": "mit"}, "siblings": [], "tags": []})
        found = re.fullmatch(f"/{REPOSITORY}/resolve/{COMMIT}/(.+)", path)
        if found is None or found[1] not in self.files:
            return Reply(b"", 404)
        return self._file(found[1], request)

    def _entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(data),
            "oid": hashlib.sha1(data).hexdigest(),  # noqa: S324  # as git does
        }
        if name.endswith(".safetensors"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, name: str, request: Request) -> Reply:
        data = self.files[name]
        if self.lie and name.endswith(".safetensors"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        etag = hashlib.sha256(self.files[name]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return Reply(b"", 200, {**headers, "Content-Length": str(len(data))})
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        begin = int(found[1]) if found else 0
        self.sent.append((name, begin))
        if found:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        body = data[begin:]
        headers["Content-Length"] = str(len(body))
        if self.break_off_at is not None and len(body) > self.break_off_at:
            body, self.break_off_at = body[: self.break_off_at], None
        return Reply(iter([body]), 206 if found else 200, headers)


def _json(told: object) -> Reply:
    return Reply(json.dumps(told).encode(), 200, {"Content-Type": "application/json"})


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their path in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[Hub, LocalServer]]:
    """The running server."""
    made = Hub(files)
    with serving(made.answer) as server:
        yield made, server
