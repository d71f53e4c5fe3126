"""The interfaces by which API keys are read, and what callers do is counted."""

from typing import Protocol

from limner.domain.key import Key


class KeyReader(Protocol):
    """Reads API keys. They are written by `Transaction`. UnavailableError when the database cannot be used."""

    def by_hash(self, sha256: str) -> Key | None:
        """The key whose token has, or had before its rotation, this SHA-256, also if it is revoked or expired."""
        ...

    def by_id(self, key_id: str) -> Key | None:
        """The key with this id, also if it is revoked or expired."""
        ...

    def all(self) -> list[Key]:
        """All keys, oldest first."""
        ...


class Counters(Protocol):
    """Counts what happens in a window of time, for all processes that share the counters."""

    remote: bool
    """Whether its methods wait for another program, so that they must not be called on an event loop.

    Then they are called in several threads. They always answer: who cannot reach shared counters counts for itself.
    """

    def count(self, name: str, window_s: int) -> int:
        """Count once more, and return how often this name was counted since `window_s` seconds began with its first
        count."""
        ...

    def counted(self, name: str) -> int:
        """How often the name was counted so far, 0 when its seconds are over."""
        ...
