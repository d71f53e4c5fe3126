"""What the service has promised to its clients, and what they have seen: the measure of the verdict."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass
class Promise:
    """A job that a client was told to be accepted."""

    id: str
    kind: str
    webhook: bool = False
    key: str | None = None
    end: str | None = None
    """The final status that a client was told first."""
    erasing: bool = False
    """Erasing was asked for; whether it happened is known only with a receipt."""
    receipt: dict[str, Any] | None = None


@dataclass
class Ledger:
    """Shared by all clients."""

    promises: dict[str, Promise] = field(default_factory=dict)
    jobs_of_keys: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """What no client should ever see."""
    answers: Counter[str] = field(default_factory=Counter)
    accepted_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accepted(self, job: dict[str, Any], kind: str, *, webhook: bool = False, key: str | None = None) -> Promise:
        """A submission was answered with this job."""
        with self._lock:
            self.accepted_at.append(time.monotonic())
            promise = self.promises.setdefault(job["id"], Promise(job["id"], kind, webhook, key))
            if key is not None:
                self.jobs_of_keys.setdefault(key, set()).add(job["id"])
        self.seen(job)
        return promise

    def seen(self, job: dict[str, Any]) -> None:
        """A client was told this state of a job. A job that has ended must stay as it ended."""
        promise = self.promises.get(job["id"])
        if promise is None:
            return
        with self._lock:
            if promise.end is not None and promise.end != job["status"]:
                self.wrong.append(f"job {job['id']} ended as {promise.end}, and was {job['status']} later")
            elif job["status"] in FINAL:
                promise.end = job["status"]

    def note(self, wrong: str) -> None:
        """Something wrong was seen."""
        with self._lock:
            self.wrong.append(wrong)

    def count(self, answer: str) -> None:
        """One more answer of this kind."""
        with self._lock:
            self.answers[answer] += 1
            if answer.startswith("2"):
                self.answered_at.append(time.monotonic())

    def longest_gap(self, times: list[float]) -> float:
        """The longest time between two of these."""
        return max((later - earlier for earlier, later in pairwise(sorted(times))), default=0.0)
