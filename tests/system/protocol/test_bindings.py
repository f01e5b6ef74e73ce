# SPDX-License-Identifier: MIT
"""Where a message goes: bindings of queues and exchanges, each type's rule, CC and BCC."""
import pytest


@pytest.fixture
def routed(peer):
    """routed(exchange, key, headers) -> names of the queues a..z that got it."""
    publisher = peer.channel(confirms=True)

    def publish(exchange, key, headers=None):
        publisher.publish_safely(exchange, key, "x", headers=headers or {})
        found = ""
        for name in sorted(queues):
            count = len(publisher.bodies(name))
            assert count <= 1, "%d copies in %s" % (count, name)
            found += name * count
        return found

    queues = set()

    def bind(name, exchange, key="", arguments=None):
        if name not in queues:
            publisher.declare(name)
            queues.add(name)
        publisher.call("queue.bind", queue=name, exchange=exchange, key=key, arguments=arguments)
    publish.bind, publish.ch = bind, publisher
    return publish


def test_default_exchange_routes_by_queue_name(routed):
    routed.bind("a", "amq.direct")
    routed.bind("b", "amq.direct")
    assert routed("", "a") == "a"
    assert routed("", "b") == "b"
    assert routed("", "c") == ""


def test_direct(routed):
    routed.bind("a", "amq.direct", "k")
    routed.bind("b", "amq.direct", "k")
    routed.bind("b", "amq.direct", "l")
    routed.bind("c", "amq.direct", "#")
    assert routed("amq.direct", "k") == "ab"
    assert routed("amq.direct", "l") == "b"
    assert routed("amq.direct", "K") == ""
    assert routed("amq.direct", "#") == "c"


def test_fanout(routed):
    routed.bind("a", "amq.fanout", "k")
    routed.bind("a", "amq.fanout", "l")
    routed.bind("b", "amq.fanout")
    assert routed("amq.fanout", "whatever") == "ab"


@pytest.mark.parametrize("pattern, matching, others", [
    ("a.b", ["a.b"], ["a", "a.b.c", "a.c", "", "a.b.", ".a.b", "A.b"]),
    ("*", ["a", "abc"], ["a.b", ".", "a.", ""]),
    ("#", ["", "a", "a.b", "a.b.c", ".", "..."], []),
    ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
    ("*.a", ["b.a", ".a"], ["a", "c.b.a"]),
    ("a.#", ["a", "a.", "a.b", "a.b.c"], ["b", "", "ab"]),
    ("#.a", ["a", "b.a", "c.b.a", ".a"], ["a.b", ""]),
    ("a.#.b", ["a.b", "a.x.b", "a.x.y.b", "a.b.b"], ["a", "b", "a.b.c"]),
    ("*.*", ["a.b", ".", "a."], ["a", "a.b.c", ""]),
    ("#.#", ["", "a", "a.b.c"], []),
    ("*.#", ["a", "a.b", "."], [""]),
    ("#.*", ["a", "a.b", "."], [""]),
    ("#.a.#", ["a", "b.a", "a.b", "b.a.c", "a.a"], ["b", "", "ab"]),
    ("*.a.*", ["b.a.c", ".a."], ["a", "b.a", "a.c"]),
    ("", [""], ["a", "."]),
    ("a..b", ["a..b"], ["a.b", "a.x.b"]),
    ("a*", ["a*"], ["ab", "a"]),
    ("a#.b", ["a#.b"], ["a.b", "ax.b"]),
    ("*.*.#", ["a.b", "a.b.c", "."], ["a"]),
    ("#.b.#.d", ["b.d", "a.b.c.d", "b.b.d.d"], ["b", "d", "a.b.c"]),
    ("a." * 60 + "#", ["a." * 59 + "a", "a." * 60 + "b.c"], ["a." * 58 + "a"])])
def test_topic(routed, pattern, matching, others):
    routed.bind("a", "amq.topic", pattern)
    for key in matching:
        assert routed("amq.topic", key) == "a", key
    for key in others:
        assert routed("amq.topic", key) == "", key


def test_topic_with_many_patterns(routed):
    for name, pattern in ("a", "#"), ("b", "x.#"), ("b", "#.y"), ("c", "*.y"), ("d", "x.y"), ("e", "x.*.y"):
        routed.bind(name, "amq.topic", pattern)
    assert routed("amq.topic", "x.y") == "abcd"
    assert routed("amq.topic", "x.z.y") == "abe"
    assert routed("amq.topic", "z") == "a"
    routed.ch.call("queue.unbind", queue="b", exchange="amq.topic", key="x.#")
    assert routed("amq.topic", "x.z") == "a"
    assert routed("amq.topic", "z.y") == "abc"
    routed.ch.call("queue.unbind", queue="a", exchange="amq.topic", key="#")
    assert routed("amq.topic", "z") == ""


