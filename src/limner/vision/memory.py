"""Which errors of native libraries mean that no memory was left: each library has its own, and few use MemoryError."""

import re

_CV2_NO_MEMORY = -4  # cv::Error::StsNoMem
_TEXTS = re.compile(
    r"bad[ _]alloc|failed to allocate memory|insufficient memory|out of memory|failed to map segment", re.IGNORECASE
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that an allocation failed. It imports no library, so any process may ask."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV2_NO_MEMORY:
        return True
    # ImportError: the loader has no room for a library.
    speaks_in_text = isinstance(error, RuntimeError | ImportError) or type(error).__module__.startswith("onnxruntime.")
    return speaks_in_text and bool(_TEXTS.search(str(error)))
