"""What was assumed when a face was drawn, as sentences for the result."""

from collections.abc import Mapping, Sequence

from limner.domain.errors import InvalidRequestError
from limner.vision import regions


def of_map(
    present: Sequence[int],
    map_size: tuple[int, int],
    photo_size: tuple[int, int],
    scheme: str,
    meanings: Mapping[int, str],
) -> list[str]:
    """Of a label map in which the values `present` occur. Sizes are (width, height).

    InvalidRequestError if the scheme needs skin, and none of the values means it.
    """
    notes = []
    if map_size != photo_size:
        notes.append(
            f"The segmentation map of {map_size[0]}×{map_size[1]} was assumed to show the whole photo of "
            f"{photo_size[0]}×{photo_size[1]}, and was scaled by nearest neighbour."
        )
    if scheme == "labels":
        return notes
    known = ", ".join(f"{value} {meanings[value]}" for value in present if value in meanings)
    notes.append(f"The segmentation map's values were read as: {known}.")
    unknown = [str(value) for value in present if value not in meanings]
    if unknown:
        notes.append(
            f"These values of the segmentation map have no known meaning and were ignored: {', '.join(unknown)}."
        )
    if scheme != "own" and not any(meanings.get(value) == "skin" for value in present):
        raise InvalidRequestError(
            "The segmentation map has no skin: none of its values means skin. Send `label_meanings`, or use the scheme "
            "'labels'."
        )
    return notes


def without_map(scheme: str) -> str:
    """Of a face that is drawn without a label map."""
    ears = "6 (right ear) and 7 (left ear)" if scheme == "seven" else "ears and hair"
    return (
        "Without a segmentation map, the forehead ends where the skin's colour does, or else at the upper edge of the "
        f"face mesh, and {ears} are left out."
    )


def of_missing(missing: Mapping[str, str], *, has_map: bool) -> list[str]:
    """Why regions of the scheme, by key and name, are not drawn; ears and hair without a map are told elsewhere."""
    names = [
        name if key == name else f"{key} ({name})"
        for key, name in missing.items()
        if has_map or name not in regions.ONLY_WITH_MAP
    ]
    if not names:
        return []
    return [f"These regions are turned away or not to be seen, and were left out: {', '.join(names)}."]
