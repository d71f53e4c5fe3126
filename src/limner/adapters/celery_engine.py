"""The engine of several machines: Celery carries the ids of jobs to workers, over Redis or RabbitMQ.

This is the web process's side, with the settings that both sides share; the worker's side is `limner/celery_app.py`.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import ChannelError, OperationalError

from limner.domain.lane import LANES
from limner.ports import Waiting

log = logging.getLogger(__name__)

TASK = "limner.run"

REST_S = 2.0  # after an error, so that a broker that is down costs one attempt in this time
SEND_S = 5.0  # a broker that does not answer is given up after this time
CONNECT_S = 2.0
ANSWER_S = 1.0  # workers that are busy answer too: their main process does
STOP_S = 3.0  # at a stop, what is still to be sent has this long: the sweep of the next start sends the rest
LOST_AFTER = timedelta(seconds=30)
"""A waiting job that was sent this long ago, while nothing waits in its lane's queue, was lost."""
AGAIN_AFTER = timedelta(minutes=10)
"""A job is sent again after this time even if the queue is not empty: only its own message may be lost."""


def broker_app(url: str) -> Celery:
    """Celery with one queue for each lane. Only ids and lanes of jobs travel, as JSON; Celery keeps no result."""
    app = Celery("limner", broker=_verifying(url), set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(lane) for lane in LANES],  # type: ignore[no-untyped-call]
        task_default_queue=LANES[0],
        task_create_missing_queues=False,
        task_acks_late=True,  # a message leaves the broker after its job, so that a killed worker's comes back
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_timeout=CONNECT_S,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(url),
    )
    return app


