"""What happens to a job: `submit.py` takes it in, `run.py` runs it, `sweep.py` picks up what was left lying."""
