r"""Bring a statement into one form: redacted, normalised, with fingerprint, operation and tables.

Fed by `sqllogs.pipeline.resolver` in the writer's thread; `text_of` also by
`sqllogs.capture.wrapper` in the caller's.
Every expression is linear: quantifiers are possessive, one look ahead tells alternatives apart, and
none starts anew within what it has just gone through in vain.

The text stored is the text hashed: what reads alike is one statement. Merged on purpose are literals,
their signs, placeholders of every style; lists after IN and in ARRAY[]; the rows of VALUES after the
first; names of savepoints and cursors; comments, and hints in them; case of keywords and of common
functions; white space; quotes round names that need none; semicolons at the end.

Not known to it: names in double quotes on MySQL (taken for strings) and strings in double quotes on
SQLite (taken for names), both of which ask for a special mode; Oracle's q'[...]'.
"""

import re
from functools import lru_cache, partial
from hashlib import blake2b
from typing import NamedTuple

SQL_MAX_CHARACTERS = 16_384
"""A longer text is stored cut, with an ellipsis at its end; only its fingerprint is that of the whole."""

CACHED_MAX_CHARACTERS = 4_096
CACHED_STATEMENTS = 2_048
"""Entries of a cache: 2 MB with usual statements, 16 MB with the longest."""


class ScannedStatement(NamedTuple):
    """What is known of a statement without its parameters."""

    fingerprint: str
    """16 hex digits, BLAKE2b of the normalised text."""
    sql: str
    """The normalised text; every literal and every placeholder is a `?`."""
    operation: str
    """SELECT, INSERT, CREATE TABLE, ..., UNKNOWN; of a WITH its main verb."""
    tables: tuple[str, ...]
    """In order of first appearance, qualified as written, without quotes."""


class StatementScanner:
    """Scan with a cache, for one thread."""

    def __init__(self) -> None:
        self._scan = lru_cache(maxsize=CACHED_STATEMENTS)(scan)

    def scan(self, sql: str, vendor: str) -> ScannedStatement:
        """Return the statement; sqlcommenter's comment at the end would defeat the cache, it is cut first."""
        if sql.endswith(("*/", "*/;")) and (start := sql.rfind("/*")) >= 0:
            sql = sql[:start]
        return (self._scan if len(sql) <= CACHED_MAX_CHARACTERS else scan)(sql, vendor)


def text_of(sql: object, driver_connection: object = None) -> str:
    """Return a statement as text that databases and JSON take: no NUL, no lone surrogate. Never raise."""
    text = sql if isinstance(sql, str) else _decoded(sql, driver_connection)
    if text.isascii() and "\0" not in text:
        return str(text)
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _decoded(sql: object, driver_connection: object) -> str:
    try:
        if isinstance(sql, (bytes, bytearray, memoryview)):
            return str(sql, "utf-8", "replace")
        # psycopg's Composables; those of psycopg 2 want a connection, with which they send nothing.
        return str(sql.as_string(driver_connection)) if hasattr(sql, "as_string") else str(sql)
    except Exception:
        return type(sql).__qualname__  # not its repr, which tells the literals


def scan(sql: str, vendor: str) -> ScannedStatement:
    """Return the statement of any text; never raise."""
    sql = text_of(sql)
    if vendor == "mysql":
        sql = _MASKED_MYSQL.sub(_mask_mysql, sql)
    elif "'" in sql or "-" in sql or "/" in sql or "$" in sql:
        sql = _MASKED.sub(_mask, sql)
    text = _merged("".join(map(_spelled.__getitem__, _TOKEN.findall(sql))).strip(" ;"))
    return (_described if len(text) <= CACHED_MAX_CHARACTERS else _description)(text)


def _description(text: str) -> ScannedStatement:
    fingerprint = blake2b(text.encode(), digest_size=8).hexdigest()
    shown = text if len(text) <= SQL_MAX_CHARACTERS else text[: SQL_MAX_CHARACTERS - 1] + "…"
    return ScannedStatement(fingerprint, shown, _operation(shown), _tables(shown))


