"""A stream of server-sent events that is resumed, without input and output: bytes go in, events come out."""

import json
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

from limner.client.calls import Answer, Ask, problem_of
from limner.client.errors import NotReachedError, UnexpectedAnswerError
from limner.client.jobs import FINAL, Event
from limner.client.reading import read

SILENCE_S = 45.0
"""The service says something every 15 s; a stream that is silent for longer is lost."""
MAX_EVENT_BYTES = 4_000_000
LONGEST_PAUSE_S = 30.0
_REMEMBERED = 1000


class EventStream:
    """One stream over as many connections as it needs.

    For each: send `ask()`, `feed` what arrives or tell that it was `refused` or `lost`, and at its end wait `pause()`.
    """

    def __init__(self, *, job: str | None, operation: str | None, after: int | None, reconnects: int) -> None:
        """`reconnects`: so many connections in a row may end without anything new; None of them counts otherwise."""
        self._query = {name: text for name, text in (("job", job), ("operation", operation)) if text is not None}
        self._last = after
        self._of_one_job = job is not None
        self._reconnects = reconnects
        self._failures = 0
        self._retry_s = 1.0
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)
        self._rest = b""
        self._why = "The service ended the stream."
        self.done = False
        """Whether the one job that was asked for has ended, so that nothing follows."""

    def ask(self) -> Ask:
        """The request of the next connection, which continues after the last event."""
        self._rest = b""
        headers = {"Accept": "text/event-stream"}
        query = dict(self._query)
        if self._last is not None:
            headers["Last-Event-ID"] = str(self._last)
            query["after"] = str(self._last)  # the header has priority, but a proxy may drop it
        return Ask("GET", "/v1/events", query=query, headers=headers)

    def refused(self, answer: Answer) -> None:
        """For an answer that is no stream: returns where another try may help, else ProblemError."""
        error = problem_of(answer)
        if not error.retryable:
            raise error
        self._why = str(error)
        if error.retry_after_s is not None:
            self._retry_s = min(error.retry_after_s, LONGEST_PAUSE_S)

    def lost(self, why: str) -> None:
        """The connection was lost, or could not be made."""
        self._why = why

    def pause(self) -> float:
        """The seconds until the next connection. NotReachedError after too many that brought nothing."""
        self._failures += 1
        if self._failures > self._reconnects:
            raise NotReachedError(f"The event stream was lost {self._failures} times in a row. {self._why}")
        grown: float = min(LONGEST_PAUSE_S, self._retry_s * 2 ** (self._failures - 1))
        return grown * random.uniform(0.5, 1.0)  # noqa: S311  # so that not all clients come back at once

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with these bytes, each once. UnexpectedAnswerError."""
        self._rest += chunk.replace(b"\r", b"")
        *blocks, self._rest = self._rest.split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UnexpectedAnswerError("The event stream has an event without an end.")
        for block in blocks:
            event = self._event(block.decode("utf-8", "replace"))
            if event is None or event.id in self._seen:
                continue
            self._seen.append(event.id)
            self._last = event.id
            if self._of_one_job and event.type.removeprefix("job.") in FINAL:
                self.done = True
            yield event

    def _event(self, block: str) -> Event | None:
        data: list[str] = []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
            elif name == "retry" and value.strip().isdigit():
                self._retry_s = min(int(value) / 1000, LONGEST_PAUSE_S)
            elif line.startswith(":"):
                self._failures = 0  # the stream lives
        if not data:
            return None
        self._failures = 0
        try:
            told: dict[str, Any] = json.loads("\n".join(data))
            return read(Event, told)
        except ValueError as error:
            raise UnexpectedAnswerError(f"An event cannot be read: {error}.") from error
