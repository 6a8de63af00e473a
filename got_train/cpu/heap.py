"""glibc's heap: freed memory is kept for the next step, fragments are given back."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # mallopt(3)


HOLES = 32 << 20  # bytes of the heap that may be resident above the most that was ever in use


SMALL = 768 << 20  # bytes in use, below which holes are kept: a nano step's would cost more than they give


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
        _heap = _heap or _Heap(libc)


def give_back_holes(ahead: int = 0) -> bool:
    """Give holes in the heap back to the kernel if they raise the process's peak; says whether they did.

    To be called often while a model trains, after keep_freed_memory: Paddle asks for 4096-aligned memory, so
    that a tensor seldom fits where one of its size has been, and without this holes take 2.7 GB of a
    full-size step. What is given back costs the kernel's zeros when it is used again. `ahead` are bytes that
    will be asked for in one piece, for which no hole can be counted on.
    """
    return _heap is not None and _heap.give_back(ahead)


class _Mallinfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = [("others", 4 * ctypes.c_size_t), ("hblkhd", ctypes.c_size_t), ("more", 2 * ctypes.c_size_t)]
    _fields_ += [("uordblks", ctypes.c_size_t), ("rest", 2 * ctypes.c_size_t)]


class _Heap:
    """Sizes of this process's memory in bytes, without the pages of files and libraries."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self.libc = libc
        self.most = 0  # in use whenever somebody looked
        self.beside = 0  # neither in use nor a hole: Python's own objects, stacks, remainders of pages

    def resident(self) -> int:
        file = os.open("/proc/self/statm", os.O_RDONLY)  # in half the time of open()
        _, resident, shared, *_ = map(int, os.read(file, 200).split())
        os.close(file)
        return (resident - shared) * resource.getpagesize()

    def in_use(self) -> int:
        found = self.libc.mallinfo2()
        return found.uordblks + found.hblkhd

    def give_back(self, ahead: int) -> bool:
        """Beneath the most that was in use, holes are kept: they raise no peak, and will be filled."""
        used = self.in_use()
        self.most = max(self.most, used + ahead)
        if self.most < SMALL:
            return False
        held = self.resident() - self.beside
        if held + ahead - self.most < HOLES or held - used < HOLES:
            return False
        self.libc.malloc_trim(0)
        self.beside = self.resident() - self.in_use()
        return True


_heap: _Heap | None = None  # once glibc keeps what was freed
