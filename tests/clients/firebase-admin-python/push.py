"""Sends the messages of a plan (JSON on stdin) by firebase-admin; writes one line of JSON for each: the type that the
client read back. `"by": "http2"` sends by `send_each_async` (HTTP/2), else by `send` (HTTP/1.1)."""

import asyncio
import datetime
import json
import os
import sys

plan = json.load(sys.stdin)
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = plan["caFile"]

import firebase_admin  # noqa: E402 (the CA must be set before)
from firebase_admin import credentials, exceptions, messaging  # noqa: E402

# The client knows Google's address only. Its token endpoint is the one that the service account's file names.
messaging._MessagingService.FCM_URL = plan["url"] + "/v1/projects/{0}/messages:send"


def message(push):
    android = None
    if "priority" in push:
        android = messaging.AndroidConfig(
            priority=push["priority"],
            ttl=datetime.timedelta(seconds=push["ttlSecs"]) if "ttlSecs" in push else None,
            collapse_key=push.get("collapseKey"),
        )
    notification = messaging.Notification(**push["notification"]) if "notification" in push else None
    return messaging.Message(
        token=push.get("token"), topic=push.get("topic"), data=push.get("data"), notification=notification, android=android
    )


def send(push):
    dry_run = push.get("dryRun", False)
    if push.get("by") == "http2":
        [response] = asyncio.run(messaging.send_each_async([message(push)], dry_run)).responses
        if response.exception:
            raise response.exception
        return response.message_id
    return messaging.send(message(push), dry_run)


firebase_admin.initialize_app(credentials.Certificate(plan["serviceAccountFile"]))
for push in plan["messages"]:
    result = {"case": push["case"]}
    try:
        result["name"] = send(push)
    except exceptions.FirebaseError as error:
        result |= {"type": type(error).__name__, "code": error.code}
    print(json.dumps(result))