# Texts that differ in literals or in the length of lists are here the same again.
_described = lru_cache(maxsize=CACHED_STATEMENTS)(_description)

# Strings and comments: all that differs between vendors. A string becomes '', a comment a space.
# Each alternative begins with a character of its own: the search then skips all others at once.

# A letter is any character above ASCII too. Named by what is none: `re` takes milliseconds to compile a
# range of a million characters, at the start of every process.
_LETTER = r"[^\0-@\[-^`{-\x7f]"
_IN_NAME = r"[^\0-#%-/:-@\[-^`{-\x7f]"
"""A letter, a digit or a dollar sign."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _nested_comment(depth: int) -> str:
    """Return a pattern for comments within comments; one that is deeper takes all the rest."""
    inner = _nested_comment(depth - 1) if depth else r"/\*.*+"
    return rf"/\*(?:[^*/]++|\*(?!/)|/(?!\*)|{inner})*+(?:\*/)?+"


_MASKED = re.compile(
    r""""[^"]*+"(?:[^"'`$/-]*+"[^"]*+")*+|`[^`]*+`"""  # names, in runs
    rf"|'(?<=[eE]')(?<!{_IN_NAME}.')(?:[^'\\]++|\\.?+|'')*+'?+|'[^']*+(?:''[^']*+)*+'?+"
    rf"|\$(?<!{_IN_NAME}\$)(?P<tag>(?:[^\W\d]\w*+)?+\$).*?(?:\$(?P=tag)|\Z)"
    rf"|--[^\n]*+|{_nested_comment(8)}",
    re.DOTALL,
)
_MASKED_MYSQL = re.compile(
    r"""`[^`]*+`(?:[^"'`#/-]*+`[^`]*+`)*+"""
    r"""|'(?:[^'\\]++|\\.?+|'')*+'?+|"(?:[^"\\]++|\\.?+|"")*+"?+"""
    r"|--(?=\s|\Z)[^\n]*+|\#[^\n]*+|/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/)?+",
    re.DOTALL,
)


def _masked(names: str, match: re.Match[str]) -> str:
    text = match[0]
    return text if text[0] in names else " " if text[0] in "-/#" else "''"


_mask, _mask_mysql = partial(_masked, '"`'), partial(_masked, "`")

# Tokens, each with the punctuation after it, so that a column list has one for each column.

_KEYWORDS = frozenset(
    """
    ALL ALTER ANALYZE AND ANY AS ASC BEGIN BETWEEN BY CASE CLOSE COLLATE COMMIT CONFLICT CONSTRAINT COPY
    CREATE CROSS CURSOR DECLARE DEFAULT DELETE DESC DISTINCT DO DROP DUPLICATE ELSE END ESCAPE EXCEPT
    EXISTS EXPLAIN FALSE FETCH FILTER FOR FOREIGN FROM FULL GLOB GROUP HAVING IF IGNORE ILIKE IN INDEX
    INNER INSERT INTERSECT INTERVAL INTO IS ISNULL JOIN KEY LATERAL LEFT LIKE LIMIT LOCKED MATERIALIZED
    MERGE NATURAL NOT NOTHING NOTNULL NOWAIT NULL NULLS OF OFFSET ON ONLY OR ORDER OUTER OVER PARTITION
    PRAGMA PRECEDING PRIMARY RECURSIVE REFERENCES REGEXP RELEASE RETURNING RIGHT RLIKE ROLLBACK ROWS
    SAVEPOINT SELECT SET SIMILAR SOME STDIN STDOUT TABLE TEMP TEMPORARY THEN TO TRANSACTION TRUE TRUNCATE
    UNBOUNDED UNION UNIQUE UPDATE USER USING VALUES WHEN WHERE WINDOW WITH XOR
    """.split()  # noqa: SIM905
)
"""Upper-cased; as a name kept in quotes."""
_FUNCTIONS = frozenset(
    """
    ABS ARRAY ARRAY_AGG AVG BOOL_AND BOOL_OR CAST CEIL COALESCE CONCAT COUNT DENSE_RANK EXTRACT
    FIRST_VALUE FLOOR GREATEST GROUP_CONCAT IFNULL JSONB_AGG JSON_AGG JSON_EXTRACT LAG LAST_VALUE LEAD
    LEAST LENGTH LOWER LTRIM MAX MIN NOW NTILE NULLIF OVERLAY POSITION RANK REPLACE ROUND ROW_NUMBER RTRIM
    STRING_AGG SUBSTR SUBSTRING SUM TRIM UNNEST UPPER
    """.split()  # noqa: SIM905
)
"""The same, but before a parenthesis only: they are common as names of columns."""