def _verifying(url: str) -> str:
    """The URL, with certificates checked unless it says otherwise: by itself, Celery trusts any for `rediss:`."""
    if not url.startswith("rediss:") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _transport_options(url: str) -> Mapping[str, object]:
    if url.startswith("amqp"):
        return {"confirm_publish": True, "read_timeout": SEND_S, "write_timeout": SEND_S}
    return {
        "visibility_timeout": 3600,  # leases decide when a job runs again, not the broker
        "socket_timeout": SEND_S,
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


class CeleryEngine:
    """`ports.Engine` on a broker. `capacity` bounds the ids that wait to be sent while the broker is away."""

    def __init__(
        self,
        app: Celery,
        *,
        capacity: int,
        rest_s: float = REST_S,
        lost_after: timedelta = LOST_AFTER,
        again_after: timedelta = AGAIN_AFTER,
    ) -> None:
        self._app = app
        self._errors = broker_errors(app)
        self._line: queue.Queue[tuple[str, str] | None] = queue.Queue(capacity)
        self._rest_s = rest_s
        self._lost_after = lost_after
        self._again_after = again_after
        self._lock = threading.Lock()
        self._known: set[str] = set()  # ids in the line
        self._unknown_lanes: set[str] = set()
        self._stopping = threading.Event()
        self._away = False  # so that the log has one line for each time that the broker is away
        self._sender = threading.Thread(target=self._send_on, name="celery-sender", daemon=True)

    def send(self, job_id: str, lane: str) -> None:
        """See `ports.Engine.send`. A thread sends it; it is dropped if too many ids wait for the broker."""
        self._offer(job_id, lane)

    def _offer(self, job_id: str, lane: str) -> bool:
        """Put the id into the line. False if there is no room."""
        if lane not in LANES:
            if lane not in self._unknown_lanes:  # logged once, because the sweep repeats it
                self._unknown_lanes.add(lane)
                log.error("no queue exists for the lane %r: its jobs wait", lane, extra={"job": job_id})
            return False
        with self._lock:
            if job_id in self._known:
                return True
            try:
                self._line.put_nowait((job_id, lane))
            except queue.Full:
                return False
            self._known.add(job_id)
        return True

    def resend(self, waiting: Sequence[Waiting], now: datetime) -> list[str]:
        """See `ports.Engine.resend`.

        Sends what was never sent, what is missing from an empty queue, and what was sent long ago.
        """
        due: list[Waiting] = []
        late: list[Waiting] = []
        for each in waiting:
            if each.sent_at is None or each.sent_at < now - self._again_after:
                due.append(each)
            elif each.sent_at < now - self._lost_after:
                late.append(each)
        empty = self._empty({each.lane for each in late})
        due += [each for each in late if each.lane in empty]
        return [each.job_id for each in due if self._offer(each.job_id, each.lane)]

    def _empty(self, lanes: set[str]) -> set[str]:
        """Those of these lanes in whose queue no message waits, as far as the broker tells."""
        wanted = lanes & set(LANES)
        if not wanted:
            return wanted
        try:
            with connected(self._app) as connection:
                return {lane for lane in wanted if depth(connection, lane) == 0}
        except self._errors as error:
            log.debug("the broker does not tell how many ids wait", extra={"reason": _words(error)})
            return set()

    def start(self) -> None:
        """See `ports.Engine.start`. The workers are processes of their own: this only begins to send."""
        self._sender.start()

    def stop(self, timeout_s: float) -> None:
        """See `ports.Engine.stop`. Running jobs go on in their workers; what waits to be sent is sent if it can be."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # then the sender sees the event
            self._line.put_nowait(None)
        if self._sender.ident is not None:
            self._sender.join(min(timeout_s, STOP_S))
        self._app.close()

    # --- in the sender's thread

    def _send_on(self) -> None:
        while (each := self._line.get()) is not None:
            job_id, lane = each
            while not self._sent(job_id, lane):
                if self._stopping.wait(self._rest_s):
                    return
            with self._lock:
                self._known.discard(job_id)

    def _sent(self, job_id: str, lane: str) -> bool:
        """Send one id. False if the broker is away, so that another attempt makes sense."""
        try:
            self._app.send_task(TASK, (job_id, lane), queue=lane, retry=False, ignore_result=True)
        except self._errors as error:
            if not self._away:
                log.warning("the broker is away; accepted jobs wait for it", extra={"reason": _words(error)})
            self._away = True
            return False
        except Exception:  # another attempt would fail alike; the sweep may have more luck
            log.exception("a job could not be sent", extra={"job": job_id, "lane": lane})
            return True
        if self._away:
            log.warning("the broker is back")
        self._away = False
        return True


def broker_errors(app: Celery) -> tuple[type[Exception], ...]:
    """What is raised when the broker is away, or refuses what it is asked: a wrong password, a missing permission."""
    broker = app.connection_for_write()
    return (OperationalError, OSError, *broker.connection_errors, *broker.channel_errors)


@contextlib.contextmanager
def connected(app: Celery) -> Iterator[Connection]:
    """A connection to the broker, opened now and closed at the end. OperationalError if the broker is away."""
    with app.connection_for_write(connect_timeout=CONNECT_S) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_S)
        yield connection


def depth(connection: Connection, lane: str) -> int:
    """How many messages wait in a lane's queue, those at workers not counted."""
    with connection.channel() as channel:  # type: ignore[no-untyped-call]
        try:
            return int(channel.queue_declare(lane, passive=True).message_count)
        except (ChannelError, *connection.channel_errors) as error:
            if str(getattr(error, "reply_code", "")) != "404":
                raise
            return 0  # Redis keeps no empty lists


def workers_of_lanes(app: Celery) -> dict[str, int]:
    """How many workers answer for each lane. The broker's errors (`broker_errors`)."""
    with connected(app) as connection:
        answers = app.control.inspect(timeout=ANSWER_S, connection=connection).active_queues() or {}
    served = [{each["name"] for each in queues} for queues in answers.values()]
    return {lane: sum(lane in names for names in served) for lane in LANES}


def _words(error: BaseException) -> str:
    """What went wrong, without anything that could hold the URL's password."""
    return type(error.__cause__ or error).__name__
