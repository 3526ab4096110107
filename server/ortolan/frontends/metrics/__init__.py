"""What Prometheus is told: one page, on a port of its own and beside the REST routes."""

from ortolan.frontends.metrics.page import MetricsOptions, MetricsPage
from ortolan.frontends.metrics.process_use import process_samples
from ortolan.frontends.metrics.routes import metrics_app, metrics_router

__all__ = ["MetricsOptions", "MetricsPage", "metrics_app", "metrics_router", "process_samples"]
