"""The painter `diffusion`: diffusion models on this machine, by the library diffusers. Read `painter.py` first."""
