# SPDX-License-Identifier: MIT
"""pika. Sends t, I, l, S, x, D, T, F, A, V."""
import datetime
import decimal
import sys

import pika

HEADERS = {
    "bool": True, "int": 7, "negative": -7, "long": 1 << 40, "string": "süß", "binary": b"\0\xff",
    "decimal": decimal.Decimal("3.14"), "time": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "table": {"inner": 1, "deeper": {"x": False}}, "array": ["one", 2, [None]], "null": None,
}


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()

    def publish(name, body, properties):
        channel.basic_publish("events", "pika." + name, body, properties, mandatory=True)
    publish("full", b"body", pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers=HEADERS, delivery_mode=2, priority=5,
        correlation_id="correlation", reply_to="reply", expiration="600000", message_id="message",
        timestamp=1700000000, type="type", user_id="guest", app_id="app", cluster_id="cluster"))
    publish("empty", b"", pika.BasicProperties())
    publish("large", bytes(i % 251 for i in range(300000)), pika.BasicProperties(delivery_mode=2))
    connection.close()


main()
