"""Say what a statement does, and to which tables.

Used by `sqllogs.sql.normalize` in the writer's thread, on normalized text. Every expression is linear.
"""

import re

from sqllogs.sql.grammar import Expression
from sqllogs.sql.merging import IDENTIFIER, KEYWORDS, QUOTED

_INSIDE = r"[\w$.\x80-\U0010ffff]"
"""Before a keyword, this makes it a part of a name."""

UNKNOWN = "UNKNOWN"
_VERBS = frozenset(
    """
    ABORT ALTER ANALYZE ATTACH AUDIT BACKUP BEGIN BULK CACHE CALL CHANGE CHECK CHECKPOINT CHECKSUM CLOSE
    CLUSTER COMMENT COMMIT COPY CREATE DBCC DEALLOCATE DECLARE DELETE DENY DESC DESCRIBE DETACH DISABLE
    DISCARD DO DROP ENABLE END EXEC EXECUTE EXPLAIN FETCH FLASHBACK FLUSH GET GRANT HANDLER IF IMPORT INSERT
    INSTALL KILL LISTEN LOAD LOCK MERGE MOVE NOTIFY OPEN OPTIMIZE PRAGMA PREPARE PRINT PURGE RAISERROR
    REASSIGN RECONFIGURE REFRESH REINDEX RELEASE RENAME REPAIR REPLACE RESET RESIGNAL RESTORE RETURN REVOKE
    ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW SIGNAL START TABLE THROW TRUNCATE UNINSTALL UNLISTEN UNLOCK
    UPDATE UPSERT USE VACUUM VALUES WAITFOR WHILE WITH XA
    """.split()  # noqa: SIM905
)
_KINDS = frozenset(
    """
    AGGREGATE ASSEMBLY CAST CERTIFICATE COLLATION CONTEXT CONVERSION DATABASE DIRECTORY DOMAIN EVENT
    EXTENSION FOREIGN FULLTEXT FUNCTION GROUP INDEX LANGUAGE LOGIN MATERIALIZED OPERATOR PACKAGE POLICY
    PROCEDURE PROFILE PUBLICATION ROLE RULE SCHEMA SEQUENCE SERVER SESSION SPATIAL STATISTICS SUBSCRIPTION
    SYNONYM SYSTEM TABLE TABLESPACE TEXT TRANSFORM TRIGGER TYPE USER VIEW VIRTUAL
    """.split()  # noqa: SIM905
)
"""After CREATE, ALTER, DROP. Any other word may be data, and operations are labels of metrics."""

_PLAIN_VERBS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE"])
_VERB = Expression(
    r"(?P<ddl>CREATE|ALTER|DROP)(?: (?:OR|REPLACE|UNIQUE|TEMP(?:ORARY)?+|UNLOGGED|GLOBAL|LOCAL|RECURSIVE))*+"
    r"(?P<kind>(?: MATERIALIZED)?+ \w++)|(?P<to>ROLLBACK(?: WORK| TRANSACTION)?+ TO\b)"
    r"|(?P<word>[A-Z]\w{0,31})",
    re.IGNORECASE | re.ASCII,
)
_MAIN_VERB = Expression(
    rf"{QUOTED}|([()])|(?<!{_INSIDE})(SELECT|INSERT|UPDATE|DELETE|MERGE|REPLACE|VALUES)\b"
)
_RENAMED = {"RELEASE": "RELEASE SAVEPOINT", "START": "BEGIN"}


def operation_of(text: str) -> str:
    text = text.lstrip("({ ")
    verb = text.split(" ", 1)[0]
    if verb in _PLAIN_VERBS:
        return verb
    if verb == "WITH":
        return _main_verb(text)
    match = _VERB.match(text)
    if match is None:
        return UNKNOWN
    if match["ddl"]:
        kind = match["kind"].upper()
        return f"{match['ddl'].upper()}{kind if kind.split()[0] in _KINDS else ''}"
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
"""A table follows these, and each comma after it."""
_TAKING = frozenset([*_LISTING, "JOIN", "INTO", "TABLE", "COPY"])
_ENDING = (
    *("WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"),
    *("UNION", "INTERSECT", "EXCEPT", "SELECT", "SET", "VALUES", "RETURNING"),
)
_CLAUSE = Expression(
    # Here too each alternative begins with its own character.
    rf"({QUOTED}|\(|\)|,|DISTINCT FROM|EXTRACT\(|SUBSTRING\(|TRIM\(|OVERLAY\("
    r"|FOR UPDATE|KEY UPDATE|DO UPDATE|ON UPDATE|DROP TABLE|LOCK TABLE|TRUNCATE TABLE"
    rf"|INDEX (?:IF NOT EXISTS )?+(?:{IDENTIFIER} )?+ON|"
    + "|".join(rf"{word[0]}(?<!{_INSIDE}.){word[1:]}\b" for word in (*sorted(_TAKING), *_ENDING))
    + r")(?: (?:ONLY|LATERAL|IGNORE|IF NOT EXISTS|IF EXISTS))*+"
    rf"(?= ?(?:({IDENTIFIER}(?:\.{IDENTIFIER})*+|\?)(\()?+)?+)"
)
# Every name is taken, with what makes it a CTE if that follows: so none is gone through twice.
_CTE = Expression(rf"({IDENTIFIER})((?:\([^()]*+\))?+ AS (?:NOT )?+(?:MATERIALIZED )?+\()?+")


def tables_of(text: str) -> tuple[str, ...]:
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
            if name not in KEYWORDS and name != "?" and not (called and clause in ("FROM", "JOIN", ",")):
                names[name] = None
    return _without_ctes(names, text)


def _without_ctes(names: dict[str, None], text: str) -> tuple[str, ...]:
    if names and "WITH " in text:
        for name, definition in _CTE.findall(text):
            if definition:
                names.pop(name, None)
    return tuple(name.replace('"', "") for name in names)
