"""Make one text of what differs in data only: signs, lists, rows, made-up names, names that are values.

Used by `sqllogs.sql.normalize` in the writer's thread, on normalized text. Every expression is linear: what
may repeat is possessive, and none starts again within what it has just gone through in vain.
"""

import re
from collections.abc import Callable
from operator import itemgetter

from sqllogs.sql.grammar import Expression

KEYWORDS = frozenset(
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
FUNCTIONS = frozenset(
    """
    ABS ARRAY ARRAY_AGG AVG BOOL_AND BOOL_OR CAST CEIL COALESCE CONCAT COUNT DENSE_RANK EXTRACT
    FIRST_VALUE FLOOR GREATEST GROUP_CONCAT IFNULL JSONB_AGG JSON_AGG JSON_EXTRACT LAG LAST_VALUE LEAD
    LEAST LENGTH LOWER LTRIM MAX MIN NOW NTILE NULLIF OVERLAY POSITION RANK REPLACE ROUND ROW_NUMBER RTRIM
    STRING_AGG SUBSTR SUBSTRING SUM TRIM UNNEST UPPER
    """.split()  # noqa: SIM905
)
"""The same, but before a parenthesis only: they are common as names of columns."""

_LETTER = r"[A-Za-z_\x80-\U0010ffff]"
WORD = rf"{_LETTER}[\w$\x80-\U0010ffff]*+"
QUOTED = r'"[^"]*+(?:""[^"]*+)*+"'
IDENTIFIER = rf"(?:{WORD}|{QUOTED})"
_QUALIFIED = rf"{IDENTIFIER}(?:\.{IDENTIFIER})*+"

# Signs, lists, rows.

_SIGNS = Expression(r"(?:[-+] )++(\??)")
_BEFORE_SIGN = frozenset(
    """
    ALL AND BETWEEN BY CASE DEFAULT DISTINCT ELSE FETCH FROM GLOB HAVING ILIKE IS LIKE LIMIT MATCH NOT OF
    OFFSET ON OR REGEXP RETURNING RLIKE SELECT SEPARATOR SET THEN TO TOP WHEN WHERE
    """.split()  # noqa: SIM905
)
"""After one of these a sign belongs to the number, as it does after an operator; else it is one itself."""


def _unsigned(match: re.Match[str]) -> str:
    start = match.start()
    before = match.string[max(0, start - 12) : start].rstrip()
    unary = (
        before[-1:] in "*/%([,<>=|&"
        or before.endswith("@?")
        or before.rpartition(" ")[2].lstrip("([") in _BEFORE_SIGN
    )
    return "?" if unary and match[1] else match[0]


_TYPE = (
    r"(?:\w++|\"[^\"]++\")(?:\.\w++)?+(?:(?i: varying| precision| with(?:out)? time zone))?+(?:\([?, ]++\))?+"
)
_CAST = rf"(?:::{_TYPE}(?:\[\])*+)*+"
_VALUE = rf"(?:\?|NULL|TRUE|FALSE){_CAST}"
_VALUES = rf"(?:{_VALUE}(?:, )?+)*+"
_ROW = r'\((?:[^()"]++|"[^"]*+"|\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\))*+'
_SAME = rf'(?P<same>(?:[^(),?"]*+\?[^(),"]*+|\w++ ?\((?:[^()]++|\([^()]*+\))*+\){_CAST}))'
"""A literal with its type, or a call: CAST(? AS uuid)."""
_SAMES = rf"{_SAME}(?:, (?P=same)(?=[,)\]]|\Z))++(?:,[^,()]*+(?:\([^()]*+)?+\Z)?+"
_ARM = r"(?:[^TWE]++|(?:(?<=\w)[TWE]|[TWE](?!HEN |LSE |ND\b)))*+"
"""Of a CASE, up to its next keyword."""

_END = r"(?:[)\]]|,?[ %(:]*+\Z)"
_LIST = rf"{_VALUE}(?:, {_VALUE})*+{_END}|{_SAMES}"
_ROWS = rf"(?P<row>\({_VALUES}\))(?:, \({_VALUES}\))*+(?:\)|,?[ (]*+{_VALUES}[,% (:]*+\Z)"


def _in_list(match: re.Match[str]) -> str:
    row, same = match["row"], match["same"]
    return f"IN ({row})" if row else f"IN ({same}" if same else "IN (?)"


def _array(match: re.Match[str]) -> str:
    return f"ARRAY[{match['same']}" if match["same"] else "ARRAY[?]"


# Functions: a replacement with a reference to a group costs a microsecond though nothing is found.
_MERGES: tuple[tuple[str, Expression, str | Callable[[re.Match[str]], str]], ...] = (
    # What the text has if the expression is worth a try, the expression, what becomes of it.
    # A list may be without its end: capture cuts long statements.
    (":", Expression(" ::"), "::"),
    ("-", _SIGNS, _unsigned),
    ("+", _SIGNS, _unsigned),
    ("IN (", Expression(rf"IN \((?:{_ROWS}|{_LIST})"), _in_list),
    ("[", Expression(rf"ARRAY\[(?:{_LIST})"), _array),
    ("), (", Expression(rf"(VALUES {_ROW}\))(?:, {_ROW}\))*+(?:,(?: {_ROW})?+\Z)?+"), itemgetter(1)),
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

# Names that are made up, or are data.

_ANYTHING = r"[\s\S]++"


def _rest(start: str) -> tuple[Expression, str]:
    """Hide all after a beginning."""
    return Expression(rf"\A({start})(?!\*\Z){_ANYTHING}", re.IGNORECASE), r"\1?"


_MADE_UP = (
    Expression(
        r"\A((?:SAVEPOINT|RELEASE(?: SAVEPOINT)?+|ROLLBACK(?: WORK| TRANSACTION)?+ TO(?: SAVEPOINT)?+"
        r"|DECLARE|CLOSE|DEALLOCATE(?: PREPARE)?+|DROP PREPARE|OPEN(?= \S++\Z)"
        r"|(?P<fetch>FETCH|MOVE)"
        r"(?: (?:[-?]|ABSOLUTE|ALL|BACKWARD|FIRST|FORWARD|LAST|NEXT|PRIOR|RELATIVE)(?= ))*+"
        rf"(?: FROM| IN)?+) )(?!(?:ALL|INTO)\b){IDENTIFIER}(?![(\[.])"
        # Nothing but variables follows the name of a cursor.
        r"(?(fetch)(?: (?!INTO\b)[\s\S]++)?+)",
        re.IGNORECASE,
    ),
    r"\1?",
)
_SCOPE = r"SET (?:(?:SESSION|LOCAL|GLOBAL|PERSIST) )?+"
_KEPT = Expression(
    rf"\A(?:{_SCOPE}(?:CHARACTERISTICS AS )?+TRANSACTION(?: (?:ISOLATION|LEVEL|READ|WRITE|ONLY|COMMITTED"
    r"|UNCOMMITTED|REPEATABLE|SERIALIZABLE|SNAPSHOT|NOT|DEFERRABLE),?+)*+\Z|SET CONSTRAINTS "
    rf"|SET (?!TIME\b|ROLE\b|NAMES\b|SCHEMA\b){_QUALIFIED}(?: (?!ON\b|OFF\b){_QUALIFIED})?+ (?:ON|OFF)\Z)",
    re.IGNORECASE,
)
_TO_VALUE = Expression(
    rf"\A({_SCOPE}(?:(?:@@ ?)?+(?:{_QUALIFIED}|\?) (?::?=|TO)|ROLE"
    rf"|(?:SESSION )?+AUTHORIZATION|TIME ZONE|NAMES|SCHEMA|CHARACTER SET|CHARSET) ){_ANYTHING}",
    re.IGNORECASE,
)


def _set(text: str) -> str:
    if _KEPT.match(text):
        return text
    match = _TO_VALUE.match(text)
    if match is None:
        return "SET ?"
    return f"{match[1] if match[1].endswith(('= ', 'TO ')) else match[1].upper()}?"


_PRAGMA = Expression(
    rf"\APRAGMA (?:{IDENTIFIER}\.)?+({IDENTIFIER})(?:( = |\()([^)]*+)\)?+)?+\Z", re.IGNORECASE
)
_SWITCHES = frozenset(
    """
    DELETE EXCLUSIVE EXTRA FALSE FULL INCREMENTAL MEMORY NO NONE NORMAL OFF ON PASSIVE PERSIST RESTART TRUE
    TRUNCATE WAL YES
    """.split()  # noqa: SIM905
)
_OF_NAMES = frozenset(
    """
    foreign_key_check foreign_key_list index_info index_list index_xinfo integrity_check quick_check
    table_info table_list table_xinfo
    """.split()  # noqa: SIM905
)
"""Pragmas whose argument is a table or an index."""


def _pragma(text: str) -> str:
    match = _PRAGMA.match(text)
    if match is None:
        return "PRAGMA ?"
    name, opening, value = match.groups()
    if not opening or name.lower() in _OF_NAMES or value.strip().upper() in _SWITCHES:
        return text
    return f"{text[: match.start(3)]}?{')' if opening == '(' else ''}"


_ACCOUNTS = r"(?:ROLE|USER|LOGIN|GROUP|SERVER)"
_SECRET = Expression(
    rf"(\bIDENTIFIED (?:BY|WITH) |\A(?:CREATE|ALTER) (?:OR REPLACE )?+{_ACCOUNTS} [\s\S]*?\bPASSWORD )"
    rf"{_ANYTHING}",
    re.IGNORECASE,
)
_PARAMETER = Expression(
    r"(\A(?:CREATE|ALTER) (?:OR REPLACE )?+(?:DATABASE|FUNCTION|PROCEDURE|ROLE|ROUTINE"
    rf"|SESSION|SYSTEM|USER)\b[\s\S]*?\bSET {_QUALIFIED} (?:=|TO) ){_ANYTHING}",
    re.IGNORECASE,
)
_MODULE = Expression(
    rf"(\ACREATE VIRTUAL TABLE (?:IF NOT EXISTS )?+{_QUALIFIED} USING {IDENTIFIER} ?\(){_ANYTHING}",
    re.IGNORECASE,
)
_ANYWHERE: tuple[tuple[str, Expression], ...] = (
    # What the text has in upper case if the expression is worth a try; the expression, after it a `?`.
    (
        "TEMP",
        Expression(
            r"(\b(?:TEMP(?:ORARY)?+ (?:TABLE|VIEW|SEQUENCE|TRIGGER) |INTO TEMP(?:ORARY)?+ (?:TABLE )?+)"
            rf"(?:IF (?:NOT )?+EXISTS )?+){_QUALIFIED}(?:, {_QUALIFIED})*+",
            re.IGNORECASE,
        ),
    ),
    (
        "TEMP",
        Expression(
            r"((?:(?<![\w$.\"])pg_temp|\b(?:FROM|JOIN|INTO|UPDATE|ONLY|TRUNCATE"
            rf"|(?:TABLE|VIEW)(?: IF (?:NOT )?+EXISTS)?+) \"?+temp\"?+)\.){IDENTIFIER}",
            re.IGNORECASE,
        ),
    ),
    # Of a prepared statement, or the arguments of a procedure.
    (" AS EXECUTE ", Expression(rf"( AS EXECUTE ){_ANYTHING}", re.IGNORECASE)),
    (
        " EXEC",
        Expression(
            rf"( EXEC(?:UTE)?+ (?:\? = )?+(?!(?:FUNCTION|IMMEDIATE|PROCEDURE|{'|'.join(sorted(KEYWORDS))})\b)"
            rf"{_QUALIFIED} ){_ANYTHING}",
            re.IGNORECASE,
        ),
    ),
    # The arguments of a trigger's function are texts without quotes.
    (
        " EXECUTE ",
        Expression(rf"( EXECUTE (?:FUNCTION|PROCEDURE) {_QUALIFIED} ?\()(?!\)){_ANYTHING}", re.IGNORECASE),
    ),
    ("CURRENT OF ", Expression(rf"(\bCURRENT OF ){IDENTIFIER}", re.IGNORECASE)),
    (" NOTIFY ", Expression(rf"( DO (?:ALSO |INSTEAD )?+NOTIFY ){_ANYTHING}", re.IGNORECASE)),
)


def _definition(text: str) -> str:
    for expression in (_SECRET, _PARAMETER, _MODULE):
        text = expression.sub(r"\1?", text)
    return text


def _by(expression: Expression, replacement: str) -> Callable[[str], str]:
    return lambda text: str(expression.sub(replacement, text))


_VERBS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(
        "SAVEPOINT RELEASE ROLLBACK DECLARE OPEN CLOSE FETCH MOVE DEALLOCATE DROP".split(),  # noqa: SIM905
        _by(*_MADE_UP),
    ),
    **{verb: _by(*_rest(rf"{verb} ")) for verb in ("LISTEN", "UNLISTEN", "NOTIFY", "EXECUTE", "ATTACH")},
    "PREPARE": _by(Expression(rf"(PREPARE )(?!TRANSACTION\b){IDENTIFIER} ?", re.IGNORECASE), r"\1? "),
    "EXEC": _by(*_rest(rf"EXEC (?:\? = )?+(?:{_QUALIFIED}(?: |\Z))?+")),
    "EXPLAIN": _by(*_rest(rf"EXPLAIN (?:{_ROW}\) |ANALYZE |VERBOSE )*+(?:EXECUTE|DECLARE) ")),
    "CHANGE": _by(*_rest(r"CHANGE (?:MASTER|REPLICATION SOURCE|REPLICATION FILTER)(?: TO(?= ))?+ ")),
    "VACUUM": _by(*_rest(r"VACUUM (?:\w++ )?+INTO ")),
    "SET": _set,
    "PRAGMA": _pragma,
    **dict.fromkeys(["CREATE", "ALTER", "GRANT"], _definition),
}
"""By the first word of a statement."""
_QUERIES = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ")


def merge(text: str) -> str:
    """Return the text in which signs, lists and rows of any length are the same."""
    for needle, expression, replacement in _MERGES:
        if needle in text:
            text = expression.sub(replacement, text)
    return text


def without_data(text: str) -> str:
    """Return the text without names that are made up, or are data."""
    upper = text.upper()
    for needle, expression in _ANYWHERE:
        if needle in upper:
            text = expression.sub(r"\1?", text)
    if ";" in text:
        return "; ".join(map(_without_data, text.split("; ")))
    return _without_data(text)


def _without_data(text: str) -> str:
    if text.startswith(_QUERIES):
        return text
    verb = text.partition(" ")[0].upper()
    hide = _VERBS.get(verb)
    return text if hide is None else verb + hide(text)[len(verb) :]
