"""What the kernel can be told to forbid a process: files, system calls, amounts.

Standard library only: :mod:`agentkit_tools._python_child` loads this file in an interpreter that
knows of no packages.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterable, Mapping

__all__ = ["confine_files", "filter_system_calls", "limit_resources", "supported"]

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SIGKILL, _EPERM, _ENOSYS = 9, 1, 38

# Landlock: the same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ = (1 << 2) | (1 << 3)  # read a file, list a folder
_FILE_ONLY = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)

# seccomp: offsets into struct seccomp_data, and instructions of classic BPF.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000
# Calls from here on are newer than this list. A program falls back when they do not exist.
_FIRST_UNKNOWN = 452

# Numbers of system calls on x86-64 and 64-bit ARM; -1 where an architecture lacks one.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_RULED = {"clone": (56, 220), "clone3": (435, 435), "tgkill": (234, 131), "prlimit": (302, 261)}
_FORBIDDEN = {
    # New processes and programs.
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    # The network, and services of this machine; io_uring would go around this filter.
    "socket": (41, 198), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Signals to others, and their memory.
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    # Changes to files by path, which Landlock does not know.
    "truncate": (76, 45), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "open_by_handle_at": (304, 265),
    # Limits, namespaces, mounts, keys, and what only administrators may do.
    "setrlimit": (160, 164), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161),
    "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "acct": (163, 89), "iopl": (172, -1),
    "ioperm": (173, -1),
}  # fmt: skip


def supported() -> dict[str, bool]:
    """Which limits this system has, by name."""
    linux = sys.platform == "linux"
    try:
        import resource

        del resource
        amounts = True
    except ImportError:
        amounts = False
    filters = linux and platform.machine() in _MACHINES
    if filters:
        # PR_GET_SECCOMP answers 0 where the kernel has seccomp and none is set, 2 below one.
        filters = ctypes.CDLL(None, use_errno=True).prctl(21, 0, 0, 0, 0) >= 0
    return {
        "cpu": amounts,
        "file size": amounts,
        # macOS takes the limit and does not keep it.
        "memory": amounts and linux,
        "files": linux and _landlock_version() >= 1,
        "network": filters,
        "processes": filters,
    }


def limit_resources(limits: Mapping[str, int]) -> None:
    """Set limits of amounts, for good.

    Args:
        limits: Names without ``RLIMIT_``, such as ``AS``, with their values.
    """
    import resource

    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:
            continue
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def confine_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Forbid this process all files but some (Landlock).

    Args:
        readable: Files and folders that may be read; those that do not exist are passed over.
        writable: Folders in which everything is allowed but running programs.

    Raises:
        OSError: The kernel cannot do it.
    """
    version = _landlock_version()
    if version < 1:
        raise OSError("the kernel has no Landlock")
    bits = 13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16
    everything = (1 << bits) - 1
    attributes = struct.pack("Q", everything)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = _system_call(_CREATE_RULESET, buffer, ctypes.c_size_t(len(attributes)), 0)
    for paths, access in ((readable, _READ), (writable, everything & ~1)):
        for path in paths:
            try:
                folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            is_folder = stat.S_ISDIR(os.fstat(folder).st_mode)
            allowed = access if is_folder else access & _FILE_ONLY
            rule = struct.pack("=Qi", allowed, folder)
            pointer = ctypes.create_string_buffer(rule, len(rule))
            _system_call(_ADD_RULE, ruleset, 1, pointer, 0)
            os.close(folder)
    _no_new_privileges()
    _system_call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def filter_system_calls() -> None:
    """Forbid this process sockets, other processes and all that is not for programs (seccomp).

    Raises:
        OSError: The kernel cannot do it, or the processor is of an unknown kind.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(f"no list of system calls for {machine}")
    program = _assemble(*_MACHINES[machine])
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    _no_new_privileges()
    bpf = Program(len(program) // 8, ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(bpf), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp is refused")


def _assemble(column: int, identity: int) -> bytes:
    """The filter. Jumps count instructions from the next one on: (if true, if false)."""
    rules = {name: numbers[column] for name, numbers in _RULED.items()}
    deny, missing = _ERROR | _EPERM, _ERROR | _ENOSYS
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, identity),
        (_RETURN, 0, 0, _KILL),  # Another architecture's numbers would mean other calls.
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _FIRST_UNKNOWN),
        (_RETURN, 0, 0, missing),
        # glibc falls back from clone3, whose flags a filter cannot see, to clone.
        (_EQUAL, 0, 1, rules["clone3"]),
        (_RETURN, 0, 0, missing),
        (_EQUAL, 0, 4, rules["clone"]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, deny),
        (_EQUAL, 0, 4, rules["tgkill"]),  # Only to itself, as abort() does.
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 0, 1, os.getpid()),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, deny),
        (_EQUAL, 0, 6, rules["prlimit"]),  # Only to ask, with no new limit.
        (_LOAD, 0, 0, _ARGUMENTS + 16),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS + 20),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, deny),
    ]
    for numbers in _FORBIDDEN.values():
        if numbers[column] >= 0:
            steps += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, deny)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _landlock_version() -> int:
    try:
        return _system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    except (OSError, AttributeError):
        return 0


def _no_new_privileges() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS is refused")


def _system_call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result = int(library.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
