# Sourced by ./test and ./try: sees to it that RabbitMQ, PostgreSQL, Python's pika and, for ./test, what runs push clients in
# other languages (tests/clients) are installed. Starts nothing.

say() { printf '\n==> %s\n' "$*"; }
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit "$2"
}

# Debian's own python3, by which other languages' clients run: python3-pika is installed for that one.
export HERALD_TEST_PYTHON="${HERALD_TEST_PYTHON:-/usr/bin/python3}"

# The packages that are missing, one a line. What is found without a package counts too.
missing() {
    if [ -z "${HERALD_TEST_AMQP_URL:-}" ] && ! compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' >/dev/null; then
        echo rabbitmq-server
    fi
    if [ -z "${HERALD_TEST_DATABASE_URL:-}" ] && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
        printf '%s\n' postgresql postgresql-client
    fi
    if ! "$HERALD_TEST_PYTHON" -c 'import pika' 2>/dev/null; then
        printf '%s\n' python3 python3-pika
    fi
    if [ -n "${with_clients:-}" ]; then
        command -v node >/dev/null || echo nodejs
        command -v npm >/dev/null || echo npm
        "$HERALD_TEST_PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    fi
}

# Debian's packages start system-wide services when installed; a policy that says no (exit code 101) keeps them from
# it. An existing policy is left alone: whoever wrote it decided.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update </dev/null
    apt-get install --yes --no-install-recommends "$@" </dev/null
    if [ -n "$(trap -p EXIT)" ]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

# Installs what is missing if the argument is "yes"; else says exactly what to install.
provide_servers() {
    local packages line
    packages=$(missing)
    [ -n "$packages" ] || return 0
    line=${packages//$'\n'/ }
    if [ "${1:-}" != yes ]; then
        fail "missing: $line. Run $0 --install-servers as root, or: apt-get install $line" 69
    elif ! command -v apt-get >/dev/null; then
        fail "missing: $line. There is no apt-get here: install RabbitMQ, PostgreSQL and Python's pika, or set the variables of ./test --help" 69
    elif [ "$(id -u)" -ne 0 ]; then
        fail "--install-servers needs root to install: $line. Run it as root, or: sudo apt-get install $line" 69
    fi
    say "installing $line"
    # shellcheck disable=SC2086 # one word per package
    install_packages $line
}
