"""What SQLLOGS says is taken; what is wrong in it is named and has its default."""

import pytest

from sqllogs import conf


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("CAPACITY", 10, "the keys are ENABLED, DATABASE, CAPACITY_ROWS"),  # a key that is not
        ("CAPACITY_ROWS", "10", "It takes int, not str."),  # a number as text, from the environment
        ("CAPACITY_ROWS", True, "It takes int, not bool."),  # bool is an int to Python, not to us
        ("CAPACITY_ROWS", 0, "The least is 1."),  # nothing to keep
        ("CAPACITY_ROWS", 2**31, "The most is"),  # beyond the column
        ("FLUSH_INTERVAL_S", -1, "The least is 0.01."),  # a thread that never rests
        ("FLUSH_INTERVAL_S", 3600, "The most is 60."),  # a kill -9 would lose an hour
        ("ENABLED", "no", "It takes bool or NoneType, not str."),  # "no" is true to Python
        ("N_PLUS_ONE_IGNORE", "a.py:*", "It takes list or tuple, not str."),  # would be letters
        ("N_PLUS_ONE_IGNORE", [5], "Each of its values must be a str."),
        ("READ_RATE", "120/fortnight", "It must be empty or like 120/minute."),  # DRF would read "forever"
        ("DATABASE", None, "It takes str, not NoneType."),  # no alias
    ],
)
def test_bad_setting_is_named_and_has_its_default(key, value, says, settings):
    assert says in conf.problem(key, value)
    settings.SQLLOGS = {key: value, "RELEASE": "1"}
    assert conf.load() == conf.Conf(release="1")


@pytest.mark.parametrize(
    ("key", "value"),
    [("FLUSH_INTERVAL_S", 1), ("ENABLED", None), ("CAPACITY_ROWS", 5), ("N_PLUS_ONE_IGNORE", ["a"])],
)
def test_good_setting_is_taken(key, value, settings):
    assert conf.problem(key, value) is None
    settings.SQLLOGS = {key: value}
    assert getattr(conf.load(), key.lower()) == value


def test_settings_that_are_no_dict_do_not_stop_the_host(settings):
    settings.SQLLOGS = ["CAPACITY_ROWS"]
    assert conf.load() == conf.Conf()


def test_missing_settings_are_the_defaults(settings):
    del settings.SQLLOGS
    assert conf.load() == conf.Conf()
