"""Texts that users see can be translated: they go through gettext, in a form that makemessages extracts."""

import ast
import re
import struct
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils.translation import override

from sqllogs import conf
from sqllogs.cli import SUBCOMMANDS
from sqllogs.sql.remedies import Remedies
from sqllogs.testing.queries import Query, QueryGroup, remedy_of

ROOT = Path(__file__).parent.parent
FOLDERS = ("admin", "api", "checks", "cli", "grafana", "management", "models", "page", "read", "sql")
FILES = ("conf.py", "record.py")

GETTEXT = re.compile(r"_|p?n?gettext(_lazy)?|ngettext(_lazy)?")
TEXT_KEYWORDS = frozenset(
    ["advice", "help", "help_text", "label", "verbose_name", "verbose_name_plural", "hint", "title"]
)
TEXT_CALLS = re.compile(
    r"((Command|ForbiddenParameter|Parameter|Parse|Plan|Provisioning|Token|Validation)?Error|NotFound"
    r"|Info|MissingLines|Warning)"
)
"""Exceptions whose message a user reads, and system checks."""
SENTENCE = re.compile(r"[A-Za-z]{2,}.* .*[A-Za-z]{2,}")
"""Two words; single names and formats are the same in every language."""
STATEMENT = re.compile(r"(DEALLOCATE|EXPLAIN|PREPARE|SET) ")
"""SQL that a generator yields."""


def modules():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / "sqllogs" / folder).rglob("*.py"))]
    return [str(path.relative_to(ROOT)) for path in (*paths, *(ROOT / "sqllogs" / name for name in FILES))]


def name_of(call):
    return getattr(call.func, "id", None) or getattr(call.func, "attr", "")


def is_gettext(node):
    return isinstance(node, ast.Call) and GETTEXT.fullmatch(name_of(node)) is not None


def plain_texts(node):
    """Yield the texts of an expression that are not in a call of gettext."""
    if is_gettext(node) or isinstance(node, ast.Dict):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "" for part in node.values)
    elif isinstance(node, ast.BinOp):
        yield from plain_texts(node.left)
    elif isinstance(node, ast.IfExp):
        yield from plain_texts(node.body)
        yield from plain_texts(node.orelse)


def shown_expressions(tree):
    """Yield the expressions of a module that a user reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and node.value is not None:
            yield node.value
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in TEXT_KEYWORDS:
            yield node.value
        if not isinstance(node, ast.Call):
            continue
        yield from (word.value for word in node.keywords if word.arg in TEXT_KEYWORDS)
        if TEXT_CALLS.fullmatch(name_of(node)):
            yield from node.args
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("write", "line", "prose", "paint"):
            yield from node.args[:1]


def untranslated(source):
    return [
        (expression.lineno, text)
        for expression in shown_expressions(ast.parse(source))
        for text in plain_texts(expression)
        if SENTENCE.search(text) and not STATEMENT.match(text)
    ]


def not_extractable(source):
    """Return the calls of gettext whose text is not a constant: makemessages finds no other."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if is_gettext(node) and node.args and not isinstance(node.args[0], ast.Constant)
    ]


def unnamed_placeholders(source):
    """Return texts with placeholders that a translation cannot reorder."""
    return [
        (node.lineno, text.value)
        for node in ast.walk(ast.parse(source))
        if is_gettext(node)
        for text in node.args
        if isinstance(text, ast.Constant)
        and re.search(r"(?<!%)%(?!\(|%)[a-z0-9.]|\{\}", re.sub(r"%%", "", str(text.value)))
    ]


