// SPDX-License-Identifier: MIT

// amqplib. Sends t, b, s, I, l, d, S, x, F, A, V; other types by name: {'!': type, value}.
const amqp = require('amqplib');

const headers = {
  bool: true,
  byte: 5,
  short: -300,
  int: -70000,
  long: 2 ** 40,
  double: 0.1,
  string: 'süß',
  binary: Buffer.from([0, 255]),
  time: { '!': 'timestamp', value: 1700000000 },
  decimal: { '!': 'decimal', value: { digits: 314, places: 2 } },
  float: { '!': 'float', value: 0.5 },
  int8: { '!': 'int8', value: -5 },
  table: { inner: 1, deeper: { x: false } },
  array: ['one', 2, [null]],
  null: null,
};

async function main() {
  const connection = await amqp.connect(process.argv[2]);
  const channel = await connection.createConfirmChannel();
  channel.publish('events', 'node.full', Buffer.from('body'), {
    mandatory: true,
    contentType: 'text/plain',
    contentEncoding: 'utf-8',
    headers,
    deliveryMode: 2,
    priority: 5,
    correlationId: 'correlation',
    replyTo: 'reply',
    expiration: '600000',
    messageId: 'message',
    timestamp: 1700000000,
    type: 'type',
    userId: 'guest',
    appId: 'app',
  });
  channel.publish('events', 'node.empty', Buffer.alloc(0), { mandatory: true });
  const large = Buffer.from(Array.from({ length: 300000 }, (_, i) => i % 251));
  channel.publish('events', 'node.large', large, { mandatory: true, persistent: true });
  await channel.waitForConfirms();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
