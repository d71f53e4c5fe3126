"""Limner: a self-hosted face-imaging service. Read `operation.py` first, then `jobs/run.py`, then `assembly/`."""

__version__ = "0.1.0"
