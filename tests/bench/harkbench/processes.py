# SPDX-License-Identifier: MIT
"""Processes that are measured: CPU time, resident memory, wake-ups, from /proc."""
import ctypes
import os
import signal
import threading
import time

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _tasks(pid):
    try:
        return ["/proc/%d/task/%s" % (pid, task) for task in os.listdir("/proc/%d/task" % pid)]
    except OSError:
        return []


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:     # it has just ended
        return ""


def cpu_seconds(pid):
    """User and system time of all threads, to the nanosecond (the scheduler's own account)."""
    return sum(int((_read(task + "/schedstat") or "0").split()[0]) for task in _tasks(pid)) / 1e9


def _status(path, key):
    for line in _read(path + "/status").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def rss_kib(pid):
    return _status("/proc/%d" % pid, "VmRSS")


def wakeups(pid):
    """How often its threads went to sleep: one sleep, one wake-up."""
    return sum(_status(task, "voluntary_ctxt_switches") for task in _tasks(pid))


def children(pid):
    return [int(child) for task in _tasks(pid) for child in _read(task + "/children").split()]


def tree(pid):
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def memory_kib(pids):
    """Resident: (in all, of which pages of files, which the kernel may take away)."""
    paths = ["/proc/%d" % pid for pid in pids]
    return sum(_status(path, "VmRSS") for path in paths), sum(_status(path, "RssFile") for path in paths)


class Process:
    """A contender and its children, sampled while it runs. `name` is for messages."""

    SAMPLE = 0.025

    def __init__(self, name, argv, log):
        self.name, self.log_path = name, log
        self.rss = {}           # pid -> the most KiB it ever held
        self._samples = []      # (monotonic ns, CPU seconds of all)
        self._lock = threading.Lock()
        self._ended = None      # wait4's rusage
        self.code = None
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        self.started_ns = time.monotonic_ns()
        self.pid = os.posix_spawn(argv[0], argv, os.environ, setpgroup=0, file_actions=[
            (os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)])
        os.close(output)
        os.close(nothing)
        self._stop = threading.Event()
        self._sampler = None

    def sample(self):
        """From now on, remember what it uses."""
        self._sampler = threading.Thread(target=self._run, daemon=True)
        self._sampler.start()

    def stop_sampling(self):
        self._stop.set()
        self._sampler.join()

    def _run(self):
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self.SAMPLE)

    def _look(self):
        with self._lock:
            if self._ended:
                return
            pids = [self.pid] + children(self.pid)
            self._samples.append((time.monotonic_ns(), sum(cpu_seconds(pid) for pid in pids)))
            for pid in pids:
                self.rss[pid] = max(self.rss.get(pid, 0), rss_kib(pid))

    def workers(self):
        return children(self.pid)

    @property
    def worker_kib(self):
        """The largest child; the process itself where it has none."""
        return max((kib for pid, kib in self.rss.items() if pid != self.pid), default=self.rss.get(self.pid, 0))

    def cpu_at(self, when_ns):
        """CPU seconds used up to a moment, between the samples around it."""
        before = (self.started_ns, 0.0)
        for sample in self._samples:
            if sample[0] >= when_ns:
                share = (when_ns - before[0]) / max(1, sample[0] - before[0])
                return before[1] + share * (sample[1] - before[1])
            before = sample
        return before[1]

    def cpu_now(self):
        if self.poll() is None:
            self._look()
            return self._samples[-1][1]
        return self._ended.ru_utime + self._ended.ru_stime

    def poll(self, options=os.WNOHANG):
        with self._lock:
            if not self._ended:
                pid, status, usage = os.wait4(self.pid, options)
                if pid:
                    self._ended, self.code = usage, os.waitstatus_to_exitcode(status)
            return self.code

    def wait(self, seconds):
        """Waits for its end; the exit code."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("%s does not end:\n%s" % (self.name, self.log()))
            time.sleep(0.002)
        self._stop.set()
        return self.code

    def stop(self, seconds=30):
        """SIGTERM, unless it has ended by itself, and a good end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        if self.wait(seconds) != 0:
            raise RuntimeError("%s ended with %s:\n%s" % (self.name, self.code, self.log()))

    def kill(self):
        self._stop.set()
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.poll(0)

    def log(self):
        return _read(self.log_path)[-4000:]

    @property
    def usage(self):
        """CPU seconds in all, children that it waited for included; after its end."""
        return self._ended.ru_utime + self._ended.ru_stime


def die_with_parent():
    """preexec_fn: no helper program outlives the bench."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
