"""HEIC and AVIF (ISO/IEC 14496-12, 23008-12, MIAF): the boxes of the still picture and the headers of its codes.

Pictures made of others (overlays, nested grids) are refused, because a small file can ask for any amount of work.
Every size that the container claims must be that of the coded picture, because decoders make room by either.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure import av1, colour_boxes, hevc
from limner.vision.structure.aperture import cropped
from limner.vision.structure.colour_boxes import Box
from limner.vision.structure.reading import CodePoints, Structure, check_size, unpack

MAX_BOXES = 4000
"""Of the file, its properties included; a camera's picture has about a hundred."""
MAX_ITEMS = 1000
"""Pictures, tiles and other items, as libheif; 64 megapixels in tiles of 512 × 512 are 250."""
MAX_REFERENCES = 20_000
MAX_EXTENTS = 8000
MAX_SHARED_BYTES = 16_000_000
"""Beside twice the file: what its items and pictures hold together, each counted as often as it is used."""

_ALPHA = {b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"}
_REFUSED_ITEMS = {b"iovl": "overlays", b"iden": "pictures made from another one"}
# Turn (irot, in quarters against the clock), then mirror (imir's axis) as one EXIF orientation, as libavif's users do.
_ORIENTATION = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def inspect_heic(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`. The size is the upright one: libheif turns the picture itself."""
    return _Container(data, limits, b"hvc1").picture()


def inspect_avif(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`. Of an animation that has a still picture, only that is shown to the codec."""
    return _Container(data, limits, b"av01").picture()


@dataclass(slots=True)
class _Item:
    kind: bytes = b""
    construction: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[int] = field(default_factory=list)


class _Container:
    """One file, read box by box."""

    def __init__(self, data: bytes, limits: Limits, coding: bytes) -> None:
        self.data = data
        self.limits = limits
        self.coding = coding
        self.boxes_left = MAX_BOXES
        self.references_left = MAX_REFERENCES
        self.copied = 0
        self.items: dict[int, _Item] = {}
        self.references: dict[tuple[bytes, int], list[int]] = {}
        self.alpha_of: list[tuple[int, int]] = []  # auxiliary picture, main picture
        self.properties: list[Box] = []
        self.idat = (0, 0)
        self.primary = -1
        self.sequence: av1.Sequence | None = None  # of the first coded picture that was checked
        self.parsed: dict[int, tuple[int, tuple[int, int], tuple[int, int]]] = {}
        top: dict[bytes, Box] = {}
        for box in self.boxes(0, len(data), whole=False):
            if box.kind in top and box.kind in {b"ftyp", b"meta", b"moov"}:
                raise BadImageError("The file has a box twice.")  # libraries differ in which they take
            top[box.kind] = box
        self.movie = top.get(b"moov")
        if b"meta" not in top:
            kind = "video or animation without a still picture" if self.movie else "container without a picture"
            raise (UnsupportedMediaError if self.movie else BadImageError)(f"The file is a {kind}.")
        self._meta(top[b"meta"])

    def boxes(self, start: int, stop: int, *, whole: bool = True) -> Iterator[Box]:
        """The boxes in a range. BadImageError if one ends outside (the last of the file may: its data are checked)."""
        at = start
        while at + 8 <= stop:
            self.boxes_left -= 1
            if self.boxes_left < 0:
                raise BadImageError(f"The file has more than {MAX_BOXES:,} boxes.")
            size, kind = int.from_bytes(self.data[at : at + 4]), self.data[at + 4 : at + 8]
            head = 8
            if size == 1:
                (size,) = unpack(">Q", self.data, at + 8)
                head = 16
            elif size == 0:
                size = stop - at
            if size < head or (at + size > stop and whole):
                raise BadImageError("A box of the file ends outside of it.")
            if at + size > stop and kind != b"mdat":
                raise BadImageError("The file is cut short.")
            yield Box(kind, at + head, min(at + size, stop))
            at += size

    # --- what the file says of its items ------------------------------------------------------------------------------

    def _meta(self, meta: Box) -> None:
        found: dict[bytes, Box] = {}
        for box in self.boxes(meta.start + 4, meta.stop):
            if box.kind in found and box.kind not in {b"free", b"skip", b"uuid"}:
                raise BadImageError("The file has a box twice.")
            found[box.kind] = box
        if not {b"pitm", b"iinf", b"iloc", b"iprp"} <= found.keys():
            raise BadImageError("The file lacks a box that describes its picture.")
        self.primary = self._id(found[b"pitm"].start + 4, wide=self.data[found[b"pitm"].start] > 0)
        if b"idat" in found:
            self.idat = (found[b"idat"].start, found[b"idat"].stop)
        self._item_information(found[b"iinf"])
        self._locations(found[b"iloc"])
        self._properties(found[b"iprp"])
        if b"iref" in found:
            self._references(found[b"iref"])

    def _id(self, at: int, *, wide: bool) -> int:
        return unpack(">I" if wide else ">H", self.data, at)[0]

    def _item_information(self, box: Box) -> None:
        start = box.start + (8 if self.data[box.start] else 6)
        for entry in self.boxes(start, box.stop):
            version = self.data[entry.start] if entry.start < entry.stop else 0
            if entry.kind != b"infe" or version not in {2, 3}:
                raise BadImageError("The file lists its items in an unknown way.")
            wide = version == 3
            item = self._id(entry.start + 4, wide=wide)
            at = entry.start + (10 if wide else 8)
            kind = self.data[at : at + 4]
            if kind in _REFUSED_ITEMS:
                raise UnsupportedMediaError(f"The picture is made of {_REFUSED_ITEMS[kind]}. Save it as one picture.")
            if item in self.items or len(self.items) >= MAX_ITEMS:
                raise BadImageError("The file has an item twice, or too many.")
            self.items[item] = _Item(kind)

    def _locations(self, box: Box) -> None:
        version, sizes = self.data[box.start], unpack(">H", self.data, box.start + 4)[0]
        if version > 2:
            raise BadImageError("The file tells the places of its items in an unknown way.")
        offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_size = sizes & 15 if version else 0
        if not {offset_size, length_size, base_size, index_size} <= {0, 4, 8}:
            raise BadImageError("The file tells the places of its items in an unknown way.")
        wide = version == 2
        at = box.start + 6
        count = self._id(at, wide=wide)
        at += 4 if wide else 2
        left = MAX_EXTENTS
        for _ in range(min(count, 2 * MAX_ITEMS)):
            item = self.items.get(self._id(at, wide=wide), _Item())
            at += 4 if wide else 2
            if version:
                item.construction = unpack(">H", self.data, at)[0] & 15
                at += 2
            at += 2  # the data are in this file
            base, at = self._sized(at, base_size)
            (extents,) = unpack(">H", self.data, at)
            at += 2
            left -= extents
            if left < 0 or at > box.stop or item.extents:
                raise BadImageError("The items of the file are in too many pieces.")
            for _ in range(extents):
                offset, at = self._sized(at + index_size, offset_size)
                length, at = self._sized(at, length_size)
                item.extents.append((base + offset, length))

    def _sized(self, at: int, size: int) -> tuple[int, int]:
        """A number of so many bytes, and where the next begins."""
        if at + size > len(self.data):
            raise BadImageError
        return int.from_bytes(self.data[at : at + size]), at + size

    def _properties(self, box: Box) -> None:
        associations: list[Box] = []
        for part in self.boxes(box.start, box.stop):
            if part.kind == b"ipco" and self.properties:
                raise BadImageError("The file has a box twice.")
            if part.kind == b"ipco":
                self.properties = list(self.boxes(part.start, part.stop))
            elif part.kind == b"ipma":
                associations.append(part)
        for part in associations:
            version, flags = self.data[part.start], self.data[part.start + 3]
            wide, long = version > 0, bool(flags & 1)
            (count,) = unpack(">I", self.data, part.start + 4)
            at = part.start + 8
            if count > MAX_ITEMS:
                raise BadImageError("The file describes too many items.")
            for _ in range(count):
                item = self.items.get(self._id(at, wide=wide), _Item())
                at += 4 if wide else 2
                number, at = self._sized(at, 1)
                if number > 32 or len(item.properties) > 32:
                    raise BadImageError("An item of the file has too many properties.")
                for _ in range(number):
                    index, at = self._sized(at, 2 if long else 1)
                    item.properties.append((index & (0x7FFF if long else 0x7F)) - 1)

    def _references(self, box: Box) -> None:
        wide = self.data[box.start] > 0
        size = 4 if wide else 2
        for part in self.boxes(box.start + 4, box.stop):
            source = self._id(part.start, wide=wide)
            (count,) = unpack(">H", self.data, part.start + size)
            self.references_left -= count
            if self.references_left < 0 or part.start + size + 2 + count * size > part.stop:
                raise BadImageError("The items of the file have too many references.")
            targets = unpack(f">{count}{'I' if wide else 'H'}", self.data, part.start + size + 2)
            self.references.setdefault((part.kind, source), []).extend(targets)
            if part.kind == b"auxl":
                self.alpha_of += [(source, target) for target in targets]

    # --- the picture --------------------------------------------------------------------------------------------------

    def picture(self) -> Structure:
        """The primary item, held to the limits with everything that is decoded for it."""
        self._check_shared()
        for number, item in self.items.items():
            if item.kind == b"grid":
                self._grid_tiles(number)
        width, height, tiles = self._coded(self.primary)
        shown = {self.primary, *tiles}
        for auxiliary, main in self.alpha_of:
            if main in shown and self._is_alpha(auxiliary):
                self._coded(auxiliary)
        described = [
            self.properties[at] for at in self.items[self.primary].properties if 0 <= at < len(self.properties)
        ]
        points = colour_boxes.code_points(self.data, described)
        brand = self.data[8:12]
        if self.coding == b"hvc1":
            width, height = self._turned_size(width, height)
            return Structure(width, height, points=points, bits=colour_boxes.bits(self.data, described))
        pieces = (slice(0, 8), b"avif", slice(12, None)) if self.movie is not None and brand != b"avif" else ()
        return Structure(
            width,
            height,
            self._orientation(),
            self._frames(),
            pieces,
            points=points or self._coded_points(),
            bits=8 if self.sequence is None else self.sequence.bits,
        )

    def _coded_points(self) -> CodePoints | None:
        points = None if self.sequence is None else self.sequence.points
        return None if points is None else colour_boxes.of_a_still(points)

    def _check_shared(self) -> None:
        """BadImageError where items share so much of the file that the copies which libheif makes would be huge.

        Before it decodes any, it copies each item's metadata, colour profile and parameter sets for each picture.
        """
        total = 0
        for number, item in self.items.items():
            size = sum(length or len(self.data) for _, length in item.extents)
            total += size * max(1, len(self.references.get((b"cdsc", number), ())))
            for index in item.properties:
                if 0 <= index < len(self.properties):
                    total += self.properties[index].stop - self.properties[index].start
        if total > 2 * len(self.data) + MAX_SHARED_BYTES:
            raise BadImageError("The items of the file overlap.")

    def _item(self, number: int) -> _Item:
        if number not in self.items:
            raise BadImageError("The file names an item that it does not have.")
        return self.items[number]

    def _of(self, item: _Item, kind: bytes) -> Iterator[tuple[int, Box]]:
        """An item's property of a kind, with its index. BadImageError if it has several."""
        found = [index for index in item.properties if 0 <= index < len(self.properties)]
        found = [index for index in found if self.properties[index].kind == kind]
        if len(found) > 1:
            raise BadImageError("A picture of the file has a property twice.")
        for index in found:
            yield index, self.properties[index]

    def _extent(self, item: _Item) -> tuple[int, int]:
        """Width and height that the item claims (ispe)."""
        for _, box in self._of(item, b"ispe"):
            width, height = unpack(">II", self.data, box.start + 4)
            check_size(width, height, self.limits)
            return width, height
        raise BadImageError("A picture of the file does not tell its size.")

    def _coded(self, number: int) -> tuple[int, int, list[int]]:
        """Width, height and tiles of an item, after its coded pictures were checked."""
        item = self._item(number)
        width, height = self._extent(item)
        if item.kind == b"grid":
            tiles, columns, rows, output = self._grid_tiles(number)
            if output != (width, height):
                raise BadImageError("The size of a grid of pictures is not what the file claims.")
            tile_width, tile_height = self._extent(self._item(tiles[0]))
            for tile in set(tiles):
                if self._extent(self._item(tile)) != (tile_width, tile_height):
                    raise BadImageError("The tiles of a grid differ in size.")
                self._check_coded(self._item(tile), (tile_width, tile_height))
            total = columns * tile_width, rows * tile_height
            if not (width <= total[0] < width + tile_width and height <= total[1] < height + tile_height):
                raise BadImageError("The tiles of a grid do not match its size.")
            if total[0] * total[1] > 2 * self.limits.max_pixels:
                raise BadImageError("The tiles of a grid have more pixels than a picture may have.")
            return width, height, tiles
        self._check_coded(item, (width, height))
        return width, height, []

    def _grid_tiles(self, number: int) -> tuple[list[int], int, int, tuple[int, int]]:
        """The tiles of a grid, its columns and rows, and its size. Tiles are coded pictures: one level."""
        flags, more_rows, more_columns, data = 0, 0, 0, self._content(self._item(number))
        _, flags, more_rows, more_columns = unpack(">BBBB", bytes(data[:4]), 0)
        output = unpack(">II" if flags & 1 else ">HH", bytes(data[4:12]), 0)
        tiles = self.references.get((b"dimg", number), [])
        columns, rows = more_columns + 1, more_rows + 1
        if len(tiles) != columns * rows:
            raise BadImageError("A grid of pictures lacks some, or has too many.")
        if any(self._item(tile).kind == b"grid" for tile in tiles):
            raise UnsupportedMediaError("The picture is a grid of grids. Save it as one picture.")
        return tiles, columns, rows, (output[0], output[1])

    def _check_coded(self, item: _Item, size: tuple[int, int]) -> None:
        """BadImageError unless the coded picture has the size that the file claims and is only one."""
        if item.kind != self.coding:
            name = item.kind.decode("latin-1")
            raise UnsupportedMediaError(f"The picture is coded as {name!r}, which is not accepted. Save it as JPEG.")
        content = self._content(item)
        if self.coding == b"av01":
            found = av1.sequence(content)
            if found is None:
                for _, box in self._of(item, b"av1C"):
                    found = av1.sequence(self.data[box.start + 4 : box.stop])
            if found is None or (found.width, found.height) != size:
                raise BadImageError("The size of the coded picture is not what the file claims.")
            self.sequence = self.sequence or found
            return
        for index, box in self._of(item, b"hvcC"):
            if index not in self.parsed:
                self.parsed[index] = hevc.configuration(self.data[box.start : box.stop])
            length_size, coded, cropped = self.parsed[index]
            if not all(low <= claimed <= high for low, claimed, high in zip(cropped, size, coded, strict=True)):
                raise BadImageError("The size of the coded picture is not what the file claims.")
            hevc.check_one_picture(content, length_size)
            return
        raise BadImageError("A picture of the file does not tell how it is coded.")

    def _content(self, item: _Item) -> bytes | memoryview:
        """The bytes of an item. BadImageError if they are not in the file."""
        start, stop = self.idat if item.construction == 1 else (0, len(self.data))
        if item.construction > 1 or not item.extents:
            raise BadImageError("The file does not hold the data of its picture.")
        pieces = []
        for offset, length in item.extents:
            end = start + offset + length if length else stop
            if start + offset > stop or end > stop:
                raise BadImageError("The file is cut short.")
            pieces.append(memoryview(self.data)[start + offset : end])
        if len(pieces) == 1:
            return pieces[0]
        self.copied += sum(map(len, pieces))
        if self.copied > 2 * len(self.data):
            raise BadImageError("The items of the file overlap.")
        return b"".join(pieces)

    def _is_alpha(self, number: int) -> bool:
        for _, box in self._of(self._item(number), b"auxC"):
            if self.data[box.start + 4 : box.stop].partition(b"\0")[0] in _ALPHA:
                return True
        return False

    def _turned_size(self, width: int, height: int) -> tuple[int, int]:
        """The size after the primary item's crops and turns, in the order that the file gives them."""
        for index in self._item(self.primary).properties:
            if not 0 <= index < len(self.properties):
                continue
            box = self.properties[index]
            if box.kind == b"irot" and unpack(">B", self.data, box.start)[0] & 1:
                width, height = height, width
            elif box.kind == b"clap":
                numbers = unpack(">IIIIiIiI", self.data, box.start)
                width = cropped(width, *numbers[:2], *numbers[4:6])
                height = cropped(height, *numbers[2:4], *numbers[6:8])
        return width, height

    def _orientation(self) -> int:
        item = self._item(self.primary)
        turn = next((self.data[box.start] & 3 for _, box in self._of(item, b"irot") if box.start < box.stop), 0)
        mirror = next((self.data[box.start] & 1 for _, box in self._of(item, b"imir") if box.start < box.stop), None)
        return _ORIENTATION[turn, mirror]

    def _frames(self) -> int:
        """The samples of the first track; 1 without."""
        box = self.movie
        for kind in (b"trak", b"mdia", b"minf", b"stbl", b"stsz"):
            if box is None:
                return 1
            box = next((inner for inner in self.boxes(box.start, box.stop) if inner.kind == kind), None)
        return 1 if box is None else max(1, unpack(">I", self.data, box.start + 8)[0])
