"""A value as Grafana shows it in the units that the dashboards use; an unknown unit is an error."""

from math import isnan

_SCALES = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "ms": ((1e3, "s"), (1, "ms"), (1e-3, "µs")),
    "bytes": ((2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "decbytes": ((1e6, "MB"), (1e3, "kB"), (1, "B")),
    "short": ((1e6, "Mil"), (1e3, "K"), (1, "")),
}
_SUFFIXES = {
    "reqps": " req/s",
    "ops": " ops/s",
    "qps": " queries/s",
    "cps": " c/s",
    "rps": " reads/s",
    "wps": " writes/s",
    "suffix: ms/s": " ms/s",
    "percent": " %",
    "none": "",
    "locale": "",
    "bool_yes_no": "",
    "dateTimeAsIso": "",
}


def shown(value, unit):
    """Return the text."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if unit == "locale":
        return f"{value:,.0f}"
    if isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit in _SCALES:
        size, name = next((one for one in _SCALES[unit] if abs(value) >= one[0]), _SCALES[unit][-1])
        return f"{value / size:.4g} {name}".rstrip()
    return f"{value:.6g}{_SUFFIXES[unit]}"
