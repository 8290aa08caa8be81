"""The whole way of a notification, shown: what ./try runs between private servers. Usage: try.py PATH-OF-HERALD

Prints what each of five people saw, and fails (exit code 1) if that is not what they should have seen."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import pika

HERALD = sys.argv[1]
APP = "mail.contoso.com"
FALLBACK_SECS = 3
MANY = 300
BROKER = os.environ["HERALD_TEST_AMQP_URL"]
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("HERALD_")},
    "HERALD_AMQP_URL": BROKER,
    "HERALD_DATABASE_URL": os.environ["HERALD_TEST_DATABASE_URL"],
    # A killed worker's work is picked up after its lease: short here, so that nobody has to wait a minute for it.
    "HERALD_WORKER_LEASE_SECS": "6",
    "HERALD_WORKER_ATTEMPT_TIMEOUT_SECS": "3",
}
# name: platform, condition, what it is like, toasts that the person should see
PEOPLE = {
    "anna": ("ios", "powerSaving", "iPhone saving power", 1),
    "ben": ("ios", "awake", "iPhone awake", 0),
    "cleo": ("ios", "forceQuit", "iPhone, app force-quit", 1),
    "dora": ("android", "awake", "Android awake", 0),
    "eve": ("ios", "uninstalled", "iPhone, app uninstalled", 0),
}


def say(text):
    print(f"\n==> {text}", flush=True)


def http(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def until(what, limit, condition):
    """Waits for a condition, never for time."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            value = condition()
            if value:
                return value
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"waited {limit} s in vain for {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def herald(*args, **more):
    done = subprocess.run([HERALD, *args], env={**ENV, **more}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"herald {' '.join(args)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def main(folder, started):
    def start(name, *args, **more):
        log = open(os.path.join(folder, f"{name}.log"), "w")
        process = subprocess.Popen([HERALD, *args], env={**ENV, **more}, stdout=log, stderr=subprocess.STDOUT)
        started.append(process)
        return process

    say("herald topology; herald simulate; two herald worker")
    herald("topology")
    simulator = os.path.join(folder, "simulator")
    start("simulator", "simulate", "--dir", simulator, "--app", APP, "--apns-port", "0", "--fcm-port", "0", "--control-port", "0")
    about = os.path.join(simulator, "simulator.json")
    until("the simulator", 20, lambda: os.path.exists(os.path.join(simulator, "herald.toml")) and os.path.getsize(about))
    control = json.load(open(about))["controlUrl"]
    config = os.path.join(simulator, "herald.toml")
    listens = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    workers = [start(f"worker{n}", "--config", config, "worker", HERALD_LISTEN=at) for n, at in enumerate(listens)]
    for at in listens:
        until(f"the worker at {at}", 30, lambda at=at: http("GET", f"http://{at}/readyz"))
    # The second worker takes the receipts: the first one will be killed.
    http("PUT", f"{control}/settings", {"receiptsUrl": f"http://{listens[1]}/v1/receipts"})

    for name, (platform, condition, like, _) in PEOPLE.items():
        phone = http("PUT", f"{control}/phones/{name}", {"app": APP, "platform": platform, "condition": "awake", "ackDelayMs": 50})
        unsid = herald("subscriptions", "add", "--app", APP, "--user", name, "--platform", platform, "--token", phone["token"])
        # Only now: a token that is presented after an answer that it is dead is taken for a new one.
        http("PATCH", f"{control}/phones/{name}", {"condition": condition})
        print(f"    {name:5} {like:24} subscribed as {unsid.strip().split()[-1]}")

    say(f"Python's pika publishes one high-priority notification to each, with a toast after {FALLBACK_SECS} s as fallback")
    connection = pika.BlockingConnection(pika.URLParameters(BROKER))
    channel = connection.channel()
    channel.confirm_delivery()
    login = pika.URLParameters(BROKER).credentials.username
    for name in PEOPLE:
        publish(channel, login, name, f"order-{name}", FALLBACK_SECS)
    began = time.monotonic()
    expected = {name: want for name, (*_, want) in PEOPLE.items()}
    view = lambda name: http("GET", f"{control}/phones/{name}")
    until("the toasts", FALLBACK_SECS + 15, lambda: all(view(name)["toastsShown"] >= want for name, want in expected.items()))
    print(f"    all toasts shown {time.monotonic() - began:.1f} s after publishing")

    say(f"{MANY} more to ben; one worker is killed with -9 in the middle")
    before = view("ben")["rawsDelivered"]
    for number in range(MANY):
        publish(channel, login, "ben", f"many-{number}", 60)
        if number == MANY // 2:
            workers[0].send_signal(signal.SIGKILL)
    distinct = lambda: sum(1 for n in view("ben")["notifications"].values() if n["rawsDelivered"] > 0) - 1
    until(f"{MANY} raw pushes", 60, lambda: distinct() >= MANY)
    repeated = view("ben")["rawsDelivered"] - before - MANY
    until("their receipts", 20, lambda: view("ben")["receiptsSent"] >= MANY + 1)
    print(f"    {distinct()} of {MANY} reached the phone; {repeated} of them twice (what the killed worker had in flight)")

    say("what each person saw")
    print(f"    {'person':6} {'phone':24} {'silent, reached the app':>23} {'receipts':>8} {'toasts':>6}  as it should be")
    good = True
    for name, (_, _, like, want) in PEOPLE.items():
        phone = view(name)
        toasts = phone["toastsShown"]
        right = toasts == want
        good &= right
        print(f"    {name:6} {like:24} {phone['rawsDelivered']:>23} {phone['receiptsSent']:>8} {toasts:>6}  {'yes' if right else f'NO: {want}'}")
    gone = herald("subscriptions", "list", "--app", APP, "--user", "eve", "--json")
    print(f"    eve's dead token was pruned: {'yes' if json.loads(gone) == [] else 'NO'}")
    good &= json.loads(gone) == []

    say("from the surviving worker's metrics")
    for line in http("GET", f"http://{listens[1]}/metrics").splitlines():
        if line.startswith(("herald_fallbacks", "herald_receipts_total", "herald_deliveries_closed")) and not line.endswith(" 0"):
            print(f"    {line}")

    say("SIGTERM: the worker drains")
    workers[1].terminate()
    print(f"    exit code {workers[1].wait(timeout=35)}")
    good &= workers[1].returncode == 0
    return 0 if good else 1


def publish(channel, login, user, name, fallback_secs):
    body = {
        "target": {"userId": user},
        "targetHostName": APP,
        "appNotificationId": name,
        "priority": "High",
        "payload": {"rawContent": json.dumps({"order": name})},
        "fallbackPolicy": {"endpointFallback": {
            "platformTypes": ["ios"], "fallbackDelayInSeconds": fallback_secs,
            "visualContent": {"title": "Order shipped", "body": "Arrives Tuesday"}}},
    }
    properties = pika.BasicProperties(message_id=name, content_type="application/json", delivery_mode=2, user_id=login)
    channel.basic_publish("herald.requests", "high", json.dumps(body), properties)


if __name__ == "__main__":
    processes = []
    with tempfile.TemporaryDirectory(prefix="herald-try-") as work:
        try:
            code = main(work, processes)
        except BaseException:
            for name in sorted(os.listdir(work)):
                if name.endswith(".log"):
                    print(f"\n--- {name}\n" + "".join(open(os.path.join(work, name)).readlines()[-15:]))
            raise
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    sys.exit(code)
