"""Compare recorded metrics with a baseline: values within a tolerance each, and relations between them."""

from __future__ import annotations

import operator

RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def differences(metrics: dict[str, float], baseline: dict) -> list[str]:
    """Sentences on what does not agree; empty if all does.

    ``baseline`` holds ``values``: {metric: {"value": v, "tolerance": t}}, and ``relations``: [[a, ">", b, margin]]
    where b is a metric or a number.
    """
    found = []
    for name, expected in baseline.get("values", {}).items():
        if name not in metrics:
            found.append(f"{name} is missing")
        elif not abs(metrics[name] - expected["value"]) <= expected["tolerance"]:
            found.append(f"{name} is {metrics[name]:.4g}, not {expected['value']} +- {expected['tolerance']}")
    for left, sign, right, *margin in baseline.get("relations", []):
        other = metrics[right] if isinstance(right, str) else right
        if not RELATIONS[sign](metrics[left], other + (margin[0] if margin else 0)):
            found.append(f"{left} {metrics[left]:.4g} is not {sign} {right} {other:.4g} + {margin}")
    return found
