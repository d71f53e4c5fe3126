"""Implementations of the ports, named `<product>_<port>`. Only `assembly/` puts them together."""
