"""No value is left in a normalized text, in the grammar of any database: a canary in each literal says so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqllogs.sql.grammar import GRAMMARS
from sqllogs.sql.normalize import scan
from tests.sqllogs.sql import corpus

VENDORS = list(corpus.FORMS)
ALL = {vendor: list(corpus.statements(vendor)) for vendor in [*VENDORS, corpus.UNKNOWN]}


def test_corpus_is_large_and_in_each_grammar():
    distinct = {(vendor, sql) for vendor in VENDORS for sql in ALL[vendor]}
    assert len(distinct) >= 600
    assert set(VENDORS) <= set(GRAMMARS)
    assert all(corpus.leaks(sql) for _, sql in distinct)


@pytest.mark.parametrize("vendor", ALL)
def test_no_canary_is_left_in_any_statement(vendor):
    scanned = {sql: scan(sql, vendor) for sql in ALL[vendor]}
    assert {sql: found for sql, found in scanned.items() if corpus.leaks(repr(found))} == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_statement_with_a_literal_is_that_with_a_placeholder(vendor):
    split = {}
    for place, sql in corpus.single(vendor):
        expected = scan(corpus.filled(place, "%s"), vendor)
        if (found := scan(sql, vendor)) != expected:
            split[sql] = (found.sql, expected.sql)
    assert split == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_cut_at_any_character_shows_no_part_of_a_canary(vendor):
    cut = [sql[:end] for sql in ALL[vendor][::9] for end in range(1, len(sql))]
    left = {sql: scan(sql, vendor).sql for sql in cut}
    assert {sql: text for sql, text in left.items() if "c4" in text or "8675" in text} == {}


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_canary_is_left_whatever_stands_beside_it(data):
    vendor = data.draw(st.sampled_from(VENDORS))
    forms = st.sampled_from(corpus.FORMS[vendor] + corpus.TYPED[vendor])
    place = data.draw(st.sampled_from(corpus.places(vendor)))
    literals = [data.draw(forms) for _ in range(place.count("{}"))]
    broken = data.draw(st.sampled_from(corpus.AMBIGUOUS[vendor] + corpus.BROKEN))
    literals[data.draw(st.integers(0, len(literals) - 1))] = broken
    sql = place.format(*[literal.format(c=corpus.CANARY) for literal in literals])
    assert not corpus.leaks(repr(scan(sql, vendor))), sql
