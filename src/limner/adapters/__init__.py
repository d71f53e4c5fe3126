"""Implementations of the ports, named `<product>_<port>`. Only `assembly.py` puts them together."""
