#!/usr/bin/env bash
# Asks the digits model what examples/digit.json shows, with curl alone.
set -euo pipefail

url="${ORTOLAN_HTTP_URL:-http://127.0.0.1:8000}"
image="$(cat "$(dirname "$0")/digit.json")"

# The shape is [batch, channel, row, column]: one image with one channel, hence the two brackets around its rows.
# "classification": 1 asks for the likeliest class, as "probability:index:label", instead of all ten probabilities.
request='{
  "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [['"$image"']]}],
  "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]
}'

response="$(curl --silent --show-error --fail-with-body --max-time 10 \
  --header "Content-Type: application/json" --data "$request" "$url/v2/models/digits/infer")" || {
  # curl ends with 7 when nothing listens there; it has said so itself.
  [[ $? -eq 7 ]] && { echo "no server answers at $url: start one with make serve" >&2; exit 1; }
  echo "the request failed: $response" >&2
  exit 1
}

# The answer is the only string that looks like 0.999990:3:three.
[[ "$response" =~ \"([0-9.]+):([0-9]+):([a-z]+)\" ]] || { echo "unexpected response: $response" >&2; exit 1; }
echo "class ${BASH_REMATCH[2]}, probability ${BASH_REMATCH[1]}"
