# SPDX-License-Identifier: MIT
"""The bench's own programs, built from tests/bench/*.c: each prints one JSON object as its last line."""
import json
import os
import subprocess

from .processes import die_with_parent

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
BUILD = os.environ.get("HARK_BUILD", os.path.join(ROOT, "build"))


def path(name):
    return os.path.join(BUILD, "bench", name)


def built(name):
    return os.access(path(name), os.X_OK)


def start(name, *arguments):
    return subprocess.Popen([path(name), *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)


def finish(process, seconds=120):
    """Waits for its end and reads its result."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("%s does not end" % process.args[0]) from None
    if process.returncode != 0:
        raise RuntimeError("%s ended with %d" % (" ".join(process.args), process.returncode))
    return json.loads(output.splitlines()[-1]) if output.strip() else None


def run(name, *arguments, seconds=120):
    return finish(start(name, *arguments), seconds)
