"""The event bus within one process: a list of callbacks."""

import threading
from collections.abc import Callable


class LocalBus:
    """`ports.Bus` for readers in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[], None], ...] = ()

    def wake(self) -> None:
        """See `ports.Bus.wake`."""
        for listener in self._listeners:
            listener()

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:
        """See `ports.Bus.subscribe`."""
        with self._lock:
            self._listeners = (*self._listeners, on_wake)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(listener for listener in self._listeners if listener is not on_wake)

        return unsubscribe
