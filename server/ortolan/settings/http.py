"""The port for HTTP: where it is, and what it takes."""

from typing import Annotated

from pydantic import BaseModel, Field

from ortolan.settings.kinds import Port, Timeout


class HttpSettings(BaseModel):
    """The port for HTTP: where it is, and what it takes."""

    server_timing: bool = Field(
        False,
        description="Send where the time of a gRPC request went as trailing metadata; over HTTP it is always there.",
    )
    id: str = Field("ortolan", description="The server's name in its metadata.")
    allow_http: bool = Field(True, description="Listen for HTTP.")
    http_address: str = Field("127.0.0.1", description="The address to listen on for HTTP.")
    http_port: Port = Field(8000, description="The port to listen on for HTTP; 0 picks a free one.")
    http_max_input_size: Annotated[int, Field(ge=1)] = Field(
        64 << 20, description="The largest request in bytes, over HTTP and gRPC."
    )
    http_max_json_size: Annotated[int, Field(ge=1)] = Field(
        16 << 20,
        description="The most bytes of JSON in a request over HTTP, which take up to 15 times as much memory; a load "
        "may have as many as --http-max-input-size.",
    )
    http_header_timeout_secs: Timeout = Field(
        10.0, description="How long the line and the headers of an HTTP request may take to come; then 408."
    )
    http_body_timeout_secs: Timeout = Field(
        60.0, description="How long 64 KiB of an HTTP request's body, or the rest of it, may take to come; then 408."
    )
    http_write_timeout_secs: Timeout = Field(
        60.0, description="How long an HTTP client may take nothing of an answer before its connection is closed."
    )
    http_allowed_host: tuple[str, ...] = Field(
        (),
        description="A host that HTTP requests may name: a name, *.example.com or an address, without a port; any if "
        "not given. Health is told whatever the host. May be given several times.",
    )
    http_header_forward_pattern: str = Field(
        "", description="HTTP headers whose name contains a match of this expression become request parameters."
    )
    http_restricted_api: tuple[str, ...] = Field(
        (),
        description="CATEGORY[,CATEGORY...]:HEADER=VALUE: routes that only answer requests with that header. "
        "May be given several times.",
    )