@pytest.mark.parametrize("arguments, matching, others", [
    ({"x-match": "all", "a": 1, "b": "x"}, [{"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}],
     [{}, {"a": 1}, {"b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "y"}]),
    ({"a": 1, "b": "x"}, [{"a": 1, "b": "x"}], [{"a": 1}, {}]),      # all is what is meant without x-match
    ({"x-match": "any", "a": 1, "b": "x"}, [{"a": 1}, {"b": "x"}, {"a": 2, "b": "x"}], [{}, {"a": 2}, {"c": 1}]),
    ({"x-match": "all", "x-secret": 1, "a": 1}, [{"a": 1}, {"a": 1, "x-secret": 2}], [{"x-secret": 1}]),
    ({"x-match": "any", "x-secret": 1, "a": 1}, [{"a": 1}], [{"x-secret": 1}]),
    ({"x-match": "all-with-x", "x-secret": 1, "a": 1}, [{"a": 1, "x-secret": 1}], [{"a": 1}, {"x-secret": 1}]),
    ({"x-match": "any-with-x", "x-secret": 1, "a": 1}, [{"a": 1}, {"x-secret": 1}], [{"b": 1}]),
    ({"x-match": "all"}, [{}, {"a": 1}], []),
    ({"x-match": "any"}, [], [{}, {"a": 1}]),
    ({}, [{}, {"a": 1}], []),
    ({"x-match": "all", "a": None}, [{"a": 1}, {"a": "any"}, {"a": None}], [{}, {"b": 1}]),  # void: any value
    ({"x-match": "any", "a": None}, [{"a": 1}], [{"b": 1}]),
    ({"a": ("I", 1)}, [{"a": ("l", 1)}, {"a": ("s", 1)}, {"a": ("b", 1)}], [{"a": ("S", "1")}, {"a": ("t", True)}]),
    ({"a": ("d", 1.5)}, [{"a": ("d", 1.5)}], [{"a": 1}, {"a": ("d", 1.25)}]),
    ({"a": True}, [{"a": True}], [{"a": False}, {"a": 1}, {"a": "true"}]),
    ({"a": {"b": 1}}, [{"a": {"b": 1}}], [{"a": {"b": 2}}, {"a": {}}]),
    ({"a": [1, "x"]}, [{"a": [1, "x"]}], [{"a": [1]}, {"a": ["x", 1]}])])
def test_headers(routed, arguments, matching, others):
    routed.bind("a", "amq.headers", "ignored", arguments)
    for headers in matching:
        assert routed("amq.headers", "k", headers) == "a", headers
    for headers in others:
        assert routed("amq.headers", "k", headers) == "", headers


@pytest.mark.parametrize("value, text", [
    ("bogus", 'Invalid x-match field value <<"bogus">>; expected all, any, all-with-x, or any-with-x'),
    (5, "Invalid x-match field type")])
def test_headers_with_another_x_match(ch, value, text):
    ch.declare("q")
    ch.send("queue.bind", queue="q", exchange="amq.headers", arguments={"x-match": value})
    ch.expect_close(406, "^PRECONDITION_FAILED - " + text, "queue.bind")


def test_a_message_without_headers(peer, ch):
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="amq.headers")
    ch.publish("amq.headers", "", "x")
    assert not ch.get_soon("q").message.has_headers


# Binding.

def test_binding_twice_is_one_binding(routed):
    for _ in range(3):
        routed.bind("a", "amq.direct", "k")
    assert routed("amq.direct", "k") == "a"
    routed.ch.call("queue.unbind", queue="a", exchange="amq.direct", key="k")
    assert routed("amq.direct", "k") == ""


def test_bindings_with_other_arguments_are_others(routed):
    routed.bind("a", "amq.direct", "k", {"n": 1})
    routed.bind("a", "amq.direct", "k", {"n": 2})
    routed.ch.call("queue.unbind", queue="a", exchange="amq.direct", key="k", arguments={"n": 1})
    assert routed("amq.direct", "k") == "a"
    routed.ch.call("queue.unbind", queue="a", exchange="amq.direct", key="k")    # n is missing: not that binding
    assert routed("amq.direct", "k") == "a"
    routed.ch.call("queue.unbind", queue="a", exchange="amq.direct", key="k", arguments={"n": 2})
    assert routed("amq.direct", "k") == ""


@pytest.mark.parametrize("name, arguments, text", [
    ("queue.bind", {"queue": "q", "exchange": "none"}, "no exchange 'none'"),
    ("queue.bind", {"queue": "none", "exchange": "amq.direct"}, "no queue 'none'"),
    ("queue.bind", {"queue": "none", "exchange": "none"}, "no exchange 'none'"),
    ("exchange.bind", {"destination": "amq.direct", "source": "none"}, "no exchange 'none'"),
    ("exchange.bind", {"destination": "none", "source": "amq.direct"}, "no exchange 'none'")])
def test_bind_of_what_is_not_there(peer, ch, name, arguments, text):
    ch.declare("q")
    ch.send(name, **arguments)
    ch.expect_close(404, "^NOT_FOUND - %s in vhost '%s'" % (text, peer.vhost), name)


@pytest.mark.parametrize("name, arguments", [
    ("queue.unbind", {"queue": "q", "exchange": "none"}), ("queue.unbind", {"queue": "none", "exchange": "amq.direct"}),
    ("queue.unbind", {"queue": "q", "exchange": "amq.direct", "key": "k"}),
    ("exchange.unbind", {"destination": "amq.direct", "source": "none"}),
    ("exchange.unbind", {"destination": "none", "source": "amq.direct"}),
    ("exchange.unbind", {"destination": "amq.direct", "source": "amq.fanout"})])
def test_unbind_of_what_is_not_there_is_no_error(ch, name, arguments):
    ch.declare("q")
    ch.call(name, **arguments)


def test_queue_delete_ends_its_bindings(routed):
    routed.bind("a", "amq.fanout")
    routed.ch.call("queue.delete", queue="a")
    routed.ch.declare("a")
    assert routed("amq.fanout", "k") == ""


# Exchanges bound to exchanges.

def test_exchange_to_exchange(routed):
    ch = routed.ch
    ch.call("exchange.declare", exchange="t", type="topic")
    ch.call("exchange.bind", destination="t", source="amq.direct", key="a.b")
    routed.bind("a", "t", "a.*")
    routed.bind("b", "t", "b.*")
    routed.bind("c", "amq.direct", "a.b")
    assert routed("amq.direct", "a.b") == "ac"
    assert routed("amq.direct", "b.c") == ""
    ch.call("exchange.unbind", destination="t", source="amq.direct", key="a.b")
    assert routed("amq.direct", "a.b") == "c"


def test_exchanges_in_a_circle(routed):
    ch = routed.ch
    for name in "xyz":
        ch.call("exchange.declare", exchange=name, type="fanout")
        routed.bind("a", name)
    for source, destination in ("x", "y"), ("y", "z"), ("z", "x"), ("x", "x"):
        ch.call("exchange.bind", source=source, destination=destination)
    routed.bind("b", "z")
    assert routed("x", "k") == "ab"


def test_a_queue_gets_one_copy_however_many_ways(routed):
    ch = routed.ch
    ch.call("exchange.declare", exchange="x", type="fanout")
    ch.call("exchange.declare", exchange="y", type="fanout")
    ch.call("exchange.bind", source="x", destination="y")
    routed.bind("a", "x")
    routed.bind("a", "y")
    assert routed("x", "k") == "a"


# CC and BCC.

def test_cc_and_bcc_are_more_routing_keys(routed):
    for name in "abc":
        routed.bind(name, "amq.direct", name)
    assert routed("amq.direct", "a", {"CC": ["b"], "BCC": ["c"]}) == "abc"
    assert routed("", "a", {"CC": ["b", "a", "none"]}) == "ab"
    assert routed("amq.direct", "none", {"BCC": ["c", "c"]}) == "c"


def test_receivers_see_cc_but_not_bcc(ch):
    ch.declare("q")
    ch.publish("", "q", "x", headers={"CC": ["other"], "BCC": ["hidden"], "more": 1})
    assert ch.get_soon("q").message.headers == {"CC": ["other"], "more": 1}


def test_bcc_alone(ch):
    ch.declare("q")
    ch.publish("", "none", "x", headers={"BCC": ["q"]})
    got = ch.get_soon("q")
    assert (got.key, got.message.headers) == ("none", {})


@pytest.mark.parametrize("name, value", [("CC", "q"), ("BCC", 5), ("CC", True)])
def test_cc_that_is_no_array(ch, name, value):
    ch.publish("", "q", "x", headers={name: value})
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid .*" + name, "basic.publish")
