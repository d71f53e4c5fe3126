"""What was sent to break the service, one test a kind, with its time and memory."""
