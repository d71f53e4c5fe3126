"""A zip archive that is written while it is sent. Nothing is compressed, because pictures are already."""

import zipfile
from datetime import UTC, datetime
from typing import IO

_FIRST = datetime(1980, 1, 1, tzinfo=UTC)  # the first time that a zip can hold
_LARGE = 2**31 - 1  # a larger entry needs the 64-bit form, which is decided before it is written


class ZipStream:
    """Files are added piece by piece; `take` returns what the archive has grown by since. It holds no file's bytes.

    What stays in memory is the list of entries, about a kilobyte each.
    """

    def __init__(self) -> None:
        self._grown: list[bytes] = []
        self._zip = zipfile.ZipFile(self, "w", zipfile.ZIP_STORED)
        self._entry: IO[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """What `zipfile` writes to. Without `seek`, it puts sizes and checksums behind the bytes of each file."""
        self._grown.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def begin(self, name: str, size: int, changed_at: datetime) -> None:
        """Begin a file of about this size."""
        entry = zipfile.ZipInfo(name, max(changed_at.astimezone(UTC), _FIRST).timetuple()[:6])
        self._entry = self._zip.open(entry, "w", force_zip64=size > _LARGE)

    def add(self, data: bytes) -> None:
        """The next bytes of the file."""
        assert self._entry is not None
        self._entry.write(data)

    def end(self) -> None:
        """End the file."""
        assert self._entry is not None
        self._entry.close()
        self._entry = None

    def take(self) -> bytes:
        """The next bytes of the archive."""
        grown, self._grown[:] = b"".join(self._grown), []
        return grown

    def close(self) -> None:
        """Write the list of the files."""
        self._zip.close()
