"""Products that stand behind the ports, one a file, named `<product>_<port>`. Only `assembly.py` names them."""
