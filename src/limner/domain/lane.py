"""A lane: jobs that wait for the same workers. A lane that is full or slow holds up no other."""

from dataclasses import dataclass

CPU, PAINT, GPU, REMOTE = LANES = ("cpu", "paint", "gpu", "remote")
"""On a core, for a moment; on a core, for seconds or minutes; on a device, one at a time; on another server, while a
worker waits for it.
"""

REMOTE_JOB_TIMEOUT_S = 2700.0
"""How long a job in the lane `remote` may run, if no setting says: eight pictures of 300 s, and what is around them."""


@dataclass(frozen=True, slots=True)
class Lane:
    """How many workers serve it, how many jobs may wait for them, and how long one may run.

    Workers of a lane `on_demand` are started when a job needs them. Without workers, no job is accepted.
    """

    workers: int
    max_queued: int
    timeout_s: float
    on_demand: bool = False
