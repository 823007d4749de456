"""Valid settings are used; an invalid one has its default, and a message that says what is wrong."""

import subprocess
import sys

import pytest

from sqllogs import conf

SOURCE_URL = "Must be empty, or a URL with {path}, and {line} and {release} if wanted."
OF_TRACE = "Must be empty, or a URL with {trace_id}, and {from_ms} and {to_ms} if wanted."


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("CAPACITY", 10, "Unknown setting 'CAPACITY'. Valid settings: ENABLED, DATABASE, CAPACITY_ROWS"),
        ("CAPACITY_ROWS", "10", "Must be int, not str."),  # a number as text, from the environment
        ("CAPACITY_ROWS", True, "Must be int, not bool."),  # bool is an int to Python, not to us
        ("CAPACITY_ROWS", 0, "Must be at least 1."),  # nothing to keep
        ("CAPACITY_ROWS", 2**31, "Must be at most"),  # beyond the column
        ("FLUSH_INTERVAL_S", -1, "Must be at least 0.01."),  # a thread that never rests
        ("FLUSH_INTERVAL_S", 3600, "Must be at most 60."),  # a kill -9 would lose an hour
        ("ENABLED", "no", "Must be bool or None, not str."),  # "no" is true to Python
        ("N_PLUS_ONE_IGNORE", "a.py:*", "Must be list or tuple, not str."),  # would be letters
        ("N_PLUS_ONE_IGNORE", [5], "Each of its values must be a str."),
        # DRF would read "forever".
        ("SERVER_TIMING", "everybody", "Must be empty, `staff` or `all`."),
        ("SOURCE_URL", "vscode://file/x", SOURCE_URL),
        ("SOURCE_URL", "javascript://%0aalert(1){path}", SOURCE_URL),
        ("SOURCE_URL", "https://code.example/{path}?at={commit}", SOURCE_URL),
        ("TRACE_URL", "https://traces.example/", OF_TRACE),
        ("TRACE_URL", "javascript://%0aalert(1){trace_id}", OF_TRACE),
        ("LOGS_URL", "logs.example/{trace_id}", OF_TRACE),
        ("LOGS_URL", "https://logs.example/{trace_id}\n", OF_TRACE),
        ("READ_RATE", "120/fortnight", "Must be empty, or a rate such as 120/minute."),
        ("DATABASE", None, "Must be str, not None."),  # no alias
    ],
)
def test_invalid_setting_is_reported_and_has_its_default(key, value, message, settings):
    assert message in str(conf.find_problem(key, value))
    settings.SQLLOGS = {key: value, "RELEASE": "1"}
    assert conf.load() == conf.Conf(release="1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("FLUSH_INTERVAL_S", 1),
        ("ENABLED", None),
        ("CAPACITY_ROWS", 5),
        ("N_PLUS_ONE_IGNORE", ["a"]),
        ("TRACE_URL", "/jaeger/trace/{trace_id}"),
        ("LOGS_URL", 'https://x/?q={"a":"{trace_id}"}&from={from_ms}'),
    ],
)
def test_valid_setting_is_used(key, value, settings):
    assert conf.find_problem(key, value) is None
    settings.SQLLOGS = {key: value}
    assert getattr(conf.load(), key.lower()) == value


def test_changed_setting_is_used(settings):
    for given, found in (
        ({"SLOW_MS": 1}, 1),
        ({"SLOW_MS": True}, conf.Conf().slow_ms),
        ({}, conf.Conf().slow_ms),
    ):
        settings.SQLLOGS = given
        assert conf.load().slow_ms == found
    settings.SQLLOGS["SLOW_MS"] = 2
    assert conf.load().slow_ms == 2


def test_settings_that_are_not_a_dict_do_not_stop_the_host(settings):
    settings.SQLLOGS = ["CAPACITY_ROWS"]
    assert conf.load() == conf.Conf()


def test_missing_settings_are_the_defaults(settings):
    del settings.SQLLOGS
    assert conf.load() == conf.Conf()


def test_invalid_setting_is_harmless_before_the_apps_are_ready():
    # Its message is not translated before it is shown: gettext would raise AppRegistryNotReady here.
    code = (
        "from django.conf import settings; settings.configure(SQLLOGS={'CAPACITY_ROWS': 0})\n"
        "from sqllogs import conf; print(conf.load().capacity_rows)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "100000\n"
