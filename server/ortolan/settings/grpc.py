"""The port for gRPC: where it is, and what it takes."""

from typing import Literal

from pydantic import BaseModel, Field

from ortolan.settings.kinds import Count, Milliseconds, Port


class GrpcSettings(BaseModel):
    """The port for gRPC: where it is, and what it takes."""

    allow_grpc: bool = Field(True, description="Listen for gRPC.")
    grpc_address: str = Field("127.0.0.1", description="The address to listen on for gRPC.")
    grpc_port: Port = Field(
        8001, description="The port to listen on for gRPC; 0 picks a free one, and that of HTTP is one port for both."
    )
    grpc_header_forward_pattern: str = Field(
        "", description="gRPC metadata whose name contains a match of this expression becomes request parameters."
    )
    grpc_restricted_protocol: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY...]:KEY=VALUE: methods that only answer calls with the metadata "
        "triton-grpc-protocol-KEY. May be given several times.",
    )
    grpc_transport: Literal["http2", "grpcio"] = Field(
        "http2", description="What carries gRPC: the server's own HTTP/2, which is the faster one, or grpcio's."
    )
    grpc_infer_response_compression_level: Literal["none", "low", "medium", "high"] = Field(
        "none", description="How far inference responses are compressed over gRPC."
    )
    grpc_keepalive_time: Milliseconds = Field(
        7_200_000, description="Milliseconds without traffic after which the server pings a gRPC client."
    )
    grpc_keepalive_timeout: Milliseconds = Field(
        20_000, description="Milliseconds that a pinged gRPC client has to answer."
    )
    grpc_keepalive_permit_without_calls: bool = Field(
        False, description="Whether gRPC keep-alive pings are sent and taken while no call is under way."
    )
    grpc_http2_max_pings_without_data: Count = Field(
        2, description="Pings that the server may send over gRPC without sending data; 0: any number."
    )
    grpc_http2_min_recv_ping_interval_without_data: Milliseconds = Field(
        300_000, description="Milliseconds that a gRPC client must leave between pings while it sends no data."
    )
    grpc_http2_max_ping_strikes: Count = Field(
        2, description="Pings beyond that which a gRPC client may send before its connection is closed; 0: any number."
    )
    grpc_max_connection_age: Milliseconds = Field(
        0, description="Milliseconds after which a gRPC connection is asked to close; 0: never."
    )
    grpc_max_connection_age_grace: Milliseconds = Field(
        0, description="Milliseconds that calls may take after that; 0: as long as they need."
    )
