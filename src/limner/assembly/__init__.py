"""Builds the application, or a worker, from the settings. The only place where adapters are put together.

Slow imports are inside the functions, so that the first worker process starts before them and loads its models.
"""
