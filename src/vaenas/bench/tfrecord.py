"""Files of TFRecord framing, read without TensorFlow. (The package `tfrecord` reads them, but checks no checksum.)

A TFRecord file is a row of records, each of

    uint64  length of the data, little-endian
    uint32  masked CRC-32C of these 8 bytes
    bytes   data
    uint32  masked CRC-32C of the data

where masked means rotated right by 15 bits, then 0xa282ead8 added modulo 2^32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vaenas.errors import UserError


@dataclass(frozen=True)
class TFRecord:
    """The data of one record whose checksums hold; `number` counts from 0, `offset` is in bytes."""

    number: int
    offset: int
    data: bytes

    def __str__(self) -> str:
        return f"record {self.number} at byte {self.offset}"


def read_records(path: Path, max_length: int) -> Iterator[TFRecord]:
    """All records of a file, in order.

    Args:
        path: the file; it is read once, from the beginning.
        max_length: the longest data to expect, in bytes; it bounds the memory.

    Raises:
        UserError: names the first record that is cut short, too long, or fails a checksum, and where it begins.
    """
    number = offset = 0

    def fault(what: str) -> UserError:
        return UserError(f"{path}: record {number} at byte {offset} {what}")

    def read(length: int, what: str) -> bytes:
        """The next bytes, whose checksum stands behind them."""
        content = file.read(length + 4)
        if len(content) < length + 4:
            raise fault("is cut short: get the file anew")
        if masked_crc32c(content[:length]) != int.from_bytes(content[length:], "little"):
            raise fault(f"fails the checksum of its {what}: get the file anew, if it is a TFRecord file")
        return content[:length]

    with path.open("rb") as file:
        while file.peek(1):
            length = int.from_bytes(read(8, "length"), "little")
            if length > max_length:
                raise fault(f"has {length} bytes; at most {max_length} are expected: another file?")
            yield TFRecord(number, offset, read(length, "data"))
            number, offset = number + 1, offset + length + 16


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C: the CRC with Castagnoli's polynomial (RFC 3720, App. B.4)."""
    try:
        import google_crc32c
    except ImportError as error:
        raise UserError("reading TFRecord files needs google-crc32c: pip install 'vaenas[bench]'") from error
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
