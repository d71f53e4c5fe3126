"""Job store, job reader and event log in a SQL database. Read `transaction.py` first, then `store.py`."""
