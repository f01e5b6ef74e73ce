# SPDX-License-Identifier: MIT
"""Any language publishes: what the clients that people use send goes through harkd unchanged, down to the wire types of
headers. Compared with a second queue that harkd does not touch."""
import pytest

from rig.clients import CLIENTS, publish
from rig.sections import TOPOLOGY, forward

# The wire types that each client's first message has to have, so that nothing is compared with nothing.
LETTERS = {"pika": "tIlSxDTFAV", "go": "tbBsIlfdDSxTFAV", "node": "tbsIlfdDSxTFAV", "java": "tbsIlfdDSxTFAV",
           "php": "tbsIlDSxTFAV", "ruby": "tldSTFAV", "c": "S"}
# x-hark-user-id is where user_id goes, which the broker accepts only from the user it names.
ADDED = {"x-hark-cause", "x-hark-hops", "x-hark-user-id"}
LARGE = bytes(i % 251 for i in range(300000))


def letters(headers):
    found = set()
    for item in headers:
        letter, value = item[-2:]
        found.add(letter)
        if letter == "F":
            found |= letters(value)
        elif letter == "A":
            found |= letters(value)
    return found


def check_forwarded(before, after):
    """All as it was, but for what harkd says it adds."""
    assert (after.key, after.body) == (before.key, before.body)
    given, got = dict(before.properties), dict(after.properties)
    headers = [header for header in got.get("headers", []) if header[0] not in ADDED]
    added = {header[0]: header[1:] for header in got.get("headers", []) if header[0] in ADDED}
    assert headers == given.get("headers", [])
    assert added.pop("x-hark-user-id", None) == (("S", given["user_id"]) if "user_id" in given else None)
    assert added.pop("x-hark-hops")[1] == 1
    assert added == ({"x-hark-cause": ("S", given["message_id"])} if "message_id" in given else {})
    assert len(got["message_id"]) > 8 and got["message_id"] != given.get("message_id")
    assert got.get("correlation_id") == given.get("correlation_id", given.get("message_id"))
    assert got["delivery_mode"] == given.get("delivery_mode", 2)
    for name in ("headers", "message_id", "correlation_id", "delivery_mode", "user_id"):
        given.pop(name, None)
        got.pop(name, None)
    assert got == given


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_publish_through_harkd(harkd, broker, client, raw, name):
    daemon = harkd(TOPOLOGY + "[queue untouched]\nbind = events #\n" + forward())
    publish(name, broker.url())
    before, after = raw.get("untouched", 3), raw.get("results", 3)
    assert [m.key for m in before] == [name + ".full", name + ".empty", name + ".large"]
    assert set(LETTERS[name]) <= letters(before[0].properties["headers"])
    assert (before[1].body, before[2].body) == (b"", LARGE)
    for one, other in zip(before, after):
        check_forwarded(one, other)
    assert not daemon.find(" (warning|error) ")


@pytest.mark.parametrize("letter,value", [
    ("t", True), ("b", -128), ("B", 255), ("s", -32768), ("u", 65535), ("I", -(1 << 31)), ("i", (1 << 32) - 1),
    ("l", -(1 << 63)), ("f", -1.5), ("d", 1e300), ("D", (255, 0xffffffff)), ("S", b""), ("S", b"\xff\xfe\0"), ("x", b"\0" * 9),
    ("T", (1 << 63) - 1), ("V", None), ("F", []), ("A", []), ("A", [("F", [("k", "A", [("V", None)])])]),
])
def test_every_type_on_the_wire(harkd, client, raw, letter, value):
    """Also those that no client sends."""
    harkd(TOPOLOGY + forward())
    raw.publish("events", "k", b"", headers=[("first", "S", b"1"), ("h", letter, value), ("h", "I", 2), ("", "t", False)])
    headers = [header for header in raw.get("results")[0].properties["headers"] if header[0] not in ADDED]
    assert headers == [("first", "S", b"1"), ("h", letter, value), ("h", "I", 2), ("", "t", False)]
