# SPDX-License-Identifier: MIT
"""Shell programs for exec listeners, and files through which they talk to the test."""
import os
import stat

from .waiting import wait_until


class Scripts:
    """Each script runs in `folder` and finds it in $DIR too."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, name, text):
        """A program that runs `text` with sh; returns its path, for `command =`."""
        path = self.path(name)
        with open(path, "w") as file:
            file.write("#!/bin/sh\nDIR='%s'\ncd \"$DIR\" || exit 1\n%s\n" % (self.folder, text))
        os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        return path

    def recorder(self, name, text=""):
        """A program that appends its input as one line to NAME.seen, then runs `text`."""
        return self.make(name, 'body=$(cat)\necho "$body" >> %s.seen\n%s' % (name, text))

    def lines(self, name):
        """What is in a file, by lines; [] while it is not there."""
        if not os.path.exists(self.path(name)):
            return []
        with open(self.path(name), errors="surrogateescape") as file:
            return file.read().splitlines()

    def seen(self, name):
        return self.lines(name + ".seen")

    def wait_seen(self, name, count, timeout=None):
        """Waits until the recorder has run `count` times; what it saw."""
        wait_until(lambda: len(self.seen(name)) >= count,
                   lambda: "%s to run %d times, did: %s" % (name, count, self.seen(name)), timeout)
        return self.seen(name)

    def touch(self, name):
        open(self.path(name), "w").close()

    def wait_for(self, name, timeout=None):
        wait_until(lambda: os.path.exists(self.path(name)), "the file " + name, timeout)
