r"""Bring a statement into one form: redacted, normalized, with fingerprint, operation and tables.

Called by `sqllogs.pipeline.resolver` in the writer's thread. `sqllogs.sql.grammar` hides strings and
comments. Then this module spells each token in one way and replaces lists of any length by one, and
`sqllogs.sql.names` hides names that are data. Every expression takes linear time: quantifiers are possessive,
and alternatives differ in their first characters. The text that is hashed is the text that is stored.
docs/explanation/redaction.md says what is merged and which names are kept.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from sys import getsizeof
from typing import NamedTuple

from sqllogs.sql import Expression, quoted
from sqllogs.sql.grammar import (
    BEGINNINGS,
    FUNCTIONS,
    IDENTIFIER,
    KEYWORDS,
    KINDS,
    MASK_OF_UNKNOWN,
    MASKS,
    NAME_CHARACTER,
    QUALIFIED,
    QUOTED,
    ROW,
    TYPE,
    WORD,
    separated,
)
from sqllogs.sql.names import without_data
from sqllogs.sql.text import storable

_INSIDE = rf"(?:{NAME_CHARACTER}|\.)"
"""A keyword preceded by this is part of a name."""

UNKNOWN = "UNKNOWN"
_VERBS = frozenset(
    """
    ABORT ALTER ANALYZE ATTACH AUDIT BACKUP BEGIN BULK CACHE CALL CHANGE CHECK CHECKPOINT CHECKSUM CLOSE
    CLUSTER COMMENT COMMIT COPY CREATE DBCC DEALLOCATE DECLARE DELETE DENY DESC DESCRIBE DETACH DISABLE
    DISCARD DO DROP ENABLE END EXEC EXECUTE EXPLAIN FETCH FLASHBACK FLUSH GET GRANT HANDLER IF IMPORT INSERT
    INSTALL KILL LISTEN LOAD LOCK MERGE MOVE NOTIFY OPEN OPTIMIZE PRAGMA PREPARE PRINT PURGE RAISERROR
    REASSIGN RECONFIGURE REFRESH REINDEX RELEASE RENAME REPAIR REPLACE RESET RESIGNAL RESTORE RETURN REVOKE
    ROLLBACK SAVE SAVEPOINT SECURITY SELECT SET SHOW SIGNAL START TABLE THROW TRUNCATE UNINSTALL UNLISTEN
    UNLOCK UPDATE UPSERT USE VACUUM VALUES WAITFOR WHILE WITH XA
    """.split()  # noqa: SIM905
)
_PLAIN_VERBS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE"])
_VERB = Expression(
    r"(?P<ddl>CREATE|ALTER|DROP)(?: (?:OR|REPLACE|UNIQUE|TEMP(?:ORARY)?+|UNLOGGED|GLOBAL|LOCAL|RECURSIVE))*+"
    r"(?P<kind>(?: MATERIALIZED)?+ \w++)|(?P<to>ROLLBACK(?: WORK| TRANSACTION)?+ TO\b)"
    rf"|(?P<word>[A-Z]\w{{0,31}})(?!{NAME_CHARACTER})",
    re.IGNORECASE | re.ASCII,
)
_MAIN_VERB = Expression(
    rf"{QUOTED}|([()])|(?<!{_INSIDE})(SELECT|INSERT|UPDATE|DELETE|MERGE|REPLACE|VALUES)\b"
)
_SWITCHES = Expression(r"(?:SET (?:(?!(?:ON|OFF);)\S++ )++(?:ON|OFF); )++")
"""Settings of SQL Server that mssql-django sends before a statement."""
_RENAMED = {"RELEASE": "RELEASE SAVEPOINT", "SAVE": "SAVEPOINT", "START": "BEGIN"}


def operation_of(text: str) -> str:
    text = text.lstrip("({ ")
    verb = text.split(" ", 1)[0]
    if verb in _PLAIN_VERBS:
        return verb
    if verb == "SET" and (switches := _SWITCHES.match(text)):
        return operation_of(text[switches.end() :])
    if verb == "WITH":
        return _main_verb(text)
    match = _VERB.match(text)
    if match is None:
        return UNKNOWN
    if match["ddl"]:
        kind = match["kind"].upper()
        return f"{match['ddl'].upper()}{kind if kind.split()[0] in KINDS else ''}"
    word = "ROLLBACK TO SAVEPOINT" if match["to"] else match["word"].upper()
    return _RENAMED.get(word, word) if match["to"] or word in _VERBS else UNKNOWN


def _main_verb(text: str) -> str:
    depth = 0
    for bracket, verb in _MAIN_VERB.findall(text):
        if verb and depth == 0:
            return str(verb)
        depth += (bracket == "(") - (bracket == ")")
    return "WITH"


_LISTING = ("FROM", "UPDATE", "DROP TABLE", "LOCK TABLE", "TRUNCATE TABLE", "TRUNCATE")
"""A table follows these, and further tables may follow after commas."""
_TAKING = frozenset([*_LISTING, "JOIN", "INTO", "TABLE", "COPY"])
_ENDING = (
    *("WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"),
    *("UNION", "INTERSECT", "EXCEPT", "SELECT", "SET", "VALUES", "RETURNING"),
)
_CLAUSE = Expression(
    # Each alternative begins with another character, so that a mismatch is found at once.
    rf"({QUOTED}|\(|\)|,|DISTINCT FROM|EXTRACT\(|SUBSTRING\(|TRIM\(|OVERLAY\("
    r"|FOR UPDATE|KEY UPDATE|DO UPDATE|ON UPDATE|DROP TABLE|LOCK TABLE|TRUNCATE TABLE"
    rf"|INDEX (?:IF NOT EXISTS )?+(?:{IDENTIFIER} )?+ON|"
    + "|".join(rf"{word[0]}(?<!{_INSIDE}.){word[1:]}\b" for word in (*sorted(_TAKING), *_ENDING))
    + r")(?: (?:ONLY|LATERAL|IGNORE|IF NOT EXISTS|IF EXISTS))*+"
    rf"(?= ?(?:({IDENTIFIER}(?:\.{IDENTIFIER})*+|\?)(\()?+)?+)"
)
# Matches every name, with the ` AS (` of a CTE if that follows, so that no name is searched twice.
_CTE = Expression(rf"({IDENTIFIER})((?:\([^()]*+\))?+ AS (?:NOT )?+(?:MATERIALIZED )?+\()?+")


def tables_of(text: str) -> tuple[str, ...]:
    """Return the tables that a normalized statement names, without CTEs.

    `takes` means that the next name is a table, `lists` that a name after a comma is one too.
    """
    names: dict[str, None] = {}
    outer: list[tuple[bool, bool]] = []
    takes = lists = argument = False  # in an argument, as in EXTRACT(x FROM y), FROM names no table
    for clause, name, called in _CLAUSE.findall(text):
        if clause == ")":
            takes, (lists, argument) = False, outer.pop() if outer else (False, False)
        elif clause[-1] == "(":
            outer.append((lists, argument))
            lists, argument = takes, clause != "("
        elif clause == ",":
            takes = lists
        elif clause[0] != '"' and clause != "DISTINCT FROM":
            takes = not argument and (clause in _TAKING or clause.endswith(" ON"))
            lists = clause == "JOIN" or (takes and clause in _LISTING)
        if takes and name:
            takes = False
            if name not in KEYWORDS and name != "?" and not (called and clause in ("FROM", "JOIN", ",")):
                names[name] = None
    return _without_ctes(names, text)


def _without_ctes(names: dict[str, None], text: str) -> tuple[str, ...]:
    if names and "WITH " in text:
        for name, definition in _CTE.findall(text):
            if definition:
                names.pop(name, None)
    return tuple(name.replace('"', "") for name in names)


SQL_MAX_CHARACTERS = 16_384
"""A longer text is cut when it is stored; its fingerprint is that of the whole text."""

CACHED_MAX_BYTES = 4_096
"""Size in memory, where a character takes up to four bytes."""
CACHED_STATEMENTS = 2_048
"""Entries of a cache, which take 2 MB with usual statements and 16 MB with the longest."""


def is_short(text: str) -> bool:
    """Return True if a text is short enough to be cached."""
    return getsizeof(text) <= CACHED_MAX_BYTES


class ScannedStatement(NamedTuple):
    """A statement without its values, with what is derived from its text."""

    fingerprint: str
    """16 hex digits, BLAKE2b of the normalized text."""
    sql: str
    """The normalized text; every literal and every placeholder is a `?`."""
    operation: str
    """SELECT, INSERT, CREATE TABLE, ..., or UNKNOWN; for WITH, the main verb."""
    tables: tuple[str, ...]
    """In order of first appearance, qualified as written, without quotes."""


class StatementScanner:
    """Scan with a cache, for one thread."""

    def __init__(self) -> None:
        self._scan = lru_cache(maxsize=CACHED_STATEMENTS)(scan)

    def scan(self, sql: str, vendor: str) -> ScannedStatement:
        """Return the statement. sqlcommenter's comment is cut first, because it would defeat the cache."""
        if sql.endswith(("*/", "*/;")) and (start := sql.rfind("/*")) >= 0:
            before = sql[:start]
            if "'" not in before or _COMMENT.fullmatch(sql, start):
                sql = before
        return (self._scan if is_short(sql) else scan)(sql, vendor)


