# SPDX-License-Identifier: MIT

# bunny. Sends t, l, d, S, T, F, A, V.
require 'bunny'

connection = Bunny.new(ARGV[0])
connection.start
channel = connection.create_channel
channel.confirm_select
exchange = channel.exchange('events', passive: true)

publish = lambda do |name, body, properties|
  exchange.publish(body, properties.merge(routing_key: "ruby.#{name}", mandatory: true))
  raise 'not confirmed' unless channel.wait_for_confirms
end
publish.call('full', 'body',
             headers: { 'bool' => true, 'int' => 7, 'negative' => -70_000, 'long' => 1 << 40, 'double' => 0.1,
                        'string' => 'süß', 'time' => Time.at(1_700_000_000),
                        'table' => { 'inner' => 1, 'deeper' => { 'x' => false } }, 'array' => ['one', 2, [nil]],
                        'null' => nil },
             content_type: 'text/plain', content_encoding: 'utf-8', persistent: true, priority: 5,
             correlation_id: 'correlation', reply_to: 'reply', expiration: '600000', message_id: 'message',
             timestamp: 1_700_000_000, type: 'type', user_id: 'guest', app_id: 'app')
publish.call('empty', '', {})
publish.call('large', Array.new(300_000) { |i| i % 251 }.pack('C*'), persistent: true)
connection.close
