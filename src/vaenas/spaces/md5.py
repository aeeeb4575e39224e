"""MD5 (RFC 1321) of many messages at once. A name for graphs here, not for security."""

import hashlib
import math

import numpy as np
from jaxtyping import Shaped, UInt8, UInt32

_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))  # by round
_WORD = ((1, 0), (5, 1), (3, 5), (7, 0))  # step i of round r takes word (a i + b) mod 16
_SINES = [np.uint32(int(abs(math.sin(i + 1)) * 2**32)) for i in range(64)]
_START = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476], dtype=np.uint32)
_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype="S2")  # of each byte
_FEW = 500  # messages below which the standard library, one by one, is quicker
_CHUNK = 16384  # messages whose words and state stay in the cache


def md5_hex(messages: UInt8[np.ndarray, "n length"]) -> Shaped[np.ndarray, "n"]:
    """The 32 hexadecimal digits (dtype S32) of the MD5 of each of n messages of equal length in bytes."""
    n, length = messages.shape
    if n < _FEW:
        return np.array([hashlib.md5(row.tobytes()).hexdigest() for row in messages], dtype="S32")
    blocks = (length + 8) // 64 + 1
    padded = np.zeros((n, blocks * 64), dtype=np.uint8)
    padded[:, :length], padded[:, length] = messages, 0x80
    padded[:, -8:] = np.frombuffer((8 * length).to_bytes(8, "little"), dtype=np.uint8)
    digests = np.empty((n, 4), dtype="<u4")
    for start in range(0, n, _CHUNK):
        words = padded[start : start + _CHUNK].view("<u4").T  # (16 blocks, n)
        state = np.repeat(_START[:, None], words.shape[1], axis=1)
        for block in range(blocks):
            state += _compress(state, np.ascontiguousarray(words[16 * block : 16 * (block + 1)], dtype=np.uint32))
        digests[start : start + _CHUNK] = state.T
    return _DIGITS.take(digests.view(np.uint8)).view("S32")[:, 0]


def _compress(state: UInt32[np.ndarray, "4 n"], words: UInt32[np.ndarray, "16 n"]) -> UInt32[np.ndarray, "4 n"]:
    """The 64 steps of one block (RFC 1321, Sec. 3.4)."""
    a, b, c, d = state.copy()
    mixed = np.empty_like(a)
    for step in range(64):
        kind, i = divmod(step, 16)
        if kind == 0:  # (b and c) or (not b and d)
            np.bitwise_xor(c, d, out=mixed)
            np.bitwise_and(mixed, b, out=mixed)
            np.bitwise_xor(mixed, d, out=mixed)
        elif kind == 1:  # (b and d) or (c and not d)
            np.bitwise_xor(b, c, out=mixed)
            np.bitwise_and(mixed, d, out=mixed)
            np.bitwise_xor(mixed, c, out=mixed)
        elif kind == 2:
            np.bitwise_xor(b, c, out=mixed)
            np.bitwise_xor(mixed, d, out=mixed)
        else:  # c xor (b or not d)
            np.bitwise_not(d, out=mixed)
            np.bitwise_or(mixed, b, out=mixed)
            np.bitwise_xor(mixed, c, out=mixed)
        a += mixed
        a += words[(_WORD[kind][0] * i + _WORD[kind][1]) % 16]
        a += _SINES[step]
        shift = _SHIFTS[kind][i % 4]
        np.right_shift(a, np.uint32(32 - shift), out=mixed)
        a <<= np.uint32(shift)
        a |= mixed
        a += b
        a, b, c, d = d, a, b, c
    return np.stack([a, b, c, d])
