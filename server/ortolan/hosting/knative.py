"""Knative Serving and Cloud Run: one port, which PORT names, for HTTP/1, HTTP/2 in the clear, and gRPC.

Sources: the Knative runtime contract and Cloud Run's container contract. ``PORT`` alone is no sign: it is often set in
shells and by other tools. ``--hosting=knative`` takes it on platforms that set nothing else.
"""

from ortolan.hosting.contract import IMAGE_MODELS, Contract, Hosting, Surroundings, one_port, port_of

_DEFAULT_PORT = 8080


def _is_meant(surroundings: Surroundings) -> bool:
    return bool(surroundings.environment.get("K_SERVICE"))


def _hosting(surroundings: Surroundings) -> Hosting:
    settings = one_port(port_of(surroundings.environment, "PORT", _DEFAULT_PORT)) | {
        # Both ask by TCP alone whether a container is ready, unless somebody wrote probes.
        "listen_when_loaded": "true",
        # Cloud Run kills 10 s after SIGTERM. Neither platform sends requests by then: Knative's proxy waits for the
        # last answer before it lets the signal through.
        "drain_delay_secs": "1",
        "exit_timeout_secs": "5",
    }
    has_models = surroundings.files.is_directory(IMAGE_MODELS)
    return Hosting("Knative", settings, IMAGE_MODELS if has_models else "")


KNATIVE = Contract("knative", _is_meant, _hosting)
