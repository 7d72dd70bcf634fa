"""Canonical Huffman codes of integer sequences, decoded many symbols at a time.

A stream is: the number of symbols (u32), the alphabet size (u32: the largest symbol + 1), each symbol's code length (4 bits, 0 if unused), the
number of bits of each block of `BLOCK` symbols (u16), the code words. Codes have at most `LONGEST` bits. Blocks are decoded side by side: a step
decodes one symbol of each.
"""

from __future__ import annotations

import heapq
import struct

import numpy as np
from numpy.typing import NDArray

from .errors import TersorError

LONGEST = 15
BLOCK = 1024
Symbols = NDArray[np.int64]


class Damaged(TersorError):
    """Coded bytes that the encoder cannot have written."""


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The length of each symbol's code word, 0 where it never occurs; at most `LONGEST`."""
    counts = counts.copy()
    lengths = np.zeros(len(counts), np.int64)
    used = np.flatnonzero(counts)
    if len(used) == 1:
        lengths[used] = 1
        return lengths
    while True:
        heap: list[tuple[int, int, tuple[int, ...]]] = [(int(counts[s]), i, (int(s),)) for i, s in enumerate(used)]
        heapq.heapify(heap)
        lengths[:] = 0
        number = len(heap)
        while len(heap) > 1:
            a, b = heapq.heappop(heap), heapq.heappop(heap)
            both = a[2] + b[2]
            lengths[list(both)] += 1
            number += 1
            heapq.heappush(heap, (a[0] + b[0], number, both))
        if lengths.max(initial=0) <= LONGEST:
            return lengths
        # flatter counts shorten the longest code
        counts[used] = counts[used] // 2 + 1


def code_words(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The canonical code word of each symbol: shorter ones first, then by the number of the symbol."""
    words = np.zeros(len(lengths), np.int64)
    word, before = 0, 0
    for s in np.lexsort((np.arange(len(lengths)), lengths)):
        if lengths[s]:
            word <<= int(lengths[s]) - before
            words[s], before = word, int(lengths[s])
            word += 1
    return words


def encode(symbols: Symbols) -> bytes:
    """Encode symbols, integers from 0 on, as a stream."""
    count = int(symbols.max()) + 1 if len(symbols) else 0
    lengths = code_lengths(np.bincount(symbols, minlength=count).astype(np.int64)) if count else np.zeros(0, np.int64)
    words = code_words(lengths)
    mine, word = lengths[symbols], words[symbols]
    # every code word right-aligned in LONGEST bits
    bits = (word[:, None] >> np.arange(LONGEST - 1, -1, -1)) & 1
    there = np.arange(LONGEST) >= LONGEST - mine[:, None]
    block_bits = np.add.reduceat(mine, np.arange(0, len(mine), BLOCK)) if len(mine) else np.zeros(0, np.int64)
    padded = np.append(lengths, 0)[: len(lengths) + len(lengths) % 2]
    table = (padded[::2] | padded[1::2] << 4).astype(np.uint8)
    head = struct.pack("<II", len(symbols), count)
    data: bytes = head + table.tobytes() + block_bits.astype("<u2").tobytes() + np.packbits(bits[there].astype(np.uint8)).tobytes()
    return data


def decode(data: bytes) -> Symbols:
    """The inverse of `encode`; raises `Damaged` for anything that it did not write."""
    if len(data) < 8:
        raise Damaged(f"a Huffman stream of {len(data)} bytes, expected 8 at least")
    total, count = struct.unpack("<II", data[:8])
    blocks = -(-total // BLOCK)
    at = 8 + (count + 1) // 2
    start = at + 2 * blocks
    if (total and not count) or start > len(data):
        raise Damaged(f"a Huffman stream of {len(data)} bytes, expected {start} at least for {total} of {count} symbols")
    table = np.frombuffer(data, np.uint8, (count + 1) // 2, 8)
    lengths = np.stack([table & 15, table >> 4], axis=1).reshape(-1)[:count].astype(np.int64)
    block_bits = np.frombuffer(data, "<u2", blocks, at).astype(np.int64)
    if len(data) - start != (int(block_bits.sum()) + 7) // 8:
        raise Damaged(f"code words of {len(data) - start} bytes, expected {(int(block_bits.sum()) + 7) // 8}")
    used = lengths[lengths > 0]
    full = float((2.0**-used).sum())
    if total and not (full == 1 or (len(used) == 1 and used[0] == 1)):
        raise Damaged(f"code lengths that are no Huffman code: {np.bincount(lengths).tolist()} symbols of 0, 1, 2, ... bits")
    return _decoded(data[start:], lengths, block_bits, total)


def _decoded(data: bytes, lengths: NDArray[np.int64], block_bits: NDArray[np.int64], total: int) -> Symbols:
    result = np.zeros((len(block_bits), BLOCK), np.int64)
    if not total:
        return result.reshape(-1)
    # lookup tables: the symbol and its code length for every window of LONGEST bits
    symbol_of, length_of = np.zeros(1 << LONGEST, np.int64), np.zeros(1 << LONGEST, np.int64)
    for s, (length, word) in enumerate(zip(lengths.tolist(), code_words(lengths).tolist())):
        if length:
            first = word << (LONGEST - length)
            symbol_of[first : first + (1 << (LONGEST - length))] = s
            length_of[first : first + (1 << (LONGEST - length))] = length
    raw = np.frombuffer(data + bytes(4), np.uint8).astype(np.int64)
    stops = np.cumsum(block_bits)
    place = stops - block_bits
    last = total - (len(block_bits) - 1) * BLOCK
    for i in range(BLOCK):
        live = len(block_bits) if i < last else len(block_bits) - 1
        if not live:
            break
        at = place[:live]
        byte = np.minimum(at >> 3, len(raw) - 4)
        window = (raw[byte] << 16 | raw[byte + 1] << 8 | raw[byte + 2]) >> (24 - LONGEST - (at & 7)) & ((1 << LONGEST) - 1)
        if not length_of[window].all():
            raise Damaged("a code word that stands for nothing")
        result[:live, i] = symbol_of[window]
        place[:live] += length_of[window]
    if not np.array_equal(place, stops):
        raise Damaged("a block of code words that does not end where it should")
    return result.reshape(-1)[:total]
