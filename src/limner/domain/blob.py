"""The state of a blob: whether its bytes are kept for the jobs that name it, or are on their way out."""

from enum import StrEnum


class BlobState(StrEnum):
    """`kept` → `marked` by the erasure of the last job that names it → `removing` → no row.

    A submission of the same bytes makes `marked` `kept` again. While it is `removing` the bytes may vanish at any
    moment, so a submission waits until the row is gone.
    """

    KEPT = "kept"
    MARKED = "marked"
    REMOVING = "removing"
