"""The state of a blob: whether its bytes are kept for jobs that refer to it, or will be removed."""

from enum import StrEnum


class BlobState(StrEnum):
    """`kept` → `marked` when the last job that refers to it is erased → `removing` → no row.

    A submission of the same bytes changes `marked` back to `kept`. While the state is `removing`, the bytes may be
    deleted at any moment, so a submission waits until the row has been removed.
    """

    KEPT = "kept"
    MARKED = "marked"
    REMOVING = "removing"
