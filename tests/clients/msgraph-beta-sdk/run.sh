#!/usr/bin/env bash
# Runs exchange.py against `herald up` on files, with simulated providers, and ends both. From the top folder, with
#   cargo build -p herald
#   python3 -m venv venv && venv/bin/pip install --no-deps -r tests/clients/msgraph-beta-sdk/requirements.txt
#   PYTHON=venv/bin/python tests/clients/msgraph-beta-sdk/run.sh
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
herald=$(realpath "${HERALD:-target/debug/herald}")
python=${PYTHON:-python3}
app=mail.contoso.com
folder=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
    rm -r "$folder"
}
trap finish EXIT
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port

"$herald" simulate --dir "$folder" --app "$app" --apns-port 0 --fcm-port 0 --control-port 0 --receipts-url "$url/v1/receipts" \
    >"$folder/simulate.log" 2>&1 &
started+=($!)
until grep -q 'ready; ends on' "$folder/simulate.log"; do sleep 0.1; done
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt >"$folder/issuer-key.pem"
cat >>"$folder/herald.toml" <<TOML

[gateway]
public_url = "$url"
[gateway.token_issuer]
signing_key_file = "issuer-key.pem"
[[apps."$app".clients]]
id = "mail-service"
secret_env = "MAIL_SECRET"
TOML
export HERALD_CONFIG=$folder/herald.toml HERALD_LISTEN=127.0.0.1:$port HERALD_DIR=$folder/data MAIL_SECRET=correct-horse-battery
"$herald" up >"$folder/up.log" 2>&1 &
started+=($!)
until curl -sf "$url/readyz" >/dev/null; do sleep 0.1; done
control=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["controlUrl"])' "$folder/simulator.json")
token_of() { "$python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
push_token=$(curl -sf -X PUT "$control/phones/anna" -H 'content-type: application/json' -d "{\"app\":\"$app\",\"platform\":\"ios\"}" | token_of token)
unsid=$("$herald" subscriptions add --app "$app" --user anna --platform ios --token "$push_token" | grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | head -1)
HERALD_TOKEN=$(curl -sf "$url/common/oauth2/v2.0/token" -d grant_type=client_credentials -d client_id=mail-service \
    --data-urlencode client_secret="$MAIL_SECRET" -d scope=https://graph.microsoft.com/.default | token_of access_token)
export HERALD_TOKEN HERALD_URL=$url HERALD_APP=$app HERALD_UNSID=$unsid
"$python" "$here/exchange.py"
