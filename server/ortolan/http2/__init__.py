"""HTTP/2's server side as pure code: bytes in, events and bytes out; no socket, no clock (RFC 9113, RFC 7541)."""
