"""Measuring what Limner does, on pictures and machines of one's own."""
