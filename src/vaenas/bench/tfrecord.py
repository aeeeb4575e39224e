"""Files of TFRecord framing and messages of protobuf's wire format, read without TensorFlow and without protobuf.

A TFRecord file is a row of records, each of

    uint64  length of the data, little-endian
    uint32  masked CRC-32C of these 8 bytes
    bytes   data
    uint32  masked CRC-32C of the data

where CRC-32C is the CRC with Castagnoli's polynomial (RFC 3720, App. B.4) and masked means rotated right by 15 bits,
then 0xa282ead8 added modulo 2^32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt32

from vaenas.errors import UserError

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_PREFIX = bytes.fromhex("54641f64")  # takes the CRC's register from 0 to all ones, the state that it has to start in
_BLOCK = 1 << 20  # bytes read at a time: what is made of them stays in the cache
_HEADER, _FOOTER = 12, 4


@dataclass(frozen=True)
class Record:
    """The data of one record whose checksums hold; `number` counts from 0, `offset` is in bytes."""

    number: int
    offset: int
    data: bytes

    def __str__(self) -> str:
        return f"record {self.number} at byte {self.offset}"


def read_records(path: Path, max_length: int) -> Iterator[list[Record]]:
    """All records of a file, in order, about a megabyte at a time.

    Args:
        path: the file; it is read once, from the beginning.
        max_length: the longest data to expect, in bytes; it bounds the memory.

    Raises:
        UserError: names the first record that is cut short, too long, or fails a checksum, and where it begins.
    """
    with path.open("rb") as file:
        buffer, offset, number = b"", 0, 0
        while block := file.read(_BLOCK):
            buffer += block
            records, used = _split(path, buffer, offset, number, max_length)
            yield records
            buffer, offset, number = buffer[used:], offset + used, number + len(records)
        if buffer:
            raise UserError(f"{path}: record {number} at byte {offset} is cut short: get the file anew")


def _split(path: Path, buffer: bytes, offset: int, number: int, max_length: int) -> tuple[list[Record], int]:
    """The whole records in `buffer`, which begins at byte `offset` with record `number`, and how long they are."""
    starts: list[int] = []  # of every record that has its header here, the last one perhaps without all of its data
    position = 0
    while position + _HEADER <= len(buffer):
        starts.append(position)
        position += _HEADER + int.from_bytes(buffer[position : position + 8], "little") + _FOOTER

    def first_failure(messages: list[bytes], checksums: list[bytes]) -> int:
        differs = masked_crc32c(messages) != np.frombuffer(b"".join(checksums), dtype="<u4")
        return int(differs.argmax()) if differs.any() else len(messages)

    def damaged(i: int, what: str) -> UserError:
        return UserError(f"{path}: record {number + i} at byte {offset + starts[i]} {what}")

    # A length is believed only once its checksum holds; up to the first that fails, all starts are right.
    sound = first_failure([buffer[s : s + 8] for s in starts], [buffer[s + 8 : s + 12] for s in starts])
    ends = [*starts[1:], position][:sound]
    long = next((i for i, end in enumerate(ends) if end - starts[i] > max_length + _HEADER + _FOOTER), sound)
    whole = sum(end <= len(buffer) for end in ends[:long])
    data = [buffer[s + _HEADER : e - _FOOTER] for s, e in zip(starts[:whole], ends, strict=False)]
    bad = first_failure(data, [buffer[e - _FOOTER : e] for e in ends[:whole]])
    if bad < whole:
        raise damaged(bad, "fails the checksum of its data: get the file anew")
    if long < sound:
        raise damaged(
            long, f"has {ends[long] - starts[long] - 16} bytes; at most {max_length} are expected: another file?"
        )
    if sound < len(starts):
        raise damaged(sound, "fails the checksum of its length: get the file anew, if it is a TFRecord file")
    records = [Record(number + i, offset + starts[i], text) for i, text in enumerate(data)]
    return records, ends[whole - 1] if whole else 0


def masked_crc32c(messages: list[bytes]) -> UInt32[np.ndarray, "n"]:
    """The masked CRC-32C of each message; meant for many messages of similar length.

    The register, started at 0, stays there over leading zeros. So messages are padded on the left to one length, with
    `_PREFIX` before their first byte, and all are worked off side by side, two bytes a step; those of one number of
    binary digits in their length at a time, so that the padding at most doubles them.
    """
    crc = np.empty(len(messages), dtype=np.uint32)
    lengths = np.array([len(message) for message in messages], dtype=np.int64)
    digits = np.frexp(lengths)[1]
    for number in np.unique(digits):
        which = np.flatnonzero(digits == number)
        width = int(lengths[which].max()) + len(_PREFIX)
        width += width % 2
        padded = b"".join([(_PREFIX + messages[i]).rjust(width, b"\0") for i in which])
        pairs = np.frombuffer(padded, dtype="<u2").reshape(len(which), width // 2)
        state = np.zeros(len(which), dtype=np.uint32)
        for column in np.ascontiguousarray(pairs.T):
            state = _TABLE[(state & 0xFFFF) ^ column] ^ (state >> 16)
        crc[which] = ~state
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


def _table() -> UInt32[np.ndarray, "65536"]:
    """The register after two zero bytes, for each value of its lower half."""
    states = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        states = states >> 1 ^ np.uint32(_POLYNOMIAL) * (states & 1)
    return states


_TABLE = _table()


def fields(message: bytes) -> dict[int, int | bytes]:
    """The fields of a protobuf message by number; of those that stand there repeatedly the last.

    A varint (wire type 0) comes as an int, eight and four bytes (1 and 5) and length-delimited values (2) as bytes.

    Raises:
        ValueError: the message is not in this format.
    """
    found: dict[int, int | bytes] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            found[tag >> 3], position = _varint(message, position)
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        end = position + length
        if end > len(message):
            raise ValueError("a field goes beyond the end of its message")
        found[tag >> 3], position = message[position:end], end
    return found


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the position behind it."""
    value = shift = 0
    for end, byte in enumerate(message[position : position + 10], start=position + 1):
        value |= (byte & 127) << shift
        if byte < 128:
            return value, end
        shift += 7
    raise ValueError("a number goes beyond ten bytes or the end of its message")
