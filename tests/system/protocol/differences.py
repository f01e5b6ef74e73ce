# SPDX-License-Identifier: MIT
"""Where the embedded broker differs from RabbitMQ on purpose, and why. The tests look at what either does."""

DIFFERENCES = {
    "says why before it is open":
        "RabbitMQ waits three seconds and hangs up without a word on a client that breaks the rules between its login and "
        "connection.open; the embedded broker sends connection.close with the reason at once.",
    "unknown methods":
        "RabbitMQ's reader crashes on a method or a field type that it does not know, and hangs up; the embedded broker closes "
        "the connection with 540 or 502, as the specification says.",
    "malformed arguments and properties":
        "RabbitMQ calls arguments that cannot be decoded a 501 FRAME_ERROR and crashes on malformed properties (541); with the "
        "embedded broker they are what they are in the specification, a 502 SYNTAX_ERROR.",
    "more body than announced":
        "RabbitMQ waits for ever for the end of such a message; the embedded broker closes the connection with 501.",
    "arguments of any queue":
        "One kind of queue serves as classic and as quorum queue: x-delivery-limit counts for classic queues too, "
        "x-max-priority and x-queue-mode for quorum queues.",
    "EXTERNAL where it can work":
        "The embedded broker offers the mechanism EXTERNAL only to clients with a trusted certificate in the name of a user.",
    "protocol headers of older versions":
        "RabbitMQ also understands AMQP 0-8 and 0-9; the embedded broker answers with the header of AMQP 0-9-1.",
    "BCC of a dead letter":
        "RabbitMQ remembers the BCC header that it has removed, and sends the dead letter there too if the queue gives it no key "
        "of its own; the embedded broker forgets it when the message is in its queues.",
    "when a transaction is routed":
        "RabbitMQ looks for the queues of a message when it is published in a transaction; the embedded broker when it is "
        "committed.",
    "order of x-death":
        "RabbitMQ turns the order of all entries but the first round with each further death, and looks for circles in that "
        "order; the embedded broker keeps the latest first.",
    "names are bytes":
        "RabbitMQ closes the connection when a name is not UTF-8; the embedded broker takes any bytes.",
}


def differs(broker, what):
    """Is this the broker that differs?"""
    assert what in DIFFERENCES
    return broker.name == "embedded"
