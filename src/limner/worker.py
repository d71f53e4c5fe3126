"""A worker process: `python -m limner.worker`. Only the service's engine starts it."""

import logging
import os

from limner import tracing
from limner.adapters.process_worker import PipeBus, connect, limit_memory, serve
from limner.domain.lane import PAINT

log = logging.getLogger("limner.worker")  # it runs as `__main__`

NICENESS, PAINT_NICENESS = 10, 19
"""A lower priority than the web process, so that requests and events are answered first when all cores are busy. Where
pictures are made, which takes seconds, it is lower than for other jobs: these get eight times as much of a busy core.
"""


def main() -> None:
    """Load the models, then run the jobs that arrive through the pipe, until it is closed."""
    pipe, greeting = connect()

    from dataclasses import asdict
    from typing import Any

    from limner.assembly.workers import build_runner
    from limner.domain.errors import LimnerError
    from limner.domain.lane import GPU
    from limner.settings import Settings
    from limner.telemetry import set_up_log
    from limner.vision.memory import is_out_of_memory

    settings = Settings(**greeting["settings"])
    set_up_log(settings.log_level, settings.log_format)
    if greeting["lane"] != GPU:  # CUDA reserves addresses for all memory of machine and device
        limit_memory(settings.worker_memory_bytes)
    tracing.start("worker")
    file = greeting["database_file"]
    try:
        runner = build_runner(
            settings, greeting["worker"], PipeBus(pipe), tuple(file) if file else None, lane=greeting["lane"]
        )
    except Exception as failure:
        error = MemoryError() if is_out_of_memory(failure) else failure
        log.error(  # noqa: TRY400  # the traceback is only for what is not known
            "a worker cannot start: %s: %s",
            type(error).__name__,
            error,
            exc_info=not isinstance(error, LimnerError | MemoryError),
            extra={"LIMNER_WORKER_MEMORY_BYTES": settings.worker_memory_bytes},
        )
        raise SystemExit(1) from None

    def run(job_id: str) -> dict[str, Any] | None:
        report = runner.run(job_id)
        return None if report is None else asdict(report)

    os.nice(PAINT_NICENESS if greeting["lane"] == PAINT else NICENESS)
    serve(pipe, run)
    tracing.stop()
    logging.shutdown()
    os._exit(0)  # the exit handlers of native libraries may be slow or crash


if __name__ == "__main__":
    main()
