"""A producer in another language: publishes the requests that come as JSON lines on stdin, with confirms.

A line is {"key": ..., "body": {...}}. The broker's URL is the first argument. Each key is printed once the broker has
confirmed its message; nothing else is. This is what docs for producers show, with nothing of Herald's in it.
"""

import json
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
for line in sys.stdin:
    message = json.loads(line)
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message["key"],
        type="herald.notification.v1",
    )
    # With confirms on, this raises an exception if the broker refuses the message or can't route it.
    channel.basic_publish("herald.requests", "high", json.dumps(message["body"]), properties, mandatory=True)
    print(message["key"], flush=True)
connection.close()
