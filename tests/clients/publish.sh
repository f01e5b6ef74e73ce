#!/bin/sh
# SPDX-License-Identifier: MIT
# amqp-tools, the programs of rabbitmq-c. They send strings only.
set -eu
url=$1
amqp-publish --url="$url" -e events -r c.full -p -C text/plain -E utf-8 -t reply -H 'string: süß' -H 'number: 7' -b body
amqp-publish --url="$url" -e events -r c.empty -b ''
# A body on standard input may hold any byte.
LC_ALL=C awk 'BEGIN { for (i = 0; i < 300000; i++) printf "%c", i % 251 }' |
    amqp-publish --url="$url" -e events -r c.large -p
