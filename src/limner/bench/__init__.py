"""The benchmarks of `limner bench`, for your own pictures and machine."""
