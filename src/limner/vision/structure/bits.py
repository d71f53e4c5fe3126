"""Numbers of any number of bits, as the headers of video codes have them."""

from limner.domain.errors import BadImageError


class Bits:
    """A reader of bits, the highest first. BadImageError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """An unsigned number of so many bits."""
        self._left -= count
        if self._left < 0:
            raise BadImageError("The header of the coded picture is cut short.")
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """One bit."""
        return bool(self.read(1))

    def exp_golomb(self) -> int:
        """ue(v) of ITU-T H.265, 9.2, and uvlc() of AV1, 4.10.3: at most 32 zeros."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise BadImageError("The header of the coded picture is not valid.")
        return (1 << zeros) - 1 + self.read(zeros)
