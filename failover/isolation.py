"""Namespaces in which the suite runs, so that everything it starts ends with it.

The suite has its own processes, network, mounts and shared memory. The kernel removes all of them as soon as
the suite ends, even if it is killed: the first process of a process namespace takes every other one with it,
and a network or a `tmpfs` disappears with its last user.
"""
import ctypes
import os
import select
import signal
import subprocess

# Constants of <sched.h> and <sys/prctl.h>.
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x08000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


def enter():
    """Continues in new namespaces, in a child process. The calling process only waits and returns its status.

    There are three processes: the one that was called, the first one of the namespace, which collects the status
    of processes that lost their parent, and the suite. If one of them ends, so do the others.
    """
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET))
    alive, held_by_caller = os.pipe()
    first = os.fork()
    if first:
        os.close(alive)
        exit_with(os.waitpid(first, 0)[1])
    os.close(held_by_caller)
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)  # The caller ended before its death could be signaled.
    suite = os.fork()
    if suite:
        while True:
            process, status = os.wait()
            if process == suite:
                exit_with(status)
    for command in (
        "mount --make-rprivate /",
        "mount -t proc proc /proc",
        "mount -t tmpfs -o mode=0755 tmpfs /run",
        "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        "ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)


def check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def exit_with(status):
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
