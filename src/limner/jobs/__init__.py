"""The life of a job: `submit.py` accepts it, `run.py` runs it, `sweep.py` recovers jobs that nobody works on."""