_COMMENT = Expression(r"/\*(?:[\w%.-]++='[^'*]*+'(?:,[\w%.-]++='[^'*]*+')*+|(?!!)[^'\"`\\*]*+)\*/;?")
"""A comment without quotes, or sqlcommenter's: no string that began before can end in it."""


def scan(sql: str, vendor: str) -> ScannedStatement:
    """Return the statement of any text; never raise."""
    text = normalized(sql, vendor)
    return (_described if is_short(text) else _description)(text)


def normalized(sql: str, vendor: str) -> str:
    """Return a statement, or a part of one, without values; it still contains names that are data."""
    mask = MASKS.get(vendor, MASK_OF_UNKNOWN)
    tokens = _TOKEN.findall(mask.hide(storable(sql)))
    if tokens and tokens[-1][0] in '"`' and not _PART.match(tokens[-1]):
        tokens = _TOKEN.findall(mask.closed(mask.hide(storable(sql))))
    spelled = _SPELLED[mask.quoted_may_be_value, mask.needs_semicolons]
    text = "".join(map(spelled.__getitem__, tokens)).strip(" ;")
    if _SEPARATOR in text:  # searching control characters first would cost more than everything else here
        return normalized(_CONTROL.sub(" ", sql), vendor)
    text = quoted.resolve(text) if "\0" in text else text
    if _BEGINS in text or (text.startswith("SET ") and not mask.needs_semicolons):
        text = separated(text)
    return _merge(_unquote_aliases(text) if ' "' in text else text)


