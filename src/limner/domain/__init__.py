"""What the service speaks of: jobs, events and errors. Plain data, no input or output."""
