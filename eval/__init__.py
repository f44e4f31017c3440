"""Numbers and pictures from images. The tables of metrics and protocols import without torch."""

from eval.protocol import METRICS, PROTOCOLS, Metric, Protocol, get_metric, get_protocol

__all__ = ["METRICS", "PROTOCOLS", "Metric", "Protocol", "get_metric", "get_protocol"]