_ALIAS = Expression(r'(?:FROM|JOIN) \S++ ("[T-Z][0-9]++")(?![."\w])')


def _unquote_aliases(text: str) -> str:
    """Write the aliases of Django 6.1 as its earlier releases did, so that an upgrade keeps fingerprints.

    Only aliases lose their quotes. A table or column of that name keeps them, as PostgreSQL would fold its
    case.
    """
    for alias in set(_ALIAS.findall(text)):
        text = text.replace(alias, alias[1:-1])
    return text


def _description(text: str) -> ScannedStatement:
    if (named := without_data(text)) != text:
        text = _merge(named)  # a list may end in what was a name
    operation = operation_of(text)
    if operation == UNKNOWN and text:
        text = "?"  # not SQL, so any word in it may be data
    elif ";" in text and not _BLOCK.match(text):
        first, *others = _BETWEEN_SEMICOLONS.findall(text)
        text = ";".join([first, *(" ?" if operation_of(other) == UNKNOWN else other for other in others)])
    # 8 bytes: among a million statements, two share a fingerprint with a chance of 1 in 37 million.
    fingerprint = blake2b(text.encode(), digest_size=8).hexdigest()
    shown = text if len(text) <= SQL_MAX_CHARACTERS else text[: SQL_MAX_CHARACTERS - 1] + "…"
    return ScannedStatement(fingerprint, shown, operation, tables_of(shown))


