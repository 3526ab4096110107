"""Asks the digits model what examples/digit.json shows: REST, with nothing but Python's standard library."""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

url = os.environ.get("ORTOLAN_HTTP_URL", "http://127.0.0.1:8000")
image = json.loads((Path(__file__).parent / "digit.json").read_text())

# The shape is [batch, channel, row, column]: one image with one channel, hence the two brackets around its rows.
tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [[image]]}
request = urllib.request.Request(
    f"{url}/v2/models/digits/infer",
    data=json.dumps({"inputs": [tensor]}).encode(),
    headers={"Content-Type": "application/json"},
)
try:
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
except urllib.error.HTTPError as error:  # The server's own words say what was wrong: {"error": "…"}.
    sys.exit(f"the server answered {error.code}: {error.read().decode()}")
except OSError as error:
    sys.exit(f"no answer from {url}: {error}")

# The data come flat, whatever the shape; here that is one row of ten probabilities.
probabilities = answer["outputs"][0]["data"]
digit = max(range(10), key=lambda index: probabilities[index])
print(f"class {digit}, probability {probabilities[digit]:.6f}")
