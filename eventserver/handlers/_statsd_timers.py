"""The figures of one timer in one interval, as statsd makes them (`lib/process_metrics.js`). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate


def label(percentile: float) -> str:
    """A percentile in the name of a figure: `90`, `99_9`, `top10` for -10."""
    text = f"{percentile:g}" if percentile % 1 else str(int(percentile))
    return text.replace(".", "_", 1).replace("-", "top", 1)


def timer_figures(
    unsorted: Sequence[float], count: float, seconds: float, percentiles: Sequence[float]
) -> dict[str, float]:
    """Name to figure. `count` is the number that the values stand for; rates are for `seconds`.

    A percentile of 90 looks at the 90 % smallest values, -10 at the 10 % largest.
    """
    if not unsorted:
        return {"count": 0, "count_ps": 0}
    values = sorted(unsorted)
    sums = list(accumulate(values))
    squares = list(accumulate(value * value for value in values))
    figures: dict[str, float] = {}
    for percentile in percentiles:
        figures |= _percentile(percentile, values, sums, squares)
    number = len(values)
    mean = sums[-1] / number
    middle = number // 2
    return figures | {
        "std": math.sqrt(sum((value - mean) * (value - mean) for value in values) / number),
        "upper": values[-1],
        "lower": values[0],
        "count": count,
        "count_ps": count / seconds,
        "sum": sums[-1],
        "sum_squares": squares[-1],
        "mean": mean,
        "median": values[middle] if number % 2 else (values[middle - 1] + values[middle]) / 2,
    }


def _percentile(percentile: float, values: list[float], sums: list[float], squares: list[float]) -> dict[str, float]:
    number = len(values)
    # JavaScript's Math.round; a single value is within every threshold.
    within = math.floor(abs(percentile) / 100 * number + 0.5) if number > 1 else 1
    if not within:
        return {}
    if percentile > 0:
        total, total_squares, boundary = sums[within - 1], squares[within - 1], values[within - 1]
    else:
        below = number - within
        total = sums[-1] - (sums[below - 1] if below else 0)
        total_squares = squares[-1] - (squares[below - 1] if below else 0)
        boundary = values[below]
    name = label(percentile)
    return {
        f"count_{name}": within,
        f"mean_{name}": total / within,
        f"{'upper' if percentile > 0 else 'lower'}_{name}": boundary,
        f"sum_{name}": total,
        f"sum_squares_{name}": total_squares,
    }
