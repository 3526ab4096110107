"""How many refusals and errors clients were told, by protocol and code."""

HTTP, GRPC = "http", "grpc"


class ErrorResponses:
    """Of one process. Lives on the event loop."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {HTTP: {}, GRPC: {}}

    def told(self, protocol: str, code: str) -> None:
        """A client was told ``code``: "503" over HTTP, "UNAVAILABLE" over gRPC."""
        counts = self._counts[protocol]
        counts[code] = counts.get(code, 0) + 1

    def told_status(self, status: int) -> None:
        """An answer over HTTP with this status was sent; those below 400 do not count."""
        if status >= 400:
            self.told(HTTP, str(status))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """By protocol, by code."""
        return {protocol: dict(counts) for protocol, counts in self._counts.items()}
