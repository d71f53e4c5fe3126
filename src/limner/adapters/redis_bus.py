"""The event bus of several processes: wake-ups through Redis.

Readers look at the rows once a second anyway (`web/event_streams.py`), so they miss nothing while Redis is away.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)


CONNECT_S, ANSWER_S = 2.0, 2.0
REST_S = 1.0  # after an error
PING_S, SILENCE_S = 3.0, 9.0  # a frozen server keeps the connection open: it has to answer now and then


class RedisBus:
    """`ports.Bus` over Redis. Two threads, each started when it is needed; no caller waits for the network.

    A wake-up reaches the listeners of this process at once. Those in between are sent to the others as one.
    """

    def __init__(
        self, url: str, *, rest_s: float = REST_S, ping_s: float = PING_S, silence_s: float = SILENCE_S
    ) -> None:
        self._redis = connect(url)
        self._channel = f"limner.{self._redis.get_connection_kwargs().get('db') or 0}.events"
        self._me = secrets.token_hex(6).encode()  # a process need not hear its own wake-ups again
        self._rest_s, self._ping_s, self._silence_s = rest_s, ping_s, silence_s
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._closing = threading.Event()
        self._due = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._away: set[str] = set()  # the threads that cannot reach Redis; the log tells when that changes

    def wake(self) -> None:
        """See `ports.Bus.wake`."""
        self._due.set()
        self._start("bus-sender", self._send_on)
        self._call_listeners()

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:
        """See `ports.Bus.subscribe`."""
        with self._lock:
            self._listeners = (*self._listeners, on_wake)
        self._start("bus-listener", self._listen_on)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(listener for listener in self._listeners if listener is not on_wake)

        return unsubscribe

    def close(self) -> None:
        """Send what is due, and end both threads."""
        self._closing.set()
        self._due.set()
        for thread in self._threads.values():
            thread.join(CONNECT_S + ANSWER_S)
        self._redis.close()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        if name in self._threads:
            return
        with self._lock:
            if name not in self._threads and not self._closing.is_set():
                self._threads[name] = threading.Thread(target=self._keep, args=(name, work), name=name, daemon=True)
                self._threads[name].start()

    def _call_listeners(self) -> None:
        for listener in self._listeners:
            listener()

    # --- in the two threads

    def _keep(self, name: str, work: Callable[[], None]) -> None:
        """Repeat `work`, which ends with an error when Redis is away."""
        while not self._closing.is_set():
            try:
                work()
            except redis.RedisError as error:
                self._tell(name, away=True, reason=type(error).__name__)
            except Exception:
                log.exception("error in the bus")
            self._closing.wait(self._rest_s)

    def _tell(self, name: str, *, away: bool, reason: str | None = None) -> None:
        with self._lock:
            before = bool(self._away)
            (self._away.add if away else self._away.discard)(name)
            changed = before is not bool(self._away)
        if changed and away:
            log.warning("Redis is away; event streams look for new events once a second", extra={"reason": reason})
        elif changed:
            log.warning("Redis is back")

    def _send_on(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            try:
                self._redis.publish(self._channel, self._me)
            except redis.RedisError:
                self._due.set()  # once for all that were meant meanwhile
                raise
            self._tell("bus-sender", away=False)
            if self._closing.is_set():
                return

    def _listen_on(self) -> None:
        with self._redis.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(self._channel)
            pinged = heard = time.monotonic()
            while not self._closing.is_set():
                message = subscription.get_message(timeout=0.5)
                now = time.monotonic()
                if message is not None:
                    heard = now
                    self._hear(message)
                elif now > heard + self._silence_s:
                    raise redis.TimeoutError
                if now > pinged + self._ping_s:
                    pinged = now
                    subscription.ping()

    def _hear(self, message: dict[str, object]) -> None:
        if message["type"] == "subscribe":
            self._tell("bus-listener", away=False)
            self._call_listeners()  # something may have happened before
        elif message["type"] == "message" and message["data"] != self._me:
            self._call_listeners()


def connect(url: str) -> redis.Redis:
    """A client whose calls end soon. It connects when it is first used. ValueError for a URL that is none."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=ANSWER_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
