"""Microsoft's SDK for Python against the gateway: POST, list, get, $count, PATCH, DELETE. Prints a line of JSON for each step.

From the environment: HERALD_URL (http on this machine will do), HERALD_TOKEN (an app's), HERALD_UNSID (a subscription of the
user), HERALD_APP. STEPS names the steps to do; all, if it isn't set.
"""

import asyncio
import json
import os
import warnings

# Each call says that Microsoft's service ended in 2023.
warnings.simplefilter("ignore", DeprecationWarning)

from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AccessTokenProvider, AllowedHostsValidator, BaseBearerTokenAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph_beta import GraphRequestAdapter, GraphServiceClient
from msgraph_beta.generated.models.notification import Notification
from msgraph_beta.generated.models.payload_types import PayloadTypes
from msgraph_beta.generated.models.priority import Priority
from msgraph_beta.generated.models.target_policy_endpoints import TargetPolicyEndpoints

URL, APP = os.environ["HERALD_URL"], os.environ["HERALD_APP"]
ALL = "post list get count read dismiss delete again"
STEPS = os.environ.get("STEPS", ALL).split()


class Token(AccessTokenProvider):
    async def get_authorization_token(self, uri, additional_authentication_context={}):
        return os.environ["HERALD_TOKEN"]

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator([])


def said(step, **what):
    print(json.dumps({"step": step, **what}, default=str), flush=True)


def read(item):
    """What the SDK's own type has, and what it keeps besides."""
    what = {name: getattr(item, name) for name in ("id", "group_name", "target_host_name", "display_time_to_live", "expiration_date_time")}
    what["priority"] = item.priority and item.priority.value
    what["raw"] = item.payload and item.payload.raw_content
    return {**what, "besides": dict(item.additional_data)}


def named():
    configuration = RequestConfiguration()
    configuration.headers.add("X-UNS-ID", os.environ["HERALD_UNSID"])
    return configuration


async def steps(notifications):
    order = Notification(
        target_host_name=APP, group_name="orders", priority=Priority.High, display_time_to_live=600,
        payload=PayloadTypes(raw_content='{"order":1042}'),
        target_policy=TargetPolicyEndpoints(platform_types=["ios", "android"]),
        additional_data={"appNotificationId": "order-1042"},
    )
    posted = await notifications.post(order, request_configuration=named())
    said("post", **read(posted))
    one = notifications.by_notification_id(posted.id)
    if "list" in STEPS:
        configuration = named()
        from msgraph_beta.generated.users.item.notifications.notifications_request_builder import NotificationsRequestBuilder as Builder
        configuration.query_parameters = Builder.NotificationsRequestBuilderGetQueryParameters(top=5, count=True, filter="groupName eq 'orders'")
        page = await notifications.get(request_configuration=configuration)
        said("list", count=page.odata_count, ids=[item.id for item in page.value], holds=posted.id in [item.id for item in page.value])
    if "get" in STEPS:
        said("get", **read(await one.get(request_configuration=named())))
    if "count" in STEPS:
        said("count", count=await notifications.count.get(request_configuration=named()))
    if "read" in STEPS:
        said("read", **read(await one.patch(Notification(additional_data={"readState": True}), request_configuration=named())))
    if "dismiss" in STEPS:
        change = Notification(additional_data={"userActionState": "Dismissed"})
        said("dismiss", **read(await one.patch(change, request_configuration=named())))
    if "delete" in STEPS:
        await one.delete(request_configuration=named())
        said("delete")
    if "again" in STEPS:
        try:
            said("again", **read(await one.get(request_configuration=named())))
        except APIError as error:
            said("again", status=error.response_status_code, type=type(error).__name__, code=getattr(error.error, "code", None))


async def main():
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(Token()))
    adapter.base_url = f"{URL}/beta"
    client = GraphServiceClient(request_adapter=adapter)
    client.path_parameters["baseurl"] = adapter.base_url
    await steps(client.me().notifications)


asyncio.run(main())
