"""A worker process: `python -m limner.worker`, started by the service's engine and by nobody else."""

import logging
import os

from limner.adapters.process_worker import PipeBus, connect, limit_memory, serve

NICENESS = 10
"""Above the web process's, so that with all cores at work requests and events are still answered first."""


def main() -> None:
    """Load the models, then run the jobs that come through the pipe, until it ends."""
    pipe, greeting = connect()

    from dataclasses import asdict
    from typing import Any

    from limner.assembly import build_runner
    from limner.settings import Settings
    from limner.telemetry import set_up_log

    settings = Settings(**greeting["settings"])
    set_up_log(settings.log_level, settings.log_format)
    limit_memory(settings.worker_memory_bytes)
    runner = build_runner(settings, greeting["worker"], PipeBus(pipe))

    def run(job_id: str) -> dict[str, Any] | None:
        report = runner.run(job_id)
        return None if report is None else asdict(report)

    os.nice(NICENESS)
    serve(pipe, run)
    logging.shutdown()
    os._exit(0)  # native libraries' own ends may take long, or crash


if __name__ == "__main__":
    main()
