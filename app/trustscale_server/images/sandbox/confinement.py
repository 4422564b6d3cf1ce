"""Takes from a process all system calls but those that decoding a file needs."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final, NamedTuple

_SET_DUMPABLE, _SET_SECCOMP, _NO_NEW_PRIVILEGES, _FILTER = 4, 22, 38, 2  # of prctl

_LOAD, _EQUAL, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06  # of classic BPF
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in `struct seccomp_data`
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000

_THREAD: Final = 0x10000
"""CLONE_THREAD."""

# By name: the numbers on x86-64 and on 64-bit ARM; None: there is no such call.
_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "writev": (20, 66),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "getpriority": (140, 141),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_PRLIMIT, _KILL, _TGKILL, _CLONE = (302, 261), (62, 129), (234, 131), (56, 220)
_CLONE3: Final = 435  # its flags are in memory: refused as unknown, so that libraries use clone


class _Machine(NamedTuple):
    """The number by which the kernel calls an architecture, and the column of the tables above."""

    architecture: int
    column: int


_MACHINES: Final = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def hide_memory() -> None:
    """Stop other processes of the same user from reading or writing our memory (Linux)."""
    if sys.platform == "linux":
        _prctl(_SET_DUMPABLE, 0)


def confine() -> None:
    """Allow only the system calls above, for the rest of this process's life.

    Raises OSError: the kernel has no filters.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return
    program = _program(machine)
    code = ctypes.create_string_buffer(program)
    sock_fprog = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    _prctl(_NO_NEW_PRIVILEGES, 1)
    _prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(sock_fprog))


def _program(machine: _Machine) -> bytes:
    """Instructions of classic BPF that look at the number of a call, and of some at an argument."""

    def checked(
        call: tuple[int, int], place: int, test: int, value: int
    ) -> list[tuple[int, int, int, int]]:
        """Allow the call if the lower half of an argument passes the test."""
        return [
            (_EQUAL, 0, 4, call[machine.column]),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place),
            (test, 0, 1, value),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE | errno.EPERM),
        ]

    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _REFUSE | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for numbers in _CALLS.values():
        if (number := numbers[machine.column]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    lines += checked(_PRLIMIT, 0, _EQUAL, 0)
    lines += checked(_KILL, 0, _EQUAL, os.getpid())
    lines += checked(_TGKILL, 0, _EQUAL, os.getpid())
    lines += checked(_CLONE, 0, _HAS_BITS, _THREAD)
    lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    lines += [(_RETURN, 0, 0, _REFUSE | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _prctl(*values: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    if call(*map(ctypes.c_ulong, (*values, *[0] * (5 - len(values))))):
        raise OSError(ctypes.get_errno(), "prctl")
