"""Asks the digits model what examples/digit.json shows: NVIDIA's tritonclient, unmodified, over HTTP."""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

# tritonclient wants host:port, and is told about https apart.
url = urlsplit(os.environ.get("ORTOLAN_HTTP_URL", "http://127.0.0.1:8000"))
pixels = np.array(json.loads((Path(__file__).parent / "digit.json").read_text()), dtype=np.float32)
image = pixels.reshape(1, 1, 8, 8)  # [batch, channel, row, column]

tensor = InferInput("image", list(image.shape), "FP32")
tensor.set_data_from_numpy(image)
try:
    with InferenceServerClient(url.netloc, ssl=url.scheme == "https") as client:
        probabilities = client.infer("digits", [tensor]).as_numpy("probabilities")[0]
except (InferenceServerException, OSError) as error:
    sys.exit(f"no answer from {url.geturl()}: {error}")

digit = int(probabilities.argmax())
print(f"class {digit}, probability {probabilities[digit]:.6f}")