_BETWEEN_SEMICOLONS = Expression(r'(?:[^";]++|"[^"]*+(?:"|\Z))++')
_BLOCK = Expression(r"(?:BEGIN (?!TRAN|WORK\b)|CREATE |ALTER |DECLARE |IF |WHILE )[^\s;]", re.IGNORECASE)
"""Within these, a statement may begin with the name of a variable or procedure."""

# A second cache: texts that differed in literals or in the length of lists are the same by now.
_described = lru_cache(maxsize=CACHED_STATEMENTS)(_description)

# Signs, lists and rows: statements that differ in their number or length get one fingerprint.

_SIGNS = Expression(r"(?:[-+] )++(\??)")
_BEFORE_SIGN = frozenset(
    """
    ALL AND BETWEEN BY CASE DEFAULT DISTINCT ELSE FETCH FROM GLOB HAVING ILIKE IS LIKE LIMIT MATCH NOT OF
    OFFSET ON OR REGEXP RETURNING RLIKE SELECT SEPARATOR SET THEN TO TOP WHEN WHERE
    """.split()  # noqa: SIM905
)
"""After these and after operators, a sign belongs to the number; otherwise it is itself an operator."""


def _unsigned(match: re.Match[str]) -> str:
    start = match.start()
    before = match.string[max(0, start - 12) : start].rstrip()
    unary = (
        before[-1:] in "+-*/%([,<>=|&"
        or before.endswith("@?")
        or before.rpartition(" ")[2].lstrip("([") in _BEFORE_SIGN
    )
    return "?" if unary and match[1] else match[0]


_AFTER_VALUE = "(?:AND|AS|ELSE|END|FROM|GROUP|LIMIT|OFFSET|ON|OR|ORDER|RETURNING|THEN|UNION|WHEN|WHERE)"
_CAST = rf"(?:::{TYPE}(?:\[\])*+)*+"
_VALUE = rf"(?:\?|NULL|TRUE|FALSE){_CAST}"
_VALUES = rf"(?:{_VALUE}(?:, )?+)*+"
_SAME = rf'(?P<same>(?:[^(),?"]*+\?[^(),"]*+|\w++ ?\((?:[^()]++|\([^()]*+\))*+\){_CAST}))'
"""A literal with its type, or a call: CAST(? AS uuid)."""
_SAMES = rf"{_SAME}(?:, (?P=same)(?=[,)\]]|\Z))++(?:,[^,()]*+(?:\([^()]*+)?+\Z)?+"
_ARGUMENT = rf"(?:{_VALUE}|\w++{ROW}\))"
_ARM = r"(?:[^TWE]++|(?:(?<=\w)[TWE]|[TWE](?!HEN |LSE |ND\b)))*+"
"""Part of a CASE, up to its next keyword."""

_END = r"(?:[)\]]|,?[ %(:]*+\Z)"
_LIST = rf"{_VALUE}(?:, {_VALUE})*+{_END}|{_SAMES}"
_ROWS = rf"(?P<row>\({_VALUES}\))(?:, \({_VALUES}\))*+(?:\)|,?[ (]*+{_VALUES}[,% (:]*+\Z)"


def _in_list(match: re.Match[str]) -> str:
    row, same = match["row"], match["same"]
    return f"IN ({row.replace('NULL', '?')})" if row else f"IN ({same}" if same else "IN (?)"


def _array(match: re.Match[str]) -> str:
    return f"ARRAY[{match['same']}" if match["same"] else "ARRAY[?]"


