"""The choice and the form of thumbnails that need no job: `tests/contract/test_thumbnails.py` tests the rest."""

import numpy as np

from limner.vision.image import Limits, decode_picture
from limner.vision.thumbnail import SIDE, Thumbnail


def test_a_very_long_picture_keeps_one_pixel() -> None:
    thumbnail = Thumbnail(None, covers=False)
    thumbnail.see_photo(np.full((1, 16_000, 3), 200, np.uint8))
    small = thumbnail.made(failed=False)
    assert small is not None
    assert (small.width, small.height) == (SIDE, 1)
    assert decode_picture(small.data, Limits()).pixels.shape == (1, SIDE, 3)


def test_the_colour_profile_is_kept() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    thumbnail = Thumbnail(None, covers=False)
    thumbnail.see_photo(np.zeros((9, 9, 3), np.uint8), profile=profile)
    small = thumbnail.made(failed=False)
    assert small is not None
    assert profile in small.data


def test_what_is_seen_first_counts() -> None:
    thumbnail = Thumbnail(None, covers=True)
    for value in (50, 200):
        thumbnail.see_made(np.full((9, 9, 3), value, np.uint8), None, None, covered=True)
    small = thumbnail.made(failed=False)
    assert small is not None
    assert abs(int(decode_picture(small.data, Limits()).pixels.mean()) - 50) < 3
    assert thumbnail.made(failed=True) is None
