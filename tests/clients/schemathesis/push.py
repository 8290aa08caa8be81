"""Sends Herald whatever its OpenAPI document allows, and what it doesn't allow, by schemathesis.

The plan (JSON on stdin): {"url", "token", "known", "examples", "seed"}; `known` has values of parameters by their names, so that requests
reach something. One line of JSON: how many requests were sent, where none was let in, and what was found.
"""

import json
import os
import subprocess
import sys
import tempfile

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]


def main():
    plan = json.load(sys.stdin)
    options = [
        "run", plan["url"] + "/v1/openapi.json",
        "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color",
        "--max-examples", str(plan["examples"]), "--seed", str(plan["seed"]), "--generation-database", "none",
    ]
    if plan["token"]:
        options += ["--header", "Authorization:Bearer " + plan["token"]]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "report.json")
        options += ["--report", "json", "--report-json-path", path]
        config = os.path.join(folder, "schemathesis.toml")
        with open(config, "w") as file:
            file.write("[parameters]\n" + "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in plan.get("known", {}).items()))
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", config, *options]
        ended = subprocess.run(command, capture_output=True, text=True)
        if not os.path.exists(path):
            sys.exit(ended.stdout + ended.stderr)
        with open(path) as file:
            report = json.load(file)
    found = report["failures"] + report["errors"]
    print(json.dumps({
        "complete": report["complete"], "operations": report["operations"]["tested"],
        "sent": report["test_cases"]["generated"], "refused": report["warnings"]["missing_auth"], "found": found, "said": ended.stdout[-20000:] if found else "",
    }))


main()