# Replacements are functions: a text with a group reference costs a microsecond even if nothing matches.
_MERGES: tuple[tuple[str, Expression, str | Callable[[re.Match[str]], str]], ...] = (
    # A text that must occur, else the expression is not tried; the expression; its replacement. A list may
    # lack its end, because capture cuts long statements.
    (":", Expression(" ::"), "::"),
    # psycopg's %b and %(name)t. After an operand `a %b` is a division, and `LIKE %b` may begin a pattern.
    (
        "% ",
        Expression(rf"(?<!LIKE )% (?:\(\w++\) )?+([bt])(?=[,)]|::|\Z| (?:[<=>|+]|{_AFTER_VALUE}\b))"),
        _unsigned,
    ),
    ("-", _SIGNS, _unsigned),
    ("+", _SIGNS, _unsigned),
    ("IN (", Expression(rf"IN \((?:{_ROWS}|{_LIST})"), _in_list),
    ("[", Expression(rf"ARRAY\[(?:{_LIST})"), _array),
    ("), (", Expression(rf"(VALUES {ROW}\))(?:, {ROW}\))*+(?:,(?: {ROW})?+\Z)?+"), itemgetter(1)),
    ("), ROW(", Expression(rf"(VALUES ROW{ROW}\))(?:, ROW{ROW}\))++"), itemgetter(1)),
    ("INSERT ALL ", Expression(rf"( INTO {QUALIFIED}(?:{ROW}\))?+ VALUES {ROW}\))\1++"), itemgetter(1)),
    # bulk_create() on Oracle: the columns of the first row have names.
    (
        " col_0",
        Expression(rf"(?: UNION ALL SELECT {_ARGUMENT}(?:, {_ARGUMENT})*+(?: FROM DUAL)?+)++(?=\))"),  # noqa: S608
        "",
    ),
    # bulk_update(): one WHEN for each object; an object may have no value.
    (
        "CASE WHEN (",
        Expression(
            r"(?:(?<== CASE )|(?<== \(CASE )|(?<=CAST\(CASE ))"
            rf"(WHEN \((?:[^()=]++|=(?! \?\)))*+= \?\) THEN ){_VALUE}(?: \1{_VALUE}(?=[ )]))*+"
        ),
        lambda match: f"{match[1]}?",
    ),
    ("CASE WHEN ", Expression(rf"(WHEN {_ARM}THEN {_ARM})\1++"), itemgetter(1)),
)


def _merge(text: str) -> str:
    """Return the text with signs, lists and rows of any length replaced by one form."""
    for needle, expression, replacement in _MERGES:
        if needle in text:
            text = expression.sub(replacement, text)
    return text


# A token includes the punctuation after it, so a list of columns has one token per column.

_NAME = rf"(?:{WORD}|{QUOTED}|`[^`]*+(?:``[^`]*+)*+`)"
_TOKEN = Expression(
    rf"(?:{_NAME}(?:''|(?:\s*+\.\s*+(?:{_NAME}|\*))*+\s*+[(\[]?+)|''"
    r"|%s(?!\w)(?:,\s*+%s(?!\w))*+|%\(\w++\)s|%\(\w*+\)?+\Z"
    r"|\.?+[0-9](?:[\w.]|(?<=[eE])[+-](?=[0-9]))*+"
    rf"|::|[:@](?:{QUOTED}|`[^`]*+`)|:\w++|:=|@\w[\w$.]*+(?:::\w++)*+|\?(?:\|(?!\|)|&)|\?\w*+"
    r"|\$(?:[0-9]\w*+|\w++(?:::\w++)*+(?:\([^()\s]*+(?:\)|\Z))?+)"  # Tcl has such variables, so SQLite
    r'|<->|->>?+|(?:[<>=!~^&|*#/]|@@|@\?|@(?![\w"`])|%%|%(?!s(?!\w)|\())++|\(++|["`].*+|\S)[\s,)\];]*+',
    re.ASCII | re.DOTALL,
)
_PART = Expression(_NAME, re.ASCII)
_LITERAL = Expression(r"%s|%\(|\.?[0-9]|[:@][\w\"`]|\$\w|\?(?![|&])|[\"`]", re.ASCII)
_PERCENTS = Expression("%%++")
_CONTROL = Expression("[\0-\x08\x0e-\x1f\x7f]")
_SEPARATOR = "\x1f"
"""Replaces a control character between words."""
_BEGINS = "\x1e"
"""Precedes a word that may begin a statement."""
_FIRST_WORD = Expression(r"[\w$.]++")
_SIMPLE = Expression("[a-z_][a-z0-9_]*+")
_PREFIXED = Expression("(?:[benqx]|nq|_[a-z0-9]++)''", re.IGNORECASE)
"""A literal with a prefix for its type or character set, such as N'' or _utf8''."""
_STRING = "''"
_BEFORE_STRING = Expression(f"{QUOTED}{_STRING}")
_ALONE = Expression(rf"{QUOTED}[\s,)\];]*+|(?!{QUOTED}).*+", re.ASCII | re.DOTALL)
"""A word in double quotes, or the rest of the text after an unmatched double quote."""


