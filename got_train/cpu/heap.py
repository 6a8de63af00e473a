"""The C heap of a process: memory that glibc keeps, and when it is trimmed. Computes nothing."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # mallopt(3)
MAX_FRAGMENTATION = 32 << 20  # free bytes inside the heap that may be resident above its peak use
MIN_TRIM_BYTES = (
    768 << 20
)  # in use, below which nothing is trimmed: a nano step would lose more than it gains


def keep_freed_memory() -> None:
    """Let glibc keep what was freed: mapping and unmapping a tensor costs more than an addition over it."""
    global _heap
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc, not musl
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 0x7FFFFFFF)
        libc.mallopt(M_TOP_PAD, 256 << 20)
    if hasattr(libc, "mallinfo2"):  # since glibc 2.33
        libc.mallinfo2.restype = _Mallinfo
        _heap = _heap or Heap(libc)


def trim_heap(ahead: int = 0) -> bool:
    """Return free memory inside the heap to the kernel if it raises the process's peak; says whether it did.

    To be called often while a model trains, after keep_freed_memory: Paddle asks for 4096-aligned memory, so
    that a tensor seldom fits where one of its size has been, and without this fragmentation takes 2.7 GB of a
    full-size step. The kernel zeroes what was returned when it is used again. `ahead` are bytes that will be
    asked for in one piece, for which no free block can be counted on.
    """
    return _heap is not None and _heap.trim(ahead)


def give_back_memory() -> None:
    """Return all free memory inside the heap, after something large was done once; glibc would keep it."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


class _Mallinfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = [("others", 4 * ctypes.c_size_t), ("hblkhd", ctypes.c_size_t), ("more", 2 * ctypes.c_size_t)]
    _fields_ += [("uordblks", ctypes.c_size_t), ("rest", 2 * ctypes.c_size_t)]


class Heap:
    """Sizes of this process's memory in bytes, without the pages of files and libraries."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self.libc = libc
        self.peak = 0  # of the bytes in use at any call of trim
        self.overhead = 0  # resident, neither in use nor free in the heap: Python's objects, stacks

    def resident(self) -> int:
        file = os.open("/proc/self/statm", os.O_RDONLY)  # in half the time of open()
        _, resident, shared, *_ = map(int, os.read(file, 200).split())
        os.close(file)
        return (resident - shared) * mmap.PAGESIZE

    def in_use(self) -> int:
        info = self.libc.mallinfo2()
        return info.uordblks + info.hblkhd

    def trim(self, ahead: int) -> bool:
        """Below the peak, free memory is kept: it raises no peak, and will be filled."""
        used = self.in_use()
        self.peak = max(self.peak, used + ahead)
        if self.peak < MIN_TRIM_BYTES:
            return False
        held = self.resident() - self.overhead
        if held + ahead - self.peak < MAX_FRAGMENTATION or held - used < MAX_FRAGMENTATION:
            return False
        self.libc.malloc_trim(0)
        self.overhead = self.resident() - self.in_use()
        return True


_heap: Heap | None = None  # once glibc keeps what was freed
