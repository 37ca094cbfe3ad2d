#!/usr/bin/env bash
# Follows the alerts until two have arrived, then resumes after the second by its id.
set -euo pipefail
edge=${EDGE_URL:-http://localhost:8000}

# --max-time bounds the wait; curl's exit code 28 says that the time is over.
follow() { curl --silent --no-buffer --max-time "$1" "${@:2}" || test $? -eq 28; }

first=$(follow 5 "$edge/api/v1/sse/alerts?from=earliest")
# The second event's id is the second "id:" line that follows a "data:" line.
last_id=$(awk '/^event: risk_alert/ {alert = 1}
               /^id: / && alert {count++; alert = 0; if (count == 2) {print $2; exit}}' <<<"$first")
echo "resuming after $last_id"
follow 5 --header "Last-Event-ID: $last_id" "$edge/api/v1/sse/alerts" | grep '^data:' | head -3
