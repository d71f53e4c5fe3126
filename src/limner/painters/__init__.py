"""Painters: each makes a new picture from a photo."""
