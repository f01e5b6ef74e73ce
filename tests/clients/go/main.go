// SPDX-License-Identifier: MIT

// amqp091-go. Sends t, b, B, s, I, l, f, d, D, S, x, T, F, A, V.
package main

import (
	"context"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	connection, err := amqp.Dial(os.Args[1])
	check(err)
	channel, err := connection.Channel()
	check(err)
	check(channel.Confirm(false))

	publish := func(name string, message amqp.Publishing) {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "events", "go."+name, true,
			false, message)
		check(err)
		if !confirm.Wait() {
			panic("not confirmed")
		}
	}
	publish("full", amqp.Publishing{
		Headers: amqp.Table{
			"bool": true, "int8": int8(-5), "byte": byte(200), "int16": int16(-300), "int32": int32(-70000), "int": 7,
			"int64": int64(1) << 40, "float32": float32(0.5), "float64": 0.1, "string": "süß", "binary": []byte{0, 255},
			"decimal": amqp.Decimal{Scale: 2, Value: 314}, "time": time.Unix(1700000000, 0),
			"table": amqp.Table{"inner": int64(1), "deeper": amqp.Table{"x": false}},
			"array": []interface{}{"one", int32(2), []interface{}{nil}}, "null": nil,
		},
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 5,
		CorrelationId: "correlation", ReplyTo: "reply", Expiration: "600000", MessageId: "message",
		Timestamp: time.Unix(1700000000, 0), Type: "type", UserId: "guest", AppId: "app", Body: []byte("body"),
	})
	publish("empty", amqp.Publishing{})
	large := make([]byte, 300000)
	for i := range large {
		large[i] = byte(i % 251)
	}
	publish("large", amqp.Publishing{DeliveryMode: amqp.Persistent, Body: large})
	check(connection.Close())
}
