"""Makes `docs/styles.jpg`, the portrait of `drawn_sheet.py` in every style of `styles`, and the page's examples.

Needs the development packages, the detector's models, and those of `limner models fetch styles`.
"""

from pathlib import Path

import numpy as np
import skimage.data
from drawn_sheet import COLUMNS, EXAMPLE_QUALITY, EXAMPLE_SIDE, EXAMPLES, as_tile

from limner.painters.configuration import models_dir
from limner.painters.drawn.fields import Pixels
from limner.painters.painter import Canvas
from limner.painters.styles import NUMBERS, Styles, StylesParams
from limner.vision.detector import Detector
from limner.vision.image import encode, within

TARGET = Path(__file__).resolve().parent.parent / "docs" / "styles.jpg"
QUALITY = 68


def main() -> None:
    detector = Detector(models_dir())
    photo: Pixels = np.ascontiguousarray(skimage.data.astronaut()[:370, 30:400])  # type: ignore[no-untyped-call]
    canvas = Canvas(
        photo=photo,
        size=None,
        seed=1,
        step=lambda _i, _n, _preview: None,
        find_faces=detector.detect,
        fit_meshes=lambda _photo, _faces: (),
    )
    tiles = [as_tile(photo, "photo")]
    for name in NUMBERS:
        made = Styles().paint(canvas, StylesParams.model_validate({"style": name}))
        tiles.append(as_tile(made, name))
        example = encode(within(made, EXAMPLE_SIDE), "jpeg", quality=EXAMPLE_QUALITY, subsampling="420")
        (EXAMPLES / f"styles-{name}.jpg").write_bytes(example)
        if name == StylesParams().style:
            (EXAMPLES / "styles.jpg").write_bytes(example)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)]
    TARGET.write_bytes(encode(np.asarray(np.vstack(rows), np.uint8), "jpeg", quality=QUALITY))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
