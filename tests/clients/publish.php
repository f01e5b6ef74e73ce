<?php
// SPDX-License-Identifier: MIT

// php-amqplib. Sends t, I, l, D, S, T, F, A, V; others through set() with a type.
require 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPAbstractCollection;
use PhpAmqpLib\Wire\AMQPArray;
use PhpAmqpLib\Wire\AMQPDecimal;
use PhpAmqpLib\Wire\AMQPTable;

$url = parse_url($argv[1]);
$connection = new AMQPStreamConnection($url['host'], $url['port'], urldecode($url['user']), urldecode($url['pass']),
                                       urldecode(substr($url['path'], 1)));
$channel = $connection->channel();
$channel->confirm_select();

$headers = new AMQPTable([
    'bool' => true,
    'int' => 7,
    'negative' => -70000,
    'long' => 1 << 40,
    'double' => '0.1',
    'string' => 'süß',
    'decimal' => new AMQPDecimal(314, 2),
    'time' => new DateTime('@1700000000'),
    'table' => ['inner' => 1, 'deeper' => ['x' => false]],
    'array' => new AMQPArray(['one', 2, [null]]),
    'null' => null,
]);
$headers->set('byte', -5, AMQPAbstractCollection::T_INT_SHORTSHORT);
$headers->set('short', -300, AMQPAbstractCollection::T_INT_SHORT);
$headers->set('binary', "\0\xff", AMQPAbstractCollection::T_BYTES);

$publish = function (string $name, AMQPMessage $message) use ($channel) {
    $channel->basic_publish($message, 'events', 'php.' . $name, true);
    $channel->wait_for_pending_acks_returns(20);
};
$publish('full', new AMQPMessage('body', [
    'content_type' => 'text/plain', 'content_encoding' => 'utf-8', 'application_headers' => $headers,
    'delivery_mode' => 2, 'priority' => 5, 'correlation_id' => 'correlation', 'reply_to' => 'reply',
    'expiration' => '600000', 'message_id' => 'message', 'timestamp' => 1700000000, 'type' => 'type',
    'user_id' => 'guest', 'app_id' => 'app', 'cluster_id' => 'cluster',
]));
$publish('empty', new AMQPMessage(''));
$publish('large', new AMQPMessage(implode('', array_map(fn ($i) => chr($i % 251), range(0, 299999))),
                                  ['delivery_mode' => 2]));
$channel->close();
$connection->close();
