"""HTTP and WebSocket, the only asynchronous room. Read `app.py`, `operation_routes.py`, `event_streams.py`."""
