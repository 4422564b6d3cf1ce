"""What /metrics says, as numbers."""

from prometheus_client.parser import text_string_to_metric_families


def parsed_metrics(text):
    """(name, values of the labels in the order of their names) -> value."""
    return {
        (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def numbers_of(metrics):
    return parsed_metrics(metrics.text().decode())
