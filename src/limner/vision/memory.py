"""Which errors of native libraries mean that no memory was left: each library has its own, and few use MemoryError."""

import re
from pathlib import Path

_CV2_NO_MEMORY = -4  # cv::Error::StsNoMem
_TEXTS = re.compile(
    r"bad[ _]alloc|failed to allocate memory|insufficient memory|out of memory|failed to map segment", re.IGNORECASE
)


def free_address_space() -> int | None:
    """Bytes that this process may still allocate under its own limit (RLIMIT_AS); None without a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(0, limit - pages * resource.getpagesize())
    except (ImportError, OSError):  # not every system has both
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that an allocation failed. It imports no library, so any process may ask."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV2_NO_MEMORY:
        return True
    # ImportError: the loader has no room for a library.
    speaks_in_text = isinstance(error, RuntimeError | ImportError) or type(error).__module__.startswith("onnxruntime.")
    return speaks_in_text and bool(_TEXTS.search(str(error)))
