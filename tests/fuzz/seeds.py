"""Where the fuzzing of pictures begins: one small file of each kind, and those that were hostile once."""

from pathlib import Path

from tests.hostile import pictures
from tests.hostile.pictures import noise, saved


def write(folder: Path) -> None:
    """Write the seeds as files."""
    small, frames = noise(24, 16), [noise(24, 16).rotate(90 * number) for number in range(3)]
    found = {path.name: path.read_bytes() for path in pictures.CASES.glob("hostile/*")}
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"):
        found[kind] = saved(small, kind)
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        found[f"{kind} animated"] = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
        found[f"TIFF {name}"] = saved(small, "TIFF", compression=name)
    found["JPEG progressive"] = saved(small, "JPEG", progressive=True)
    found["WebP lossless"] = saved(small.convert("RGBA"), "WEBP", lossless=True)
    for brand in (b"heic", b"avif"):
        found[f"one {brand.decode()}"] = pictures.one_picture(brand)
        found[f"grid {brand.decode()}"] = pictures.grid_picture(brand, 2, 1, 128, 64)
    for name, data in found.items():
        (folder / name).write_bytes(data)
