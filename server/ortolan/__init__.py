"""Ortolan: a model server for ONNX models that speaks Triton's protocol over REST and gRPC."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later start an uploader thread and write a device id when they are imported. Only this variable,
# set before the import, prevents it. An operator who wants the telemetry sets it to 0 himself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
