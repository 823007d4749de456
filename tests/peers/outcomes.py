"""The test runner for the suite of a peer: Django's own, which also writes the outcome of each test as JSON.

Runs in the peer's process, where nothing of this repository but the installed app is to be found.
It writes to the path in OUTCOMES, with the number of queries that sqllogs has captured by then.
"""

import json
import os
import sys
import unittest
from collections import defaultdict
from pathlib import Path

from django.test.runner import DiscoverRunner


class Result(unittest.TextTestResult):
    """Notes outcomes by test; a test whose parts end differently has several."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.outcomes = defaultdict(set)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.outcomes[test.id()].add("passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.outcomes[test.id()].add("failed")

    def addError(self, test, err):
        super().addError(test, err)
        self.outcomes[test.id()].add("error")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()].add("skipped")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.outcomes[test.id()].add("expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.outcomes[test.id()].add("unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[test.id()].add("failed")


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result

    def suite_result(self, suite, result, **kwargs):
        path = Path(os.environ["OUTCOMES"])
        outcomes = {test: " and ".join(sorted(found)) for test, found in sorted(result.outcomes.items())}
        path.write_text(json.dumps({"tests": outcomes, "captured": captured()}))
        return super().suite_result(suite, result, **kwargs)


def captured():
    if "sqllogs.recorder" not in sys.modules:
        return 0
    from sqllogs import recorder

    return recorder.recorder.delivery.counts().captured if recorder.recorder else 0
