"""A stop that is asked for while a process still starts."""

import sys
from types import FrameType


class EarlyStop:
    """Signal handler that ends the process by SystemExit(0), and remembers that it was called.

    Compiled code swallows exceptions in some places ("Exception ignored in"), and other code turns them into errors of
    its own. So whoever starts looks at `asked` afterwards; otherwise such a stop would be lost.
    """

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        sys.exit(0)