_WORD = rf"{_LETTER}{_IN_NAME}*+"
_QUOTED = r'"[^"]*+(?:""[^"]*+)*+"'
_NAME = rf"(?:{_WORD}|{_QUOTED}|`[^`]*+(?:``[^`]*+)*+`)"
_TOKEN = re.compile(
    rf"(?:''|[bnxeBNXE]''|[uU]&''|{_NAME}(?:\s*+\.\s*+(?:{_NAME}|\*))*+\s*+[(\[]?+"
    r"|%s(?!\w)(?:,\s*+%s(?!\w))*+|%\(\w++\)s|%\(\w*+\)?+\Z"
    r"|\.?+[0-9](?:[\w.]|(?<=[eE])[+-](?=[0-9]))*+"
    r"|::|:\w++|:=|@\w++|\$\w++|\?(?:\|(?!\|)|&)|\?[0-9]*+"
    r'|<->|->>?+|%%[<>]*+|(?:[<>=!~^&|*#/]|@@|@(?!\w))++|\(++|["`].*+|\S)[\s,)\];]*+',
    re.ASCII | re.DOTALL,
)
_PART = re.compile(_NAME, re.ASCII)
_LITERAL = re.compile(r"%s|%\(|\.?[0-9]|:\w|@\w|\$\w|\?(?![|&])|[\"`]", re.ASCII)
_SIMPLE = re.compile("[a-z_][a-z0-9_]*+")


class _Spelled(dict[str, str]):
    """How each token is written, with the space after it: an application has some thousand tokens."""

    TOKENS_MAX = 10_000
    TOKEN_MAX_CHARACTERS = 80

    def __missing__(self, token: str) -> str:
        spelled = _spell(token)
        if len(token) <= self.TOKEN_MAX_CHARACTERS:
            if len(self) >= self.TOKENS_MAX:
                self.clear()
            self[token] = spelled
        return spelled


_spelled = _Spelled()


def _spell(token: str) -> str:
    head = token.rstrip(" \t\n\r\f\v,)];")
    tail = "".join(token[len(head) :].split()).replace(",", ", ").rstrip()
    if head.endswith("''"):
        head = "?"
    elif _PART.match(head):
        head = _spell_name(head)
    elif head.startswith("%s,"):
        head = "?, " * head.count(",") + "?"
    elif _LITERAL.match(head):
        head = "?"
    return head + tail if not tail and head.endswith(("(", "[", "::")) else f"{head}{tail} "


def _spell_name(head: str) -> str:
    opening = head[-1] if head[-1] in "([" else ""
    parts = _PART.findall(head)
    if len(parts) > 1 or head[-1] == "*":
        return ".".join([_unquoted(part, _KEYWORDS) for part in parts] + ["*"] * (head[-1] == "*")) + opening
    name, upper = parts[0], parts[0].upper()
    if upper in _KEYWORDS:
        return f"{upper} {opening}" if opening else upper
    if opening and upper in _FUNCTIONS:
        return f"{upper}{opening}"
    return _unquoted(name, _KEYWORDS | _FUNCTIONS if opening else _KEYWORDS) + opening


