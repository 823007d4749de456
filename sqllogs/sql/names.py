"""Hide names that are data: generated ones, such as savepoints, and values that look like names.

Called by `sqllogs.sql.normalize` in the writer's thread, with normalized text. A name that differs in each
call would give each call its own fingerprint, and a password without quotes looks like a name. Every
expression takes linear time: quantifiers are possessive, and no search starts again within text that it has
already tried.
"""

import re
from collections.abc import Callable

from sqllogs.sql import Expression
from sqllogs.sql.grammar import IDENTIFIER, KEYWORDS, KINDS, QUALIFIED, QUOTED, ROW, TYPE, WORD

_ANYTHING = r"[\s\S]++"
_NO_KEYWORD = rf"(?!(?:{'|'.join(sorted(KEYWORDS))})\b)"


def _rest(start: str) -> tuple[Expression, str]:
    """Return an expression and its replacement, which hide everything after `start`."""
    return Expression(rf"\A({start})(?!\*\Z){_ANYTHING}", re.IGNORECASE), r"\1?"


_CURSOR = (
    Expression(
        r"\A((?:DECLARE|(?P<fetch>FETCH|MOVE)"
        r"(?: (?:[-?]|ABSOLUTE|ALL|BACKWARD|FIRST|FORWARD|LAST|NEXT|PRIOR|RELATIVE)(?= ))*+"
        rf"(?: FROM| IN)?+(?: GLOBAL)?+) )(?!(?:CURSOR|INTO)\b){IDENTIFIER}(?![(\[.])"
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
    rf"|SET (?!TIME\b|ROLE\b|NAMES\b|SCHEMA\b){QUALIFIED}(?: (?!ON\b|OFF\b){QUALIFIED})?+ (?:ON|OFF)\Z)",
    re.IGNORECASE,
)
_TO_VALUE = Expression(
    rf"\A({_SCOPE}(?:(?:@@ ?)?+(?:{QUALIFIED}|\?) (?::?=|TO)|ROLE"
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
    rf"\APRAGMA (?:({IDENTIFIER})\.)?+({IDENTIFIER})(?:( = |\()([^)]*+)\)?+)?+\Z", re.IGNORECASE
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
"""Pragmas whose argument is the name of a table or index."""


def _pragma(text: str) -> str:
    match = _PRAGMA.match(text)
    if match is None:
        return "PRAGMA ?"
    schema, name, opening, value = match.groups()
    is_of_name = name.lower() in _OF_NAMES and not (schema and schema.strip('"').lower() == "temp")
    if not opening or is_of_name or value.strip().upper() in _SWITCHES:
        return text
    return f"{text[: match.start(4)]}?{')' if opening == '(' else ''}"


_OTHER_KINDS = "INSTANCE METHOD OBJECT OWNED PREPARE PRIVILEGES PROC ROUTINE SCHEME".split()  # noqa: SIM905
_BEFORE_KIND = """
    ACCESS ALTER APPLICATION BITMAP CLUSTERED COLUMNSTORE CONSTRAINT DEFAULT EDITIONABLE EXTERNAL FORCE GLOBAL
    IGNORE LARGE LOCAL NO NONCLUSTERED NONEDITIONABLE OFFLINE ONLINE OR PARTITION PLUGGABLE PRIMARY PRIVATE
    PROCEDURAL PUBLIC RECURSIVE REPLACE SHARED TEMP TEMPORARY TRUSTED UNDO UNIQUE UNLOGGED VECTOR
    XML
    """.split()  # noqa: SIM905
_KNOWN_KIND = Expression(
    rf"\A(?:CREATE|ALTER|DROP)(?: (?:{'|'.join(_BEFORE_KIND)})(?= )"
    r"| DEFINER = \S++(?: @)?+(?: \?)?+(?= )| ALGORITHM = \w++| SQL SECURITY \w++)*+"
    rf" (?:{'|'.join([*sorted(KINDS), *_OTHER_KINDS])})(?![\w$]| SCOPED CREDENTIAL\b)",
    re.IGNORECASE,
)
_IDENTIFIED = Expression(
    r"(\bIDENTIFIED (?:(?:(?:EXTERNALLY|GLOBALLY) )?+AS|BY|USING|WITH|VIA(?: \w++ (?:AS|USING))?+) )"
    rf"{_ANYTHING}",
    re.IGNORECASE,
)
_SECRET = Expression(
    r"(\A(?:CREATE|ALTER) (?:OR REPLACE |APPLICATION )?+"
    r"(?:CERTIFICATE|DATABASE|GROUP|LOGIN|ROLE|SERVER|USER) "
    rf"[\s\S]*?\b(?:PASSWORD|SECRET)\b ){_ANYTHING}",
    re.IGNORECASE,
)
_HAS_OPTIONS = Expression(
    r"\A(?:CREATE|ALTER) (?:COLLATION|DATABASE|EXTENSION|FOREIGN|GROUP|LOGIN|ROLE|SERVER|TABLESPACE|TEXT"
    r"|USER)\b",
    re.IGNORECASE,
)
_OPTION = Expression(
    r"((?:=|\b(?:ENCODING|LC_\w++|LOCALE|LOCATION|UNTIL|UPDATE TO|VERSION)) )"
    rf"(?!(?:ON|OFF|TRUE|FALSE)\b){IDENTIFIER}"
    rf"|(?P<list>\bOPTIONS ?\([^()]*+)",
    re.IGNORECASE,
)
_IN_OPTIONS = Expression(rf"((?<=[( ])\w++ ){IDENTIFIER}(?=,|\Z)")
_DEFAULT = Expression(
    r"(\bDEFAULT )(?!(?:AS|CHARACTER|CHARSET|COLLAT\w++|CURRENT_\w++|DEFERRABLE|DIRECTORY|ENCRYPTION|FALSE"
    r"|FOR|INITIALLY|LOCALTIME\w*+|MATCH|NOT|NULL|ON|PARTITION|PRIVILEGES|PROFILE|ROLE|SESSION_USER|SYSDATE"
    r"|SYSTIMESTAMP|TABLESPACE|TEMPORARY|TRUE|USER|USING|VALUES|WITH)\b)"
    rf"{IDENTIFIER}(?! ?\(| \?|[.:])",
    re.IGNORECASE,
)
"""SQLite takes a name after DEFAULT for a string."""
_LIST_OF_OPTIONS = Expression(rf"(?:\b(?:WITH|SET)|_ops) ?{ROW}(?:\)|\Z)", re.IGNORECASE)
_OPTION_IN_LIST = Expression(
    rf"( = )(?!(?:AUTO|FALSE|NONE|OFF|ON|TRUE)\b){IDENTIFIER}(?=[,)]|\Z)", re.IGNORECASE
)
_BOUNDS = Expression(
    rf"\b(?:ENUM|VALUES (?:IN|LESS THAN|FROM)) ?{ROW}(?:\)(?: TO {ROW})?+|\Z)", re.IGNORECASE
)
"""The bounds of a partition, or the values of an enumeration: expressions there contain no columns."""
_BOUND = Expression(
    rf"([(,] ?)(?!(?:DEFAULT|FALSE|MAXVALUE|MINVALUE|NULL|TRUE)\b){IDENTIFIER}(?=[,)]|\Z)", re.IGNORECASE
)
_LABEL = Expression(
    rf"(\AALTER TYPE {QUALIFIED} (?:ADD|RENAME) VALUE (?:IF NOT EXISTS )?+){_ANYTHING}", re.IGNORECASE
)
_TEXT = Expression(
    r"(\b(?:CONNECTION (?!LIMIT\b)(?:= )?+|M?INITCOND1?+ = )"
    r"|[(,] ?(?:CATEGORY|DEFAULT|DELIMITER) = "
    rf"|\bDATABASE LINK {QUALIFIED} (?:(?!USING\b)\S++ )*+USING ){IDENTIFIER}(?! ?[.(])",
    re.IGNORECASE,
)
"""Texts in the definitions of foreign servers, database links, aggregates and types."""
_DEFAULT_OF_PARAMETER = Expression(rf"(\? (?:AS )?+{TYPE} = )(?!NULL\b){IDENTIFIER}", re.IGNORECASE)
"""SQL Server takes a name for a string in the default of a parameter."""
_PARAMETER = Expression(
    r"(\A(?:CREATE|ALTER) (?:OR REPLACE )?+(?:DATABASE|FUNCTION|PROCEDURE|ROLE|ROUTINE"
    rf"|SESSION|SYSTEM|USER)\b[\s\S]*?\bSET {QUALIFIED} (?:=|TO) ){_ANYTHING}",
    re.IGNORECASE,
)
_MODULE = Expression(
    rf"(\ACREATE VIRTUAL TABLE (?:IF NOT EXISTS )?+{QUALIFIED} USING {IDENTIFIER} ?\(){_ANYTHING}",
    re.IGNORECASE,
)
_ROUTINE = Expression(
    r"\A(?:CREATE|ALTER) (?:OR (?:REPLACE|ALTER) )?+(?:EVENT|FUNCTION|PACKAGE|PROC|PROCEDURE|TRIGGER)\b",
    re.IGNORECASE,
)


def _definition(text: str) -> str:
    if not _KNOWN_KIND.match(text):
        return f"{text.partition(' ')[0]} ?"
    for expression in (_IDENTIFIED, _SECRET, _PARAMETER, _MODULE, _DEFAULT, _LABEL, _TEXT):
        text = expression.sub(r"\1?", text)
    text = _BOUNDS.sub(lambda bounds: _BOUND.sub(r"\1?", bounds[0]), text)
    text = _LIST_OF_OPTIONS.sub(lambda options: _OPTION_IN_LIST.sub(r"\1?", options[0]), text)
    if _HAS_OPTIONS.match(text):
        text = _OPTION.sub(_without_value, text)
    return _block(_DEFAULT_OF_PARAMETER.sub(r"\1?", text)) if _ROUTINE.match(text) else text


def _without_value(match: re.Match[str]) -> str:
    return _IN_OPTIONS.sub(r"\1?", match["list"]) if match["list"] else f"{match[1]}?"


def _grant(text: str) -> str:
    return str(_IDENTIFIED.sub(r"\1?", text))


_IN_BLOCK = Expression(
    r"(\b(?:BACKUP|KILL|PRINT|RAISERROR|RESTORE|SET LANGUAGE|WAITFOR)\b)[^;]*+"
    r"|(\b(?:SAVEPOINT|ROLLBACK(?: WORK)?+ TO(?: SAVEPOINT)?+|OPEN|CLOSE|DEALLOCATE|FETCH(?: \w++)?+ FROM)"
    rf"(?: GLOBAL)?+ |\bDECLARE (?={IDENTIFIER} CURSOR\b)|\bFETCH (?={IDENTIFIER}(?: (?:BULK|INTO)\b|\Z))"
    rf"|\bCURSOR (?:(?<=DECLARE CURSOR )|(?={IDENTIFIER}(?: ?\(| IS\b|\Z)))|\bIN (?={IDENTIFIER} LOOP\b))"
    rf"{_NO_KEYWORD}{IDENTIFIER}|{IDENTIFIER}(?= % (?:FOUND|ISOPEN|NOTFOUND|ROWCOUNT)\b)",
    re.IGNORECASE,
)


def _block(text: str) -> str:
    return str(_IN_BLOCK.sub(lambda match: f"{match[1]} ?" if match[1] else f"{match[2] or ''}?", text))


_EXPLAIN = Expression(
    rf"\A(?:EXPLAIN (?:{ROW}\) |(?:ANALYZE|VERBOSE|QUERY PLAN|EXTENDED|PARTITIONS|FORMAT = \w++) )*+)++",
    re.IGNORECASE,
)


def _explain(text: str) -> str:
    match = _EXPLAIN.match(text)
    return text if match is None else match[0] + _without_data(text[match.end() :])


_TEMPORARY = Expression(
    r"(\b(?:TEMP(?:ORARY)?+ (?:RECURSIVE )?+(?:TABLE|VIEW|SEQUENCE|TRIGGER) "
    r"|INTO TEMP(?:ORARY)?+ (?:TABLE )?+)"
    rf"(?:IF (?:NOT )?+EXISTS )?+){QUALIFIED}(?:, {QUALIFIED})*+",
    re.IGNORECASE,
)
_PG_TEMP = r"(?<![\w$.\"])pg_temp(?:_[0-9]++)?+"
_IS_TABLE = Expression(
    r"(?<![\w$.\"])(?:TEMP(?! (?:TABLE|VIEW|SEQUENCE|TRIGGER|RECURSIVE)\b)(?![\w$.\"])|\"temp\"(?!\.))",
    re.IGNORECASE,
)
"""A table or alias called temp: then `temp.x` may be one of its columns."""
_IN_TEMP = Expression(rf"((?:{_PG_TEMP}|(?<![\w$.\"])\"?+temp\"?+)\.)({IDENTIFIER})", re.IGNORECASE)
_TABLE_IN_TEMP = Expression(
    rf"((?:{_PG_TEMP}|\b(?:FROM|JOIN|INTO|UPDATE|ONLY|TRUNCATE"
    rf"|(?:TABLE|VIEW)(?: IF (?:NOT )?+EXISTS)?+) \"?+temp\"?+)\.)({IDENTIFIER})",
    re.IGNORECASE,
)
_RENAMED = Expression(rf"(\AALTER \w++ \"?+(?:pg_)?+temp\"?+\.\? RENAME TO ){IDENTIFIER}", re.IGNORECASE)
_QUALIFIER = Expression(rf"(?<![\w$]){IDENTIFIER}(?=\.)")


def _temporary(text: str) -> str:
    names = set()

    def hidden(match: re.Match[str]) -> str:
        names.add(_plain(match[2]))
        return f"{match[1]}?"

    text = _TEMPORARY.sub(r"\1?", text)
    text = _RENAMED.sub(r"\1?", (_TABLE_IN_TEMP if _IS_TABLE.search(text) else _IN_TEMP).sub(hidden, text))
    return _QUALIFIER.sub(lambda name: "?" if _plain(name[0]) in names else name[0], text) if names else text


def _plain(name: str) -> str:
    return name.strip('"').lower()


_PIVOT = Expression(r"(?<![\w$.\"])(?:UN)?+PIVOT(?: XML| (?:EX|IN)CLUDE NULLS)?+(?: ?\(|\Z)", re.IGNORECASE)
_PIVOTED = Expression(rf"(\bFOR (?:\([^()]*+\)|{QUALIFIED}) IN )(?!\(SELECT )({ROW})(\)\))?+", re.IGNORECASE)
_SIMPLE = Expression(r"[^\W\d]\w*+")
_NAME = Expression(rf"(?<![\w$]){IDENTIFIER}")
_NAME_MAX_CHARACTERS = 128
"""The limit of SQL Server and Oracle."""


def _pivot(text: str) -> str:
    """Hide the columns of a PIVOT wherever they occur, because they are values of another column.

    Oracle builds their names from a literal, with its quotes, or from an alias and a suffix.
    """
    if not _PIVOT.search(text):
        return text  # PIVOT is a name here
    names: set[str] = set()
    for match in _PIVOTED.finditer(text):
        if not match[3]:
            return f"{text.partition(' ')[0]} ?"
        names |= {_plain(name) for name in _NAME.findall(match[2]) if name not in KEYWORDS}

    def hidden(match: re.Match[str]) -> str:
        name = _plain(match[0])
        if match[0] in KEYWORDS:
            return match[0]
        if len(name) > _NAME_MAX_CHARACTERS or not _SIMPLE.fullmatch(name):
            return "?"
        beginnings = (name[:end] for end, character in enumerate(name) if character == "_")
        return "?" if name in names or not names.isdisjoint(beginnings) else match[0]

    return str(_NAME.sub(hidden, _PIVOTED.sub(r"\1(?))", text)))


_COMMENTED = Expression(
    rf"((?:COMMENT|SECURITY LABEL(?: FOR \S++)?+) ON (?:\S++ (?!IS ))*+\S++ IS ){_ANYTHING}", re.IGNORECASE
)


def _comment(text: str) -> str:
    """Hide the comment or label of an object, which is a string even if its quotes are missing."""
    match = _COMMENTED.match(text)
    return f"{match[1]}?" if match else f"{text.partition(' ')[0]} ?"


def _prepare(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}?" if match[2] else f"{match[1]}? "


def _drop(text: str) -> str:
    return f"{text[:13]}?" if text.upper().startswith("DROP PREPARE ") else _definition(text)


_PROCEDURE = Expression(rf"\A(EXEC (?:\? = )?+(?:{QUALIFIED}(?: |\Z))?+){_ANYTHING}", re.IGNORECASE)


def _exec(text: str) -> str:
    return "EXEC(?)" if text[4:5] == "(" else _PROCEDURE.sub(r"\1?", text)


def _by_backslash(match: re.Match[str]) -> str:
    return "?" if match[0][0] == "\\" else match[0]


def _by(expression: Expression, replacement: str | Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    return lambda text: str(expression.sub(replacement, text))


_PATTERN = r"(?:GLOB|I?LIKE|MATCH|R(?:EGEXP|LIKE)|SIMILAR TO)"
"""What is followed by a pattern."""
_AFTER = rf"[(,] ?|[+|] |\b(?:AND|BETWEEN|ELSE|HAVING|IN|NOT|ON|OR|SELECT|THEN|TO|WHEN|WHERE|{_PATTERN}) "
_MARKED = Expression(
    rf"{QUOTED}|(?P<after>(?:[=<>~]|\b{_PATTERN}) )"
    rf"(?:(?:[#<[/*^]|&&?+) ?{IDENTIFIER}[\s\S]*+|%(?: [\s\S]*+|\Z)"
    # An operator that lacks its second operand, as in `LIKE name%`.
    rf"|(?:{WORD} ){{1,9}}+%(?:\)| (?:AND|ESCAPE|GROUP|LIMIT|OR|ORDER)\b|\Z)[\s\S]*+)"
    rf"|(?P<also>{_AFTER})(?:&&?+ |< |\# {WORD} \#|[%/^] (?=[\w(?\"]))[\s\S]*+"
    rf"|(?P<address>{WORD} : //)[\s\S]*+|=[#&<] [\s\S]*+|(?<![\w$])\$ ?[({{][\s\S]*+"
    rf"|\{{ (?![?}}]|(?:D|GUID|T|TS|INTERVAL) \?|(?:CALL|FN|OJ) )[\s\S]*+",
    re.IGNORECASE,
)


def _by_mark(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == '"' else f"{match['after'] or match['also'] or ''}?"


_COPY_OPTION = (
    r"BINARY|CSV|FREEZE|HEADER|WITH|(?:USING )?+(?:DELIMITERS?+|ENCODING|ESCAPE|NULL|QUOTE)(?: AS)?+(?: \?)?+"
)
_ANYWHERE: tuple[tuple[str, Callable[[str], str]], ...] = (
    # Applied to every statement that contains the text in upper case: a function that hides data.
    ("TEMP", _temporary),
    ("PIVOT", _pivot),
    # No SQL has a backslash outside strings; it begins a command of the client.
    ("\\", _by(Expression(rf"{QUOTED}|\\[\s\S]*+"), _by_backslash)),
    (
        " TRAN",
        _by(
            Expression(
                r"(\b(?:BEGIN(?: (?:DEFERRED|DISTRIBUTED|EXCLUSIVE|IMMEDIATE))?+|COMMIT|END|ROLLBACK|SAVE)"
                r" TRAN(?:SACTION)?+ )"
                rf"(?!(?:DEFERRABLE|ISOLATION|NOT|READ)\b){_NO_KEYWORD}{IDENTIFIER}",
                re.IGNORECASE,
            ),
            r"\1?",
        ),
    ),
    # The arguments of a prepared statement or a procedure.
    *(
        (
            f" {word} EXECUTE ",
            _by(Expression(rf"( {word} EXECUTE )(?!ON\b){_ANYTHING}", re.IGNORECASE), r"\1?"),
        )
        for word in ("AS", "FOR")
    ),
    (
        " EXEC",
        _by(
            Expression(
                r"( EXEC(?:UTE)?+ (?:\? = )?+(?!(?:FUNCTION|IMMEDIATE|PROCEDURE)\b)"
                rf"{_NO_KEYWORD}{QUALIFIED} ){_ANYTHING}",
                re.IGNORECASE,
            ),
            r"\1?",
        ),
    ),
    # The arguments of a trigger's function are texts without quotes.
    (
        " EXECUTE ",
        _by(
            Expression(rf"( EXECUTE (?:FUNCTION|PROCEDURE) {QUALIFIED} ?\()(?!\)){_ANYTHING}", re.IGNORECASE),
            r"\1?",
        ),
    ),
    # Marks of templates and clients around a value, in places where SQL has no operator.
    # Most are one character, because those are found fastest.
    *((sign, _by(_MARKED, _by_mark)) for sign in (*"{$#&<[/%^", "= *", "E *", "B *")),
    # After the options of COPY, rows of data follow, which may look like SQL.
    (
        "FROM STDIN",
        _by(
            Expression(
                rf"(\bCOPY {QUALIFIED} ?(?:{ROW}\) )?+FROM STDIN(?: (?:WITH )?+{ROW}\)"
                rf"|(?! (?:WITH )?+\()(?: (?:{_COPY_OPTION}"
                rf"|FORCE NOT NULL {IDENTIFIER}(?:, {IDENTIFIER})*+)(?![^ ;]))*+)"
                rf"(?: WHERE [^;]*+)?+)[ ;]{_ANYTHING}",
                re.IGNORECASE,
            ),
            r"\1 ?",
        ),
    ),
    # The values of a row's key, and the language of Oracle's driver for files.
    ("PARTITION FOR (", _by(Expression(rf"(PARTITION FOR \(){ROW[2:]}", re.IGNORECASE), r"\1?")),
    ("ACCESS PARAMETERS(", _by(Expression(rf"(ACCESS PARAMETERS\(){ROW[2:]}", re.IGNORECASE), r"\1?")),
    (
        "CYCLE ",
        _by(
            Expression(
                rf"(\bCYCLE {QUALIFIED}(?:, {QUALIFIED})*+ SET {IDENTIFIER} TO )(?:\?|{IDENTIFIER})"
                rf"( DEFAULT(?: (?:\?|{IDENTIFIER}))?+)?+",
                re.IGNORECASE,
            ),
            lambda match: f"{match[1]}? DEFAULT ?" if match[2] else f"{match[1]}?",
        ),
    ),
    ("CURRENT OF ", _by(Expression(rf"(\bCURRENT OF (?:GLOBAL )?+){IDENTIFIER}", re.IGNORECASE), r"\1?")),
    (
        "NOTIFY ",
        _by(Expression(rf"( DO (?:ALSO |INSTEAD )?+\(?+NOTIFY ){_ANYTHING}", re.IGNORECASE), r"\1?"),
    ),
)
_BLOCKS = "BEGIN CASE CURSOR ELSE ELSEIF ELSIF END EXCEPTION EXIT FOR IF LOOP REPEAT WHEN WHILE".split()  # noqa: SIM905
_OF_TRANSACTION = (
    r"(?:COMMIT|ROLLBACK)(?: WORK| TRANSACTION)?+ (?:COMMENT|FORCE|PREPARED|TO(?: SAVEPOINT)?+) "
)
_HIDING_ALL = """
    ATTACH DETACH EXECUTE INSTALL KILL LISTEN NOTIFY PRINT RAISERROR RESIGNAL SAVEPOINT SIGNAL THROW UNINSTALL
    UNLISTEN XA
    """.split()  # noqa: SIM905
_VERBS: dict[str, Callable[[str], str]] = {
    **{verb: _by(*_rest(rf"{verb}\b ?+")) for verb in _HIDING_ALL},
    **dict.fromkeys(["FETCH", "MOVE"], _by(*_CURSOR)),
    "DECLARE": lambda text: _block(_CURSOR[0].sub(_CURSOR[1], text)),
    **dict.fromkeys(["CREATE", "ALTER"], _definition),
    **dict.fromkeys(_BLOCKS, _block),
    **dict.fromkeys(["BACKUP", "RESTORE"], _by(*_rest(r"(?:BACKUP|RESTORE) (?:\w++ )?+"))),
    "BULK": _by(*_rest(rf"BULK INSERT {QUALIFIED} FROM ")),
    "CHANGE": _by(*_rest(r"CHANGE (?:MASTER|REPLICATION SOURCE|REPLICATION FILTER)(?: TO(?= ))?+ ")),
    **dict.fromkeys(["COMMIT", "ROLLBACK"], _by(*_rest(_OF_TRANSACTION))),
    "CLOSE": _by(*_rest(r"CLOSE (?!ALL\Z)")),
    "COMMENT": _comment,
    "COPY": _by(
        Expression(
            r"(\b(?:DEFAULT(?! VALUES)|DELIMITER|ENCODING|ESCAPE|(?<!NOT )NULL|QUOTE) )"
            rf"{IDENTIFIER}(?=[,)]|\Z)",
            re.IGNORECASE,
        ),
        r"\1?",
    ),
    "DEALLOCATE": _by(*_rest(r"DEALLOCATE (?:PREPARE )?+(?!ALL\Z)")),
    "DROP": _drop,
    "EXEC": _exec,
    "EXPLAIN": _explain,
    "GRANT": _grant,
    "IMPORT": _by(_OPTION, _without_value),
    "FLASHBACK": _by(
        *_rest(r"FLASHBACK (?:(?:PLUGGABLE )?+DATABASE |TABLE (?:(?!RESTORE\b)\S++ )*+RESTORE POINT )")
    ),
    "LOAD": _by(*_rest(r"LOAD (?!(?:DATA|INDEX|XML)\b)")),
    "OPEN": _by(*_rest(r"OPEN (?:(?:SYMMETRIC|MASTER) KEY )?+")),
    "PRAGMA": _pragma,
    "PREPARE": _by(
        Expression(rf"(PREPARE )(?:(TRANSACTION ){_ANYTHING}|{IDENTIFIER} ?)", re.IGNORECASE), _prepare
    ),
    "RELEASE": _by(
        Expression(rf"\ARELEASE (?:SAVEPOINT )?+{_ANYTHING}", re.IGNORECASE), "RELEASE SAVEPOINT ?"
    ),
    "SECURITY": _comment,
    "SET": _set,
    "START": _by(*_rest(r"START (?!TRANSACTION\b)(?:\w++ )?+")),
    "WAITFOR": _by(*_rest(r"WAITFOR (?:DELAY|TIME) ")),
    "VACUUM": _by(*_rest(r"VACUUM (?:(?!INTO\b)\w++ )?+INTO ")),
}
"""Functions that hide data, by the first word of a statement."""
_QUERIES = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ")


def without_data(text: str) -> str:
    """Return the text without names that are generated or are data."""
    upper = text.upper()
    for needle, hide in _ANYWHERE:
        if needle in upper:
            text = hide(text)
    if ";" in text:
        return "; ".join(map(_without_data, text.split("; ")))
    return _without_data(text)


_VERB = Expression(r"[A-Za-z]++(?=[ (]|\Z)")


def _without_data(text: str) -> str:
    if text.startswith(_QUERIES):
        return text
    verb = _VERB.match(text)
    hide = verb and _VERBS.get(verb[0].upper())
    return f"{verb[0].upper()}{hide(text)[verb.end() :]}" if hide else text
