"""Makes `docs/drawn.jpg`, NASA's portrait of Eileen Collins (public domain, from scikit-image) in each drawn style,
and the page's examples of the styles.

Needs the development packages and the detector's and the mesh's models (`limner models`).
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from limner import settings
from limner.painters.drawn.fields import Pixels
from limner.painters.drawn.paint import paint
from limner.painters.drawn.painter import DrawnParams
from limner.painters.drawn.styles import DRAWN_STYLES
from limner.vision.detector import Detector
from limner.vision.image import encode, within
from limner.vision.mesh import FaceMesh

TARGET = Path(__file__).resolve().parent.parent / "docs" / "drawn.jpg"
COLUMNS, SIDE, STRIP = 4, 320, 22  # pixels
MAX_BYTES = 300_000
EXAMPLES = TARGET.parent.parent / "src" / "limner" / "web" / "page" / "painters"
EXAMPLE_SIDE, EXAMPLE_QUALITY = 224, 82


def main() -> None:
    folder = settings.load().models_dir
    photo: Pixels = np.ascontiguousarray(skimage.data.astronaut()[:370, 30:400])  # type: ignore[no-untyped-call]
    faces = Detector(folder).detect(photo)
    meshes = [result.points for result in FaceMesh(folder).fit(photo, faces)]
    tiles = [as_tile(photo, "photo")]
    for name, style in DRAWN_STYLES.items():
        size = (2 * SIDE, 2 * SIDE)
        drawn = paint(photo, style(), faces=[face.box for face in faces], meshes=meshes, size=size)
        tiles.append(as_tile(drawn, name))
        example = encode(within(drawn, EXAMPLE_SIDE), "jpeg", quality=EXAMPLE_QUALITY, subsampling="420")
        (EXAMPLES / f"drawn-{name}.jpg").write_bytes(example)
        if name == DrawnParams().style.style:
            (EXAMPLES / "drawn.jpg").write_bytes(example)
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)]
    sheet = np.asarray(np.vstack(rows), np.uint8)
    for quality in range(90, 50, -5):
        data = encode(sheet, "jpeg", quality=quality)
        if len(data) <= MAX_BYTES:
            TARGET.write_bytes(data)
            print(f"{TARGET}: {sheet.shape[1]}×{sheet.shape[0]}, {len(data)} bytes, quality {quality}")
            return
    sys.exit(f"The sheet is larger than {MAX_BYTES} bytes at any acceptable quality.")


def as_tile(picture: Pixels, name: str) -> Pixels:
    tile = np.full((SIDE + STRIP, SIDE, 3), 255, np.uint8)
    smaller = picture.shape[0] > SIDE
    tile[:SIDE] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    cv2.putText(tile, name, (6, SIDE + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return tile


if __name__ == "__main__":
    main()
