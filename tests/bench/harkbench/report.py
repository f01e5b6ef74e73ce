# SPDX-License-Identifier: MIT
"""Tables for people, and targets beside what was measured."""
import statistics
import sys


def say(text=""):
    print(text, flush=True)


def note(text):
    """Progress, so that nobody waits in the dark."""
    print("  .. " + text, file=sys.stderr, flush=True)


def table(title, heads, rows):
    """Columns as wide as they must be; the first one flush left."""
    cells = [heads] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    say("\n" + title)
    for number, row in enumerate(cells):
        say("  " + "  ".join(cell.rjust(width) if column else cell.ljust(width)
                             for column, (cell, width) in enumerate(zip(row, widths))))
        if number == 0:
            say("  " + "  ".join("-" * width for width in widths))


def median(rows, key):
    return statistics.median(row[key] for row in rows)


class Targets:
    """What has to be reached, in the order in which it was measured."""

    def __init__(self):
        self._rows = []

    def at_least(self, what, measured, target, unit="", digits=2):
        self._add(what, measured, "at least", target, measured >= target, unit, digits)

    def at_most(self, what, measured, target, unit="", digits=2):
        self._add(what, measured, "at most", target, measured <= target, unit, digits)

    def _add(self, what, measured, word, target, good, unit, digits):
        off = abs(measured - target) / target * 100 if target else 0
        self._rows.append([what, "%s%s" % (format(measured, ",.%df" % digits), unit),
                           "%s %s%s" % (word, format(target, ",.%df" % digits), unit),
                           "yes" if good else "missed by %.0f %%" % off])

    def print(self):
        if self._rows:
            table("Targets", ["", "measured", "target", "reached"], self._rows)

    @property
    def missed(self):
        return [row[0] for row in self._rows if row[3] != "yes"]