def _unquoted(name: str, keywords: frozenset[str]) -> str:
    """Return a name without quotes if it needs none, else in double quotes."""
    if name[0] not in '"`':
        return name
    inner = name[1:-1].replace(name[0] * 2, name[0])
    if _SIMPLE.fullmatch(inner) and inner.upper() not in keywords:
        return inner
    return '"' + inner.replace('"', '""') + '"'


# What becomes one: signs, lists, rows, made-up names. From here on all is done on normalised text.

_SIGNS = re.compile(r"(?:[-+] )++(\??)")
_BEFORE_SIGN = frozenset(
    """
    SELECT DISTINCT ALL WHERE HAVING ON AND OR NOT BETWEEN WHEN THEN ELSE CASE LIMIT OFFSET BY SET TO DEFAULT
    RETURNING LIKE FETCH
    """.split()  # noqa: SIM905
)
"""After one of these a sign belongs to the number, as it does after an operator; else it is one itself."""


def _unsigned(match: re.Match[str]) -> str:
    start = match.start()
    before = match.string[max(0, start - 12) : start].rstrip()
    unary = before[-1:] in "*/%([,<>=|&" or before.rpartition(" ")[2].lstrip("([") in _BEFORE_SIGN
    return "?" if unary and match[1] else match[0]


_VALUE = r"(?:\?|NULL|TRUE|FALSE)(?:::\w++(?:\[\])?+)?+"
_VALUES = rf"(?:{_VALUE}(?:, )?+)*+"
_ROW = r'\((?:[^()"]++|"[^"]*+"|\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\))*+'
_MERGES = (
    # What the text has if the expression is worth a try, the expression, what becomes of it.
    # A list may be without its end: capture cuts long statements.
    (":", re.compile(" ::"), "::"),
    ("-", _SIGNS, _unsigned),
    ("+", _SIGNS, _unsigned),
    ("IN (", re.compile(rf"IN \({_VALUE}(?:, {_VALUE})*+(?:\)|,?[ %(:]*+\Z)"), "IN (?)"),
    (
        "IN ((",
        re.compile(rf"(IN \(\({_VALUES}\))(?:, \({_VALUES}\))*+(?:\)|,?[ (]*+{_VALUES}[,% (:]*+\Z)"),
        r"\1)",
    ),
    ("[", re.compile(rf"ARRAY\[{_VALUE}(?:, {_VALUE})*+(?:\]|,?[ %(:]*+\Z)"), "ARRAY[?]"),
    ("), (", re.compile(rf"(VALUES {_ROW}\))(?:, {_ROW}\))*+(?:,(?: {_ROW})?+\Z)?+"), r"\1"),
)
_IDENTIFIER = rf"(?:{_WORD}|{_QUOTED})"
_MADE_UP = ("SAVEPOINT ", "RELEASE ", "ROLLBACK ", "DECLARE ", "CLOSE ", "FETCH ", "MOVE ")
_MADE_UP_NAME = re.compile(
    r"((?:SAVEPOINT|RELEASE(?: SAVEPOINT)?+|ROLLBACK(?: WORK| TRANSACTION)?+ TO(?: SAVEPOINT)?+|DECLARE|CLOSE"
    rf"|(?:FETCH|MOVE)(?: (?!FROM |IN )[\w?]++)*+ (?:FROM|IN)) )(?!ALL\b){_IDENTIFIER}(?![(\[.])"
)


def _merged(text: str) -> str:
    for needle, pattern, replacement in _MERGES:
        if needle in text:
            text = pattern.sub(replacement, text)
    if text.startswith(_MADE_UP) and (match := _MADE_UP_NAME.match(text)):
        text = f"{match[1]}?{text[match.end() :]}"
    return text


# What the statement does, and to which tables.

_INSIDE = r"[^\0-#%-\-/:-@\[-^`{-\x7f]"
"""Before a keyword, this makes it a part of a name."""

