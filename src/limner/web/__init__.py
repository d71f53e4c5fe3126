"""HTTP and WebSocket; the only asynchronous package. Read `app.py`, `operation_routes.py`, `event_streams.py`."""
