"""Noise for paper, pigment and graphite. The same seed gives the same noise."""

import numpy as np

from limner.painters.drawn.fields import Field, resized


def soft_noise(rng: np.random.Generator, height: int, width: int, grain: float, octaves: int = 3) -> Field:
    """Noise of mean 0 and deviation about 1; `grain`: size of its coarsest spots, pixels."""
    total = np.zeros((height, width), np.float32)
    power, amplitude = 0.0, 1.0
    for octave in range(octaves):
        cell = max(1.0, grain / 2**octave)
        coarse = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        total += np.float32(amplitude) * resized(coarse, width, height)
        power += amplitude * amplitude
        amplitude *= 0.6
    total /= np.float32(np.sqrt(power))
    return total


def streaks(rng: np.random.Generator, side: int, length: float, thickness: float, angle: float) -> Field:
    """A tile of (side, side) that repeats without seams: noise of mean 0 and deviation 1, drawn out along `angle`
    (radians, 0 = along x, clockwise as seen) over about `length` pixels."""
    frequency = 2 * np.pi * np.fft.fftfreq(side)
    fx, fy = np.meshgrid(frequency[: side // 2 + 1], frequency)
    fx = np.abs(fx)  # the half plane that rfft2 holds
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    kept = np.exp(-0.5 * ((along * length) ** 2 + (across * thickness) ** 2))
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * kept, s=(side, side))
    return np.asarray(tile / max(float(tile.std()), 1e-9), np.float32)
