"""Jobs, events, blob states and errors: plain data without input or output."""
