"""The objects that the routes use, and the pool of threads in which they call synchronous code."""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, TypeVar, TypeVarTuple

from fastapi import Depends
from starlette.datastructures import URL
from starlette.requests import HTTPConnection

from limner.blob_ports import BlobStore
from limner.domain.errors import NotFoundError
from limner.domain.job import Job
from limner.domain.key import Caller
from limner.jobs.queue import Queue
from limner.jobs.submit import Submissions
from limner.operation import Operation
from limner.ports import JobReader
from limner.settings import Settings
from limner.vision.header import Limits
from limner.web.admission import Admission
from limner.web.event_streams import Streams
from limner.web.flights import Flights
from limner.web.links import Links
from limner.web.live_sockets import Live
from limner.web.upload_memory import UploadMemory
from limner.webhook_ports import HookReader

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREADS = 16
READERS = 8


@dataclass
class Services:
    """One object for the whole application; each route gets it through `Depends`."""

    settings: Settings
    catalogue: Mapping[str, Operation[Any, Any]]
    reader: JobReader
    hooks: HookReader
    queue: Queue
    blobs: BlobStore
    submissions: Submissions
    streams: Streams
    limits: Limits
    memory: UploadMemory
    check_ready: Callable[[], None]
    live: Live
    stopping: bool = False
    flights: Flights = field(default_factory=Flights)
    admission: Admission = field(default_factory=Admission)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "web"))
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS, "web-read"))

    def __post_init__(self) -> None:
        self._links_of = lru_cache(maxsize=256)(lambda base: Links(base, self.admission.pictures))

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run blocking code in the pool of threads, with the request's context (its id is needed for the log)."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: context.run(function, *args))

    async def read(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The same for what only reads: threads of its own, so that it need not wait behind writers that wait."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.readers, lambda: context.run(function, *args))

    def stop_soon(self) -> None:
        """End the open streams, and be ready no more. Called in a signal handler.

        Where this process runs the jobs, it takes no more of them either. Otherwise it does, for requests that are on
        their way: the jobs run elsewhere.
        """
        self.stopping = True
        if self.settings.engine_url == "processes:":
            self.submissions.open = False
        self.streams.close_soon()
        self.live.close_soon()

    async def job(self, job_id: str, caller: Caller) -> Job:
        """The job. NotFoundError, also for one that the caller may not see: it must not learn that there is one."""
        found = await self.read(self.reader.get, job_id)
        if found is None or not caller.sees(found.key_id):
            raise NotFoundError("The job does not exist. It may have been erased.")
        return found

    def parameters(self, job: Job) -> dict[str, Any] | None:
        """The job's parameters as a client would send them, without pictures; None for an unknown operation."""
        operation = self.catalogue.get(job.operation)
        return None if operation is None else operation.as_sent(job.params)

    async def check_owner(self, job_id: str, caller: Caller) -> None:
        """NotFoundError for a job of another owner. A job never changes its owner, so it is enough to look once."""
        if caller.only is not None:
            await self.job(job_id, caller)

    def links(self, connection: HTTPConnection) -> Links:
        """Makes the URLs in answers to this client."""
        return self._links_of(self._base_url(connection))

    def _base_url(self, connection: HTTPConnection) -> str:
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        scope = connection.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), None)
        return _origin(scope["scheme"], host, scope.get("server"))


@lru_cache(maxsize=256)  # `Host` comes from clients
def _origin(scheme: str, host: bytes | None, server: tuple[str, int | None] | None) -> str:
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": server})
    return f"{'https' if scheme in ('https', 'wss') else 'http'}://{url.netloc}"


async def find_services(connection: HTTPConnection) -> Services:
    """The application's services. It is async because FastAPI would send a plain function to a thread."""
    services = connection.app.state.services
    assert isinstance(services, Services)
    return services


async def find_caller(connection: HTTPConnection) -> Caller:
    """Who sent the request, as `Dispatch` has found out."""
    caller = connection.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


ServicesDep = Annotated[Services, Depends(find_services)]
CallerDep = Annotated[Caller, Depends(find_caller)]
