"""A server and its workers with the additional operation `misbehave`, which crashes, hangs or wastes memory."""