class _Spelled(dict[str, str]):
    """A cache of how each token is spelled, with the space after it. An application has a few thousand."""

    TOKENS_MAX = 10_000
    TOKEN_MAX_CHARACTERS = 80

    def __init__(self, *, quoted_may_be_value: bool = False, needs_semicolons: bool = True) -> None:
        super().__init__()
        self._quoted_may_be_value = quoted_may_be_value
        self._needs_semicolons = needs_semicolons

    def __missing__(self, token: str) -> str:
        spelled = _spell(token)
        if self._quoted_may_be_value and token[0] == '"':
            if _ALONE.fullmatch(token):
                spelled = f"\0{spelled}"  # for sqllogs.sql.quoted
            elif _BEFORE_STRING.match(token):
                spelled = f"? {_spell(token[token.rindex(_STRING) :])}"  # strings side by side
        if (
            not self._needs_semicolons
            and token[0].isalpha()
            and _FIRST_WORD.match(token)[0].upper() in BEGINNINGS
        ):
            spelled = f"{_BEGINS}{spelled}"  # for `separated`
        if len(token) <= self.TOKEN_MAX_CHARACTERS:
            if len(self) >= self.TOKENS_MAX:
                self.clear()
            self[token] = spelled
        return spelled


_SPELLED = {
    (quoted, semicolons): _Spelled(quoted_may_be_value=quoted, needs_semicolons=semicolons)
    for quoted in (False, True)
    for semicolons in (False, True)
}
"""By the two properties of a vendor's grammar that matter here."""


def _spell(token: str) -> str:
    head = token.rstrip(" \t\n\r\f\v,)];")
    tail = "".join(token[len(head) :].split()).replace(",", ", ").rstrip()
    if _CONTROL.fullmatch(head):
        return _SEPARATOR
    if head == "''" or _PREFIXED.fullmatch(head):
        head = "?"
    elif _PART.match(head):
        head = f"{_spell_name(head[:-2])} ?" if head.endswith("''") else _spell_name(head)
    elif head.startswith("%s,"):
        head = "?, " * head.count(",") + "?"
    elif _LITERAL.match(head):
        head = "?"
    else:
        head = _PERCENTS.sub("%", head)  # doubled for the driver
    return head + tail if not tail and head.endswith(("(", "[", "::")) else f"{head}{tail} "


def _spell_name(head: str) -> str:
    opening = head[-1] if head[-1] in "([" else ""
    parts = _PART.findall(head)
    if len(parts) > 1 or head[-1] == "*":
        return ".".join([_unquoted(part, KEYWORDS) for part in parts] + ["*"] * (head[-1] == "*")) + opening
    name, upper = parts[0], parts[0].upper()
    if upper in KEYWORDS:
        return f"{upper} {opening}" if opening else upper
    if opening and upper in FUNCTIONS:
        return f"{upper}{opening}"
    return _unquoted(name, KEYWORDS | FUNCTIONS if opening else KEYWORDS) + opening


def _unquoted(name: str, keywords: frozenset[str]) -> str:
    """Return a name without quotes if it needs none, otherwise in double quotes."""
    if name[0] not in '"`':
        return name
    inner = name[1:-1].replace(name[0] * 2, name[0])
    if _SIMPLE.fullmatch(inner) and inner.upper() not in keywords:
        return inner
    return '"' + inner.replace('"', '""') + '"'


class StatementInfo(NamedTuple):
    """What all records of a statement have in common."""

    fingerprint: str
    sql: str
    operation: str
    tables: str
    """Separated by commas, as stored."""
