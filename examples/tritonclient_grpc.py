"""Asks the digits model what examples/digit.json shows: NVIDIA's tritonclient, unmodified, over gRPC."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

address = os.environ.get("ORTOLAN_GRPC_URL", "127.0.0.1:8001")  # host:port, without a scheme
pixels = np.array(json.loads((Path(__file__).parent / "digit.json").read_text()), dtype=np.float32)
image = pixels.reshape(1, 1, 8, 8)  # [batch, channel, row, column]

tensor = InferInput("image", list(image.shape), "FP32")
tensor.set_data_from_numpy(image)
try:
    with InferenceServerClient(address) as client:
        response = client.infer("digits", [tensor], client_timeout=10)
except InferenceServerException as error:
    sys.exit(f"no answer from {address}: {error}")

probabilities = response.as_numpy("probabilities")[0]
digit = int(probabilities.argmax())
print(f"class {digit}, probability {probabilities[digit]:.6f}")
