# SPDX-License-Identifier: MIT
"""With --perf: where harkd's broker spends its time while a case runs."""
import contextlib
import signal
import subprocess

from . import report

LINES = 40


@contextlib.contextmanager
def recording(broker, options):
    """Records the broker's process meanwhile and then shows the functions that took the most."""
    if not options.perf or not hasattr(broker, "broker_pid"):
        yield
        return
    record = subprocess.Popen(["perf", "record", "-q", "-F", "1999", "-g", "-o", options.perf, "-p",
                               str(broker.broker_pid())])
    try:
        yield
    finally:
        record.send_signal(signal.SIGINT)
        record.wait()
    shown = subprocess.run(["perf", "report", "-i", options.perf, "--no-children", "-g", "none", "--stdio",
                            "--percent-limit", "0.5"], capture_output=True, text=True)
    lines = [line for line in shown.stdout.splitlines() if line.strip() and not line.startswith("#")]
    report.say("\n".join(lines[:LINES]))
