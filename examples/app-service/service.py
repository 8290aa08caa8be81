"""An app's service: gets a token, posts a notification as to Microsoft Graph, and reads what became of it.

    python3 service.py USER

From the environment: HERALD_URL (the gateway), HERALD_CLIENT_ID and HERALD_CLIENT_SECRET (of [[apps."…".clients]]),
HERALD_APP (the targetHostName), HERALD_AMQP_URL (where the events are). Needs pika.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pika

URL, APP = os.environ["HERALD_URL"], os.environ["HERALD_APP"]
LAST = {"received", "toasted", "gone", "failed", "expired", "withdrawn", "noDevices"}


def call(path, body, **headers):
    request = urllib.request.Request(URL + path, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:  # its body says where the mistake is and what to do
        sys.exit(f"{refused}: {refused.read().decode()}")


def token():
    form = {"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"}
    form |= {"client_id": os.environ["HERALD_CLIENT_ID"], "client_secret": os.environ["HERALD_CLIENT_SECRET"]}
    return call("/common/oauth2/v2.0/token", urllib.parse.urlencode(form).encode())["access_token"]


def post(user, order):
    body = {
        "targetHostName": APP, "appNotificationId": f"order-{order}", "priority": "High",
        "payload": {"rawContent": json.dumps({"order": order})},
        "fallbackPolicy": {"endpointFallback": {
            "platformTypes": ["ios"], "fallbackDelayInSeconds": int(os.environ.get("DELAY", 60)),
            "visualContent": {"title": "Order shipped", "body": "Arrives Tuesday"}}},
    }
    # With the key a post may be repeated when its answer got lost: it stays one notification.
    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    return call(f"/beta/users/{urllib.parse.quote(user, safe='')}/notifications", json.dumps(body).encode(), **headers)["id"]


channel = pika.BlockingConnection(pika.URLParameters(os.environ["HERALD_AMQP_URL"])).channel()
# Durable, so that no event is lost while the service is away. App ids contain dots: the event comes first.
channel.queue_declare("mail-service.events", durable=True)
channel.queue_bind("mail-service.events", "herald.events", routing_key=f"*.{APP}")
posted = post(sys.argv[1], 1042)
seen = set()  # events come at least once, under stable ids
for method, _, text in channel.consume("mail-service.events"):
    event = json.loads(text)
    name = method.routing_key.split(".")[0]
    if event["id"] not in seen and event["data"].get("notificationId") == posted:
        print(json.dumps({"event": name, **event["data"]}), flush=True)
    seen.add(event["id"])
    channel.basic_ack(method.delivery_tag)
    if name in LAST and event["data"].get("notificationId") == posted:
        break
channel.connection.close()
