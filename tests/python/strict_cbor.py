"""Deterministic CBOR (RFC 8949 section 4.2), as much of it as Ordonnans uses, read strictly.

Written from the RFC and docs/wire.cddl, not from the product's code: it exists so that somebody else has read the same bytes.
Python's standard library only.
"""


class Refused(Exception):
    """The bytes are not what they should be. The first argument is a stable name, as the vectors write it."""

    def __init__(self, name, why):
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self):
        return f"{self.name}: {self.why}"


class Tag:
    """A tagged item."""

    def __init__(self, number, item):
        self.number = number
        self.item = item


class _Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Refused("Truncated", "the bytes end too early")
        part = self.data[self.at : self.at + n]
        self.at += n
        return part

    def head(self):
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24:
            return major, low, low
        if low > 27:
            name = "NotDeterministic" if low == 31 else "Form"
            raise Refused(name, "an indefinite or reserved length")
        size = 1 << (low - 24)
        value = int.from_bytes(self.take(size), "big")
        least = 24 if size == 1 else 1 << (4 * size)
        if major != 7 and value < least:
            raise Refused("NotDeterministic", "a number in more bytes than it needs")
        return major, low, value

    def item(self, depth):
        if depth > 8:
            raise Refused("Form", "nested too deep")
        major, low, value = self.head()
        if major == 0:
            return value
        if major == 1:
            return -1 - value
        if major == 2:
            return self.take(value)
        if major == 3:
            try:
                return self.take(value).decode("utf-8")
            except UnicodeDecodeError:
                raise Refused("Form", "a text that is not UTF-8") from None
        if major == 4:
            return [self.item(depth + 1) for _ in range(self.count(value))]
        if major == 5:
            return self.map(self.count(value), depth)
        if major == 6:
            return Tag(value, self.item(depth + 1))
        if low in (20, 21):
            return low == 21
        if low == 22:
            return None
        raise Refused("Form", "a float or a simple value")

    def count(self, n):
        # Each item has at least one byte, so a larger count can only be a lie.
        if n > len(self.data) - self.at:
            raise Refused("Truncated", "fewer items than announced")
        return n

    def map(self, n, depth):
        out, last = {}, None
        for _ in range(n):
            start = self.at
            key = self.item(depth + 1)
            raw = self.data[start : self.at]
            if not isinstance(key, int) or isinstance(key, bool):
                raise Refused("Form", "a key that is no integer")
            if last is not None and raw <= last:
                raise Refused("NotDeterministic", "keys out of order or twice")
            last = raw
            out[key] = self.item(depth + 1)
        return out


def decode(data):
    """The one item that these bytes are."""
    reader = _Reader(bytes(data))
    item = reader.item(0)
    if reader.at != len(reader.data):
        raise Refused("Trailing", "bytes are left over")
    return item
