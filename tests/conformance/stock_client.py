"""A gRPC client of generated code and nothing else: ``python stock_client.py DIRECTORY ADDRESS REGION``.

``DIRECTORY`` is where protoc and its gRPC plugin wrote their modules, ``REGION`` a key of shared memory. It calls every
method with the requests below and prints the answers, as a JSON list of [method, answer] in their order.
"""

import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
RAW = {
    "model_name": "m",
    "inputs": [INPUT],
    "raw_input_contents": [struct.pack("<4f", 1, 2, 3, 4)],
}
TYPED = {"model_name": "m", "id": "typed", "inputs": [{**INPUT, "contents": {"fp32_contents": [1, 2, 3, 4]}}]}
WRONG = {"model_name": "absent", "id": "wrong"}


def calls(region: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Methods and the fields of their requests."""
    slice_of_region = {"name": "region", "key": region, "byte_size": 16}
    return (
        ("ServerLive", {}),
        ("ServerReady", {}),
        ("ModelReady", {"name": "m"}),
        ("ServerMetadata", {}),
        ("ModelMetadata", {"name": "m"}),
        ("ModelConfig", {"name": "m"}),
        ("ModelInfer", RAW),
        ("ModelInfer", TYPED),
        ("ModelInfer", WRONG),
        ("ModelStatistics", {"name": "m"}),
        ("RepositoryModelLoad", {"model_name": "other"}),
        ("RepositoryIndex", {"ready": True}),
        ("RepositoryModelUnload", {"model_name": "other"}),
        ("ModelReady", {"name": "other"}),
        ("SystemSharedMemoryRegister", slice_of_region),
        ("SystemSharedMemoryStatus", {}),
        ("SystemSharedMemoryUnregister", {"name": "region"}),
        ("SystemSharedMemoryStatus", {}),
        ("CudaSharedMemoryRegister", {"name": "region", "raw_handle": b"no handle", "byte_size": 16}),
        ("CudaSharedMemoryStatus", {}),
        ("CudaSharedMemoryUnregister", {"name": "region"}),
        ("TraceSetting", {"model_name": "m", "settings": {"trace_rate": {"value": ["7"]}}}),
        ("LogSettings", {"settings": {"log_verbose_level": {"uint32_param": 1}}}),
    )


def main(directory: str, address: str, region: str) -> None:
    sys.path.insert(0, directory)
    import grpc_service_pb2
    import grpc_service_pb2_grpc
    import health_pb2
    import health_pb2_grpc

    answers: list[tuple[str, Any]] = []
    with grpc.insecure_channel(address) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        methods = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
        for name, fields in calls(region):
            request = getattr(grpc_service_pb2, methods[name].input_type.name)(**fields)
            answers.append((name, answered(getattr(stub, name), request)))
        requests = [grpc_service_pb2.ModelInferRequest(**fields) for fields in (RAW, WRONG, TYPED)]
        responses: Iterator[Any] = stub.ModelStreamInfer(iter(requests), timeout=20)
        answers += [("ModelStreamInfer", shown(response)) for response in responses]
        health, check = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        answers.append(("Check", answered(health.Check, check)))
        answers.append(("Watch", shown(next(health.Watch(check, timeout=20)))))
        answers.append(("methods", sorted(methods)))
    json.dump(answers, sys.stdout)


def answered(method: Any, request: Any) -> Any:
    try:
        return shown(method(request, timeout=20))
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


def shown(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
