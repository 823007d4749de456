"""As much of LogQL as the provisioned links use, strict about the rest: a text becomes a test of records."""

import re
from dataclasses import dataclass
from functools import lru_cache

SELECTOR = re.compile(r'\{\s*(\w+=~?"[^"]*"(?:\s*,\s*\w+=~?"[^"]*")*)\s*\}')
REGEXP = re.compile(r"regexp `([^`]+)`")
COMPARISON = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')


class NotUnderstoodError(AssertionError):
    """The text is not LogQL, or more of it than is known here."""


@dataclass(frozen=True, slots=True)
class Record:
    """A line as Loki has it; `labels` are those of its stream and its structured metadata."""

    line: str
    labels: dict


def matching(text, records):
    """Return the records that a query finds."""
    selector, *stages = (part.strip() for part in text.split(" | "))
    found = SELECTOR.fullmatch(selector)
    if found is None:
        raise NotUnderstoodError(selector)
    wanted = [_comparison(part.strip()) for part in found[1].split(",")]
    steps = [_step(stage) for stage in stages]
    chosen = (one for one in records if all(holds(one.labels) for holds in wanted))
    return [record for record in chosen if _passes(steps, record)]


def _passes(steps, record):
    labels = dict(record.labels)
    return all(step(record.line, labels) for step in steps)


def _step(stage):
    """Return what a stage does with a line and its labels; false ends it."""
    if regexp := REGEXP.fullmatch(stage):
        pattern = regexp[1]
        return lambda line, labels: labels.update(_groups(pattern, line)) is None
    comparisons = [_comparison(part.strip()) for part in stage.split(" or ")]
    return lambda line, labels: any(holds(labels) for holds in comparisons)


def _comparison(text):
    found = COMPARISON.fullmatch(text)
    if found is None:
        raise NotUnderstoodError(text)
    name, operator, value = found.groups()
    if operator == "=":
        return lambda labels: labels.get(name, "") == value
    matches = re.compile(value).fullmatch
    return lambda labels: matches(labels.get(name, "")) is not None


@lru_cache(maxsize=10_000)
def _groups(pattern, line):
    found = re.search(pattern, line)
    return found.groupdict() if found else {}
