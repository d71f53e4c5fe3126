"""`python -m limner`: the command line."""

from limner.cli import main

if __name__ == "__main__":
    main(prog_name="limner")
