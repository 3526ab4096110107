"""Running tensors through ONNX Runtime: sessions, instances, the request queue and the scheduler."""
