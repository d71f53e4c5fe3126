"""The other side of `LiveProcess` for its tests. A frame says what becomes of it."""

import os
import sys
import time

from limner.adapters.process_worker import connect


def main() -> None:
    """Answer frames; with an argument, do not even begin."""
    pipe, greeting = connect()
    if len(sys.argv) > 1:
        {"exit": lambda: os._exit(3), "hang": lambda: time.sleep(60)}[sys.argv[1]]()
    pipe.send({"ready": True})
    while (message := pipe.receive()) is not None:
        frame = pipe.receive_bytes(message["bytes"])
        if frame == b"abort":
            os.abort()
        elif frame == b"hang":
            time.sleep(60)
        elif frame == b"garbage":
            os.write(pipe._fd, b"no JSON\n")
        pipe.send({"faces": [], "bytes": len(frame or b""), "word": greeting["word"]})


main()
