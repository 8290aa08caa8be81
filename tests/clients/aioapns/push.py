"""Sends the pushes of a plan (JSON on stdin) by aioapns; writes one line of JSON for each: what the client made of it."""

import asyncio
import json
import pathlib
import ssl
import sys
import time

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol


async def main():
    plan = json.load(sys.stdin)
    # The client knows Apple's address only. Its name is also what it sends as `host`, and nothing as `:authority`.
    APNsProductionClientProtocol.APNS_SERVER = plan["host"]
    APNsProductionClientProtocol.APNS_PORT = plan["port"]
    # Without ALPN, as the client's own context is made.
    context = ssl.create_default_context(cafile=plan["caFile"])
    client = APNs(
        key=pathlib.Path(plan["keyFile"]).read_text(),
        key_id=plan["keyId"],
        team_id=plan["teamId"],
        topic=plan["topic"],
        max_connections=1,
        ssl_context=context,
    )

    async def send(push):
        expiration = push.get("expiration")
        request = NotificationRequest(
            device_token=push["token"],
            message=push["payload"],
            priority=push["priority"],
            push_type=PushType(push["type"]),
            collapse_key=push.get("collapseId"),
            time_to_live=expiration - int(time.time()) if expiration else None,
            apns_topic=push.get("topic"),
        )
        result = await asyncio.wait_for(client.send_notification(request), 20)
        return {
            "case": push["case"],
            "sent": int(result.is_successful),
            "status": int(result.status),
            "reason": result.description,
            "timestamp": result.timestamp,
        }

    if plan.get("together"):
        results = await asyncio.gather(*(send(push) for push in plan["pushes"]))
    else:
        results = [await send(push) for push in plan["pushes"]]
    for result in results:
        print(json.dumps(result))


asyncio.run(main())