@pytest.mark.parametrize("name", modules())
def test_texts_that_users_see_are_translated(name):
    source = (ROOT / name).read_text()
    assert [(line, text) for line, text in untranslated(source)] == []
    assert not_extractable(source) == []
    assert unnamed_placeholders(source) == []


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ('parser.add_argument("--x", help="do not ask")', ["do not ask"]),
        ('raise CommandError(f"{path} cannot be written.")', [" cannot be written."]),
        ('raise ParameterError(name, "Must be a number")', ["Must be a number"]),
        ('stdout.write("Nothing was deleted." if x else y)', ["Nothing was deleted."]),
        ('stdout.write(_("%(count)s deleted.") % {"count": "two words"})', []),
        ('TextColumn(title=gettext_lazy("call site"))', []),
        ('stdout.write(f"{a} {b}")', []),
        ('yield f"{count} records were lost"', [" records were lost"]),
        ('advice = f"Join {model} by it"', ["Join  by it"]),
    ],
    ids=["help", "f-string", "error", "output", "translated", "lazy", "format", "yield", "assignment"],
)
def test_plain_texts_are_found(source, texts):
    assert [text for _, text in untranslated(source)] == texts


def test_texts_that_cannot_be_extracted_or_reordered_are_found():
    assert not_extractable('_(f"{count} deleted")') == [1]
    assert not_extractable("gettext(message)") == [1]
    assert unnamed_placeholders('_("%s deleted")') == [(1, "%s deleted")]
    assert unnamed_placeholders('_("%(load)s %% of it")') == []


GERMAN = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "Must be true or false.": "Muss true oder false sein.",
    "Must be at least %(minimum)s.": "Muss mindestens %(minimum)s sein.",
    "Invalid capacity %(rows)s: must be a number from 1 to %(maximum)s.": "Höchstens %(maximum)s.",
    "Change the capacity of the ring; the newest records are kept.": "Kapazität des Rings ändern.",
    "It returns the same rows each time: run it once, before the loop, and keep the result.": "Nur einmal.",
}


def write_catalog(path, texts):
    """Write a compiled catalog, as msgfmt does."""
    pairs = [(key.encode(), text.encode()) for key, text in sorted(texts.items())]
    keys_at = 28
    texts_at = keys_at + 8 * len(pairs)
    data_at = texts_at + 8 * len(pairs)
    data, tables = b"", [b"", b""]
    for part in (0, 1):
        for pair in pairs:
            tables[part] += struct.pack("<II", len(pair[part]), data_at + len(data))
            data += pair[part] + b"\0"
    path.parent.mkdir(parents=True)
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), keys_at, texts_at, 0, 0)
    path.write_bytes(head + tables[0] + tables[1] + data)


@pytest.fixture
def german(settings, tmp_path):
    write_catalog(tmp_path / "de" / "LC_MESSAGES" / "django.mo", GERMAN)
    settings.LOCALE_PATHS = [tmp_path]
    with override("de"):
        yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resize", "0"], "Höchstens 2,147,483,647."),  # an error of a command
        (["stats", "--slow", "maybe"], "--slow: Muss true oder false sein."),  # one of the API's
    ],
)
def test_translation_of_a_project_is_used_in_the_terminal(german, arguments, message):
    with pytest.raises(CommandError) as failed:
        call_command("sqllogs", *arguments, stdout=StringIO(), stderr=StringIO())
    assert str(failed.value) == message


def test_translation_of_a_project_is_used_in_help_and_settings(german):
    assert str(SUBCOMMANDS["resize"].help) == "Kapazität des Rings ändern."
    assert str(conf.find_problem("CAPACITY_ROWS", 0)) == "Muss mindestens 1 sein."


def test_translation_of_a_project_is_used_in_advice_but_not_in_messages_of_tests(german):
    query = Query(
        sql="SELECT a FROM b", fingerprint="0" * 16, operation="SELECT", tables=("b",), alias="default",
        time=datetime.now(UTC), duration_ms=1.0, rows=1, sql_length=15, many=False, error=None,
        call_site=None, unit=None,
    )  # fmt: skip
    remedies = Remedies()
    assert remedies.remedy(query.operation, query.sql, query.tables).advice == "Nur einmal."
    of_test = remedy_of(remedies, QueryGroup(queries=(query, query)), ())
    assert of_test.advice.startswith("It returns the same rows each time")
