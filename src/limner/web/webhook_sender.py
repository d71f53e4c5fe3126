"""Sends events to webhooks, from the event log, in a thread with an event loop of its own.

`jobs/webhooks.py` decides what is sent and when again; `web/outgoing.py` guards where to. Several processes may run a
sender on one database: each delivery is claimed for the time of one try.
"""

import asyncio
import logging
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpcore
from pydantic_core import to_json

from limner import tracing
from limner.domain.errors import UnavailableError, UrlFetchError, UrlNotAllowedError
from limner.domain.event import Event
from limner.domain.webhook import ENDINGS, Delivery, DeliveryState, Hook
from limner.jobs import webhooks
from limner.jobs.webhooks import Result
from limner.ports import Bus, EventLog, JobStore
from limner.settings import Settings
from limner.telemetry import WEBHOOKS_SENT
from limner.web import shapes
from limner.web.links import Links, PictureSeal
from limner.web.outgoing import GuardedNetwork, check_url
from limner.webhook_ports import HookReader

log = logging.getLogger(__name__)

FIELD = "webhook_url"
AT_ONCE = 32
PER_HOST = 4  # so 8 slow hosts are needed to delay the others, and then for one timeout
EVENTS_AT_ONCE = 200
IDLE_S = 1.0  # a webhook, or a replay, that another process adds is seen this late
MIN_PAUSE_S = 0.05  # many events make one round
LEASE_MARGIN_S = 5.0
ANSWER_BYTES = 4096
ANSWER_S = 1.0


