"""What Prometheus makes of a page of metrics."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


def samples(page: str) -> dict[str, float]:
    """Every sample, by its name and its labels as PromQL has them, such as `up{job="a"}`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def collected(collector: Collector) -> str:
    """The page that this collector alone makes."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()
