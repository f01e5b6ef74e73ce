# SPDX-License-Identifier: MIT
"""Child processes that cannot outlive the tests.

Each child dies with the process that started it (PR_SET_PDEATHSIG), also when pytest is killed. This process is a
subreaper: what its grandchildren leave behind becomes its own child, so that it can be found and ended.
"""
import ctypes
import os
import signal
import subprocess

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(argv, **options):
    """Popen in a session of its own, so that Ctrl-C reaches it through the rig's own clean-up only."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(argv, start_new_session=True, preexec_fn=_die_with_parent, **options)


def _stat(pid):
    """(state, parent pid), or None if there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1])


def alive(pid):
    """Is there a process of that id which is more than a zombie?"""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def state(pid):
    stat = _stat(pid)
    return stat[0] if stat else None


def describe(pid):
    """For messages: id, state and command line."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return "%d (%s) %s" % (pid, state(pid), file.read().replace(b"\0", b" ").decode("utf-8", "replace"))
    except OSError:
        return str(pid)


def title(pid):
    """What ps shows, "" if there is no such process."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read().rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""


def children(pid):
    """Process ids of the living children."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(int(name))
            if stat and stat[1] == pid and stat[0] not in "ZX":
                found.append(int(name))
    return sorted(found)


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child] + descendants(child)
    return found


def kill_tree(pid):
    """Ends a process and all below it; stopped ones too."""
    for one in [pid] + descendants(pid):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass


def kill_orphans(keep=()):
    """Ends adopted children, those that nobody here holds a Popen for. Returns what they were."""
    names = []
    for pid in children(os.getpid()):
        if pid in keep:
            continue
        names.append(describe(pid))
        try:
            kill_tree(pid)
            os.waitpid(pid, 0)
        except (OSError, ChildProcessError):
            pass
    return names


def rss(pid):
    """Resident memory in bytes."""
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