@dataclass
class WebhookSender:
    """`start` and `stop` from any thread. Between them, webhooks are sent."""

    store: JobStore
    hooks: HookReader
    events: EventLog
    bus: Bus
    settings: Settings
    pictures: PictureSeal | None = None
    """Signs the URLs of pictures in what is sent, where keys are required."""
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False
    _active: bool = False
    _signalled: bool = False
    _queued_to: int | None = None
    _busy: Counter[str] = field(default_factory=Counter)
    _certificates: ssl.SSLContext | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the tries under way or their timeout; what is left is sent after the next start."""
        self._stopping = True
        self._signal()
        if self._thread is not None:
            self._thread.join(timeout=self.settings.webhook_timeout_s + LEASE_MARGIN_S)

    def _on_wake(self) -> None:
        if self._active and not self._signalled:  # without webhooks, events cost nothing here
            self._signal()

    def _signal(self) -> None:
        self._signalled = True
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        unsubscribe = self.bus.subscribe(self._on_wake)
        try:
            while not self._stopping:
                await asyncio.sleep(MIN_PAUSE_S)
                self._signalled = False
                self._woken.clear()
                await self._pause(await self._round())
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self.settings.webhook_timeout_s)
        finally:
            unsubscribe()

    async def _pause(self, seconds: float) -> None:
        """Wait for a wake-up or the end of a try, at most `seconds`."""
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return

    async def _round(self) -> float:
        """Queue what is new, begin what is due, and return how long nothing more is to do."""
        try:
            await asyncio.to_thread(self._queue)
            more = await self._begin()
            due = await asyncio.to_thread(self.hooks.next_due)
        except UnavailableError as error:
            log.warning("webhooks put off", extra={"detail": error.detail})
            return IDLE_S
        except Exception:
            log.exception("webhook sender error")  # the next round tries again
            return IDLE_S
        if more or due is None:
            return IDLE_S
        self._active = True  # so that a new webhook need not wait for the end of a slow host's try
        left = (due - datetime.now(UTC)).total_seconds()
        # What is due and was not begun is for a host with all its places taken: the end of a try wakes this thread.
        return min(IDLE_S, max(MIN_PAUSE_S, left)) if left > 0 else IDLE_S

    # --- in a thread of the pool ---------------------------------------------------------------------------------

    def _queue(self) -> None:
        """Queue deliveries for all new events."""
        since = self.hooks.wanted_since()
        self._active = since is not None
        if since is None:
            self._queued_to = None
            return
        if self._queued_to is None:
            remembered = self.store.transact(lambda tx: tx.fact(webhooks.CURSOR))
            self._queued_to = max(int(remembered or 0), since)
        while not self._stopping and (batch := self.events.after(self._queued_to, limit=EVENTS_AT_ONCE)):
            reached = batch[-1].id
            wanted = self._wanted(batch)
            if wanted:
                self.store.transact(lambda tx: webhooks.queue(tx, wanted, reached))  # noqa: B023  # runs at once
            self._queued_to = reached

    def _wanted(self, batch: list[Event]) -> list[tuple[Hook, Event]]:
        of_all = self.hooks.of_all()
        ended = {event.job_id for event in batch if event.type in ENDINGS}
        of_jobs = {job_id: self.hooks.of_job(job_id) for job_id in ended}
        return [
            (hook, event)
            for event in batch
            for hook in (*of_all, *of_jobs.get(event.job_id, ()))
            if webhooks.wants(hook, event)
        ]

    def _claim(self, busy: Counter[str]) -> list[Delivery]:
        """Deliveries for the free places, a few for each host. `busy` counts the places taken by each."""
        free = AT_ONCE - busy.total()
        full = [host for host, count in busy.items() if count >= PER_HOST]
        due = self.hooks.due(datetime.now(UTC), besides=full, limit=AT_ONCE) if free > 0 else []
        chosen: list[Delivery] = []
        planned = Counter(busy)
        for delivery in due:
            if len(chosen) < free and planned[delivery.host] < PER_HOST:
                planned[delivery.host] += 1
                chosen.append(delivery)
        if not chosen:
            return []
        lease = timedelta(seconds=self.settings.webhook_timeout_s + LEASE_MARGIN_S)
        return self.store.transact(lambda tx: webhooks.claim(tx, chosen, lease))

    # --- on the event loop -----------------------------------------------------------------------------------------

    async def _begin(self) -> bool:
        """Begin a try of each delivery that is due and has a place. Returns whether all places are taken."""
        while claimed := await asyncio.to_thread(self._claim, self._busy.copy()):
            for delivery in claimed:
                self._busy[delivery.host] += 1
                task = asyncio.create_task(self._try(delivery))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return self._busy.total() >= AT_ONCE

    async def _try(self, delivery: Delivery) -> None:
        try:
            parent = await asyncio.to_thread(self._trace_of, delivery) if tracing.on() else None
            attributes: tracing.Attributes = {"limner.job.id": delivery.job_id, "limner.try": delivery.tries + 1}
            with tracing.span("webhook", kind="client", parent=parent, attributes=attributes) as span:
                result, state = await self._deliver(delivery)
                if result.status is not None:
                    span.set({"http.response.status_code": result.status})
                if state is not DeliveryState.DELIVERED:
                    span.failed("not delivered" if result.status is None else str(result.status))
        except UnavailableError as error:  # it is tried again when its claim ends
            log.warning("a webhook's delivery could not be recorded", extra={"detail": error.detail})
        except Exception:
            log.exception("webhook error")
        else:
            if state is not None:
                outcome = "retry" if state is DeliveryState.WAITING else state
                WEBHOOKS_SENT.labels(outcome).inc()
                log.log(
                    logging.DEBUG if state is DeliveryState.DELIVERED else logging.INFO,
                    "webhook sent" if state is DeliveryState.DELIVERED else "webhook not delivered",
                    extra={
                        "webhook": delivery.hook_id,
                        "job": delivery.job_id,
                        "tries": delivery.tries + 1,
                        "status": result.status,
                        "outcome": str(outcome),
                    },
                )
        finally:
            self._busy[delivery.host] -= 1
            if not self._busy[delivery.host]:
                del self._busy[delivery.host]
            self._woken.set()

    async def _deliver(self, delivery: Delivery) -> tuple[Result, DeliveryState | None]:
        prepared = await asyncio.to_thread(self._prepare, delivery)
        if prepared is None:
            result = Result(None, "The webhook or the event was removed.", final=True)
        else:
            url, headers, body = prepared
            result = await self._post(url, headers, body)
        return result, await asyncio.to_thread(self._settle, delivery, result)

    def _trace_of(self, delivery: Delivery) -> str | None:
        job = self.store.transact(lambda tx: tx.job(delivery.job_id))
        return None if job is None else job.traceparent

    def _prepare(self, delivery: Delivery) -> tuple[str, list[tuple[str, str]], bytes] | None:
        """URL, headers and body of a try; None if there is nothing to send any more."""
        from standardwebhooks import Webhook  # a slow import, for those who use webhooks

        hook = self.hooks.hook(delivery.hook_id)
        found = self.events.after(delivery.event_id - 1, limit=1, job_id=delivery.job_id)
        if hook is None or not found or found[0].id != delivery.event_id or found[0].content is None:
            return None
        now = datetime.now(UTC)
        secrets = [hook.secret] if hook.secret else self.hooks.secrets(hook.signer, now)
        if not secrets:
            return None
        body = to_json(shapes.event(found[0], Links(hook.base_url or "", self.pictures)))
        signatures = [Webhook(secret).sign(delivery.id, now, body.decode()) for secret in secrets]
        headers = [
            ("Host", urlsplit(hook.url).netloc),
            ("User-Agent", "limner"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            ("webhook-id", delivery.id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signatures)),
        ]
        return hook.url, headers, body

    def _settle(self, delivery: Delivery, result: Result) -> DeliveryState | None:
        settings = self.settings
        return self.store.transact(
            lambda tx: webhooks.settle(
                tx, delivery, result, tries=settings.webhook_tries, first_s=settings.webhook_retry_s
            )
        )

    async def _post(self, url: str, headers: list[tuple[str, str]], body: bytes) -> Result:
        """One try. A redirect is a failure: it is not followed."""
        timeout_s = self.settings.webhook_timeout_s
        if self._certificates is None:
            self._certificates = httpcore.default_ssl_context()  # slow, so once, and not at start
        network = GuardedNetwork(self.settings.fetch_private_hosts, FIELD)
        status: int | None = None
        try:
            check_url(url, self.settings.fetch_ports, FIELD)
            async with (
                asyncio.timeout(timeout_s) as limit,
                httpcore.AsyncConnectionPool(
                    ssl_context=self._certificates, network_backend=network, retries=0
                ) as pool,
                pool.stream("POST", url.partition("#")[0], headers=headers, content=body) as answer,
            ):
                status = answer.status
                limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
                await _read_some(answer)
        except UrlNotAllowedError as error:
            return Result(None, error.detail, final=True)
        except UrlFetchError as error:
            return Result(None, error.detail)
        except (TimeoutError, httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException):
            # The same text whatever happened, as for `image_url`: nobody can scan ports with it.
            if status is None:
                return Result(None, f"{FIELD}: No answer arrived within {timeout_s:g} s.")
        return Result(status)


async def _read_some(answer: httpcore.Response) -> None:
    """Read a little of the body, so that an ordinary receiver is not cut off. What it says does not matter."""
    received = 0
    async for chunk in answer.aiter_stream():
        received += len(chunk)
        if received >= ANSWER_BYTES:
            return
