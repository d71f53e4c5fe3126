"""The job store, its readers and the event log on a SQL database. Read `transaction.py` first, then `store.py`."""
