// SPDX-License-Identifier: MIT

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.Map;

/** The RabbitMQ client. Sends t, b, s, I, l, f, d, D, S, x, T, F, A, V. */
public class Publish {
    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(arguments[0]);
        try (Connection connection = factory.newConnection(); Channel channel = connection.createChannel()) {
            Map<String, Object> inner = new HashMap<>();
            inner.put("inner", 1);
            inner.put("deeper", Collections.singletonMap("x", false));
            Map<String, Object> headers = new HashMap<>();
            headers.put("bool", true);
            headers.put("byte", (byte) -5);
            headers.put("short", (short) -300);
            headers.put("int", -70000);
            headers.put("long", 1L << 40);
            headers.put("float", 0.5f);
            headers.put("double", 0.1);
            headers.put("string", "s\u00fc\u00df");
            headers.put("binary", new byte[] {0, (byte) 255});
            headers.put("decimal", new BigDecimal("3.14"));
            headers.put("time", new Date(1700000000000L));
            headers.put("table", inner);
            headers.put("array", Arrays.asList("one", 2, Collections.singletonList(null)));
            headers.put("null", null);
            AMQP.BasicProperties full = new AMQP.BasicProperties.Builder().contentType("text/plain")
                .contentEncoding("utf-8").headers(headers).deliveryMode(2).priority(5).correlationId("correlation")
                .replyTo("reply").expiration("600000").messageId("message").timestamp(new Date(1700000000000L))
                .type("type").userId("guest").appId("app").clusterId("cluster").build();
            byte[] large = new byte[300000];
            for (int i = 0; i < large.length; i++) {
                large[i] = (byte) (i % 251);
            }
            channel.confirmSelect();
            channel.basicPublish("events", "java.full", true, full, "body".getBytes("UTF-8"));
            channel.basicPublish("events", "java.empty", true, null, new byte[0]);
            channel.basicPublish("events", "java.large", true,
                                 new AMQP.BasicProperties.Builder().deliveryMode(2).build(), large);
            channel.waitForConfirmsOrDie(20000);
        }
    }
}