_PLAIN_VERBS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE"])
_VERB = re.compile(
    r"(?P<ddl>CREATE|ALTER|DROP)(?: (?:OR|REPLACE|UNIQUE|TEMP|TEMPORARY|UNLOGGED|GLOBAL|LOCAL|RECURSIVE))*+"
    r"(?P<kind>(?: MATERIALIZED)?+ \w++)|(?P<to>ROLLBACK(?: WORK| TRANSACTION)?+ TO\b)"
    r"|(?P<word>[A-Z]\w{0,31})",
    re.IGNORECASE | re.ASCII,
)
_MAIN_VERB = re.compile(
    rf"{_QUOTED}|([()])|(?<!{_INSIDE})(SELECT|INSERT|UPDATE|DELETE|MERGE|REPLACE|VALUES)\b"
)
_RENAMED = {"RELEASE": "RELEASE SAVEPOINT", "START": "BEGIN"}


def _operation(text: str) -> str:
    text = text.lstrip("( ")
    verb = text.split(" ", 1)[0]
    if verb in _PLAIN_VERBS:
        return verb
    if verb == "WITH":
        return _main_verb(text)
    match = _VERB.match(text)
    if match is None:
        return "UNKNOWN"
    if match["ddl"]:
        return f"{match['ddl']}{match['kind']}".upper()
    word = "ROLLBACK TO SAVEPOINT" if match["to"] else match["word"].upper()
    return _RENAMED.get(word, word)


def _main_verb(text: str) -> str:
    depth = 0
    for bracket, verb in _MAIN_VERB.findall(text):
        if verb and depth == 0:
            return str(verb)
        depth += (bracket == "(") - (bracket == ")")
    return "WITH"


_LISTING = ("FROM", "UPDATE", "DROP TABLE", "LOCK TABLE", "TRUNCATE TABLE", "TRUNCATE")
"""A table follows these, and each comma after it."""
_TAKING = frozenset([*_LISTING, "JOIN", "INTO", "TABLE", "COPY"])
_ENDING = (
    *("WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"),
    *("UNION", "INTERSECT", "EXCEPT", "SELECT", "SET", "VALUES", "RETURNING"),
)
_CLAUSE = re.compile(
    # Here too each alternative begins with its own character.
    rf"({_QUOTED}|\(|\)|,|DISTINCT FROM|EXTRACT\(|SUBSTRING\(|TRIM\(|OVERLAY\("
    r"|FOR UPDATE|KEY UPDATE|DO UPDATE|ON UPDATE|DROP TABLE|LOCK TABLE|TRUNCATE TABLE"
    rf"|INDEX (?:IF NOT EXISTS )?+(?:{_IDENTIFIER} )?+ON|"
    + "|".join(rf"{word[0]}(?<!{_INSIDE}.){word[1:]}\b" for word in (*sorted(_TAKING), *_ENDING))
    + r")(?: (?:ONLY|LATERAL|IGNORE|IF NOT EXISTS|IF EXISTS))*+"
    rf"(?= ?(?:({_IDENTIFIER}(?:\.{_IDENTIFIER})*+)(\()?+)?+)"
)
# Every name is taken, with what makes it a CTE if that follows: so none is gone through twice.
_CTE = re.compile(rf"({_IDENTIFIER})((?:\([^()]*+\))?+ AS (?:NOT )?+(?:MATERIALIZED )?+\()?+")


def _tables(text: str) -> tuple[str, ...]:
    """Walk the clauses. `takes`: the next name is a table's; `lists`: so is one after a comma."""
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
            if name not in _KEYWORDS and not (called and clause in ("FROM", "JOIN", ",")):
                names[name] = None
    return _without_ctes(names, text)


def _without_ctes(names: dict[str, None], text: str) -> tuple[str, ...]:
    if names and "WITH " in text:
        for name, definition in _CTE.findall(text):
            if definition:
                names.pop(name, None)
    return tuple(name.replace('"', "") for name in names)


class StatementInfo(NamedTuple):
    """What all records of a statement have in common."""

    fingerprint: str
    sql: str
    operation: str
    tables: str
