"""`manage.py sqllogs mcp`: a server of the Model Context Protocol, by which AI agents read the SQL log.

Speaks JSON-RPC over standard input and output with the official SDK (extra `mcp`). Each tool calls a view of
the API in this process with the token of SQLLOGS_TOKEN, so filters, permissions and errors are the API's. The
SDK runs in the main thread; views run in one thread of asgiref.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import wraps
from inspect import signature
from json import dumps
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs import __version__
from sqllogs.api import tokens
from sqllogs.cli.options import Subcommand
from sqllogs.context import muted
from sqllogs.errors import SQLLogsError
from sqllogs.models import StoredPlan
from sqllogs.read import explain as read_explain
from sqllogs.read.plans import advise, changes, stored_plans

TOKEN_VARIABLE = "SQLLOGS_TOKEN"  # noqa: S105 - the name of a variable
ROWS_MAX = 20
"""Maximum rows of an answer, because an agent reads all of it."""
SUGGESTIONS_MAX = 3
"""Maximum calls that an answer of `findings` suggests for its rows."""
EXPLAINED = ("slower", "new", "more_rows")
"""Kinds of findings for which a plan may show the cause."""
TEXT_MAX = 600
"""Maximum characters of a text, such as a statement."""

INSTRUCTIONS = (
    "Read-only access to the SQL log of a Django application. Begin with `findings`. Otherwise `stats` "
    "with compare=previous and start= when it became slow, then `repeats` for N+1 queries, `statement` for "
    "one statement, `events` for deploys and migrations. Times are RFC 3339 or relative, as in now-2h; "
    "durations are milliseconds. Every answer has `next`: the calls that may help, the best first."
)
_FIELDS = {
    "stats": "group,calls,calls_per_s,total_ms,load_percent,p95_ms,errors,repeats,route,call_sites,"
    "first_seen",
    "compared": "group,total_ms_per_s_change,total_ms_per_s,total_ms_per_s_before,calls_per_s,"
    "calls_per_s_before,p95_ms,p95_ms_before,calls_per_unit,calls_per_unit_before,rows_per_call,"
    "rows_per_call_before,is_new,is_vanished,repeats,route,call_sites",
    "requests": "time,kind,method,route,view,status,elapsed_ms,queries,total_ms,worst_repeat,worst_call_site,"
    "trace_id,release",
    "repeats": "fingerprint,call_site,times_per_request,requests,total_ms,route,remedy,advice,sql,last_seen",
    "trace": "time,duration_ms,rows,sql,fingerprint,call_site,error",
    "events": "time,kind,title,text,author",
    "findings": "kind,summary,advice,call_site,route,fingerprint,started_at,release,event,occurrences,"
    "trace_id,evidence",
}
"""The fields of each answer; not all, because an agent's context is limited."""


class _Request(HttpRequest):
    """A request to the API with a token, not from a network."""

    def __init__(self, token: str, path: str, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.method = "GET"
        self.path = path
        # Without REMOTE_ADDR, because with ANONYMOUS_LOOPBACK a local reader needs no token, but an agent
        # does.
        self.META = {"HTTP_AUTHORIZATION": f"Bearer {token}", "HTTP_ACCEPT": "application/json"}
        query = QueryDict(mutable=True)
        query.update({name: str(value) for name, value in parameters.items() if value not in ("", None)})
        self.GET = query  # type: ignore[assignment]

    def build_absolute_uri(self, location: str | None = None) -> str:
        # The API caches answers for a second by this address, so that of each trace must differ.
        return location or f"{self.path}?{self.GET.urlencode()}"


class Log:
    """The tools: each method is one, and agents read its docstring as its description."""

    def __init__(self, token: str) -> None:
        self._token = token

    def stats(
        self,
        start: str = "",
        end: str = "now",
        group_by: str = "fingerprint",
        view: str = "",
        limit: int = 10,
        compare: str = "",
    ) -> dict[str, Any]:
        """Load by group, highest first: group_by is fingerprint, view, route, release, table ...

        With compare, what changed most first: `previous` (the same length of time before), `day`, `week`
        (the same time then) or `release` (the newest against the one before). start is an hour ago by
        default, with `release` a week.
        """
        fields = _FIELDS["compared" if compare else "stats"] + (",sql" if group_by == "fingerprint" else "")
        parameters = {
            "compare": compare,
            "group_by": group_by,
            "view": view,
            "limit": limit,
            "fields": fields,
        }
        start = start or ("now-7d" if compare == "release" else "now-1h")
        answer = self._list("StatsView", parameters, start, end)
        rows = answer.get("results", [])
        next_calls = []
        if any(row.get("repeats") for row in rows):
            next_calls.append(_call("repeats", "one of these has an N+1", start=start, view=view))
        if group_by == "fingerprint":
            if first := next((row["group"] for row in rows if row["group"]), None):
                next_calls.append(_call("statement", "where it comes from", fingerprint=first, start=start))
            next_calls.append(_call("stats", "which views", group_by="view", start=start, compare=compare))
        else:
            next_calls.append(_call("stats", "which statements", start=start, compare=compare))
        return _with_next(answer, *next_calls, _call("events", "deploys and migrations", start=start))

    def findings(self, limit: int = 10) -> dict[str, Any]:
        """Problems found without being asked: what became slower, N+1 queries, locks. Begin here."""
        answer = self._get("FindingsView", {"limit": limit, "fields": _FIELDS["findings"]})
        for name in ("next", "previous"):
            answer.pop(name, None)
        return _with_next(answer, *_after_findings(answer.get("results", [])))

    def requests(
        self,
        start: str = "now-1h",
        end: str = "now",
        view: str = "",
        ordering: str = "-elapsed_ms",
        limit: int = 10,
    ) -> dict[str, Any]:
        """Requests, commands and tasks with a summary of their queries, the slowest first."""
        parameters = {"view": view, "ordering": ordering, "limit": limit, "fields": _FIELDS["requests"]}
        answer = self._list("RequestsView", parameters, start, end)
        next_calls = [_call("repeats", "N+1 queries", start=start, view=view)]
        traces = (row["trace_id"] for row in answer.get("results", ()) if row["trace_id"])
        if first := next(traces, None):
            next_calls.insert(0, _call("trace", "the queries of the slowest", trace_id=first))
        return _with_next(answer, *next_calls)

    def repeats(
        self, start: str = "now-1h", end: str = "now", view: str = "", limit: int = 10
    ) -> dict[str, Any]:
        """N+1 queries: file and line that run a statement repeatedly, and how to fix each."""
        parameters = {"view": view, "limit": limit, "fields": _FIELDS["repeats"]}
        answer = self._list("RepeatsView", parameters, start, end)
        cause = _call("events", "which release brought it; then change the line as the advice says")
        return _with_next(answer, cause)

    def trace(self, trace_id: str, limit: int = ROWS_MAX) -> dict[str, Any]:
        """The queries of one request in order."""
        parameters = {"limit": limit, "fields": _FIELDS["trace"]}
        answer = self._get("TraceView", parameters, trace_id=trace_id)
        answer.pop("spans", None)
        next_calls = [_call("findings", "what is known of it")]
        longest = max(answer.get("results", ()), key=lambda row: row["duration_ms"], default=None)
        if longest:
            longest_query = _call("statement", "the longest query", fingerprint=longest["fingerprint"])
            next_calls.insert(0, longest_query)
        return _with_next(answer, *next_calls)

    def statement(self, fingerprint: str, start: str = "now-1h", end: str = "now") -> dict[str, Any]:
        """One statement: its text, figures, call sites, routes and samples."""
        answer = self._get("FingerprintView", {"from": start, "to": end}, fingerprint=fingerprint)
        next_calls = [_call("explain", "its plan, and the index that it lacks", fingerprint=fingerprint)]
        if answer.get("repeats"):
            next_calls.insert(0, _call("repeats", "it is an N+1", start=start))
        return _with_next(answer, *next_calls)

    def explain(self, fingerprint: str) -> dict[str, Any]:
        """The plan of a statement, without running it."""
        # Plans do not come from the API, which here checks only the token and that the statement exists.
        known = self._get("FingerprintView", {}, fingerprint=fingerprint)
        if "error" in known:
            return _with_next(known)
        try:
            plan = advise(read_explain.explain(fingerprint))
        except SQLLogsError as exc:
            return {
                "error": {"message": str(exc)},
                "next": [_call("statement", "the lines that send it", fingerprint=fingerprint)],
            }
        now = StoredPlan(alias=plan.alias, vendor=plan.vendor, lines=list(plan.lines))
        # Not `store_plan`, because an agent's reads write nothing.
        kept = (one for one in stored_plans(fingerprint) if one.alias == now.alias and one.lines != now.lines)
        before = next(kept, None)
        return {
            "advice": plan.advice,
            "lines": list(plan.lines),
            "changes": [asdict(one) for one in changes(before, now)] if before else [],
            "notes": [str(note) for note in plan.notes],
            "next": [
                _call("statement", "the lines that send it", fingerprint=fingerprint),
                _call("events", "a migration that dropped an index"),
            ],
        }

    def events(self, start: str = "now-1d", end: str = "now", limit: int = 10) -> dict[str, Any]:
        """Deploys and migrations, newest first."""
        parameters = {"limit": limit, "fields": _FIELDS["events"]}
        answer = self._list("EventsView", parameters, start, end)
        next_calls = [_call("stats", "the newest release against the one before", compare="release")]
        if results := answer.get("results"):
            newest = results[0]["time"]
            next_calls.insert(0, _call("stats", "what changed with it", start=newest, compare="previous"))
        return _with_next(answer, *next_calls)

    def health(self) -> dict[str, Any]:
        """Whether the log is complete: what it has captured, stored and dropped, and its oldest record."""
        return _with_next(self._get("HealthView", {}), _call("findings", "problems that were found"))

    def _list(self, view: str, parameters: dict[str, Any], start: str, end: str) -> dict[str, Any]:
        answer = self._get(view, {**parameters, "from": start, "to": end})
        # Links to other pages, which an agent cannot follow; `_with_next` sets `next` to calls of tools.
        for name in ("next", "previous"):
            answer.pop(name, None)
        return answer

    def _get(self, view: str, parameters: Mapping[str, Any], **arguments: str) -> dict[str, Any]:
        from sqllogs.api import views  # imports DRF, which no other subcommand needs

        if "limit" in parameters:  # the API refuses one below 1; one that is too high is reduced here
            parameters = {**parameters, "limit": min(int(parameters["limit"]), ROWS_MAX)}
        request = _Request(self._token, "/".join([view, *arguments.values()]), parameters)
        response = getattr(views, view).as_view()(request, **arguments)
        answer: dict[str, Any] = orjson.loads(response.content)
        if "error" in answer:
            answer["error"] = _name_argument(answer["error"])
        return {name: _shortened(value) for name, value in answer.items()}


_ARGUMENTS = {"from": "start", "to": "end"}
"""Names of the tools' arguments by the API's parameters: `from` is a keyword in Python."""


def _name_argument(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error of the API with the name of the tool's argument instead of the parameter's."""
    field = error.get("field")
    if field not in _ARGUMENTS:
        return error
    message = error["message"].removeprefix(f"{field}:")
    return error | {"field": _ARGUMENTS[field], "message": f"{_ARGUMENTS[field]}:{message}"}


def _with_next(answer: dict[str, Any], *next_calls: str) -> dict[str, Any]:
    """Add the calls that may help; after an error only some that need no arguments."""
    if "error" in answer:
        next_calls = (
            _call("findings", "problems that were found"),
            _call("stats", "the statements that there are"),
        )
    return answer | {"next": list(next_calls)}


def _call(tool: str, why: str, **arguments: str) -> str:
    """Return a call of a tool as an agent may repeat it, without empty arguments."""
    given = ", ".join(f"{name}={dumps(value)}" for name, value in arguments.items() if value)
    return f"{tool}({given}): {why}"


def _after_finding(row: dict[str, Any]) -> str | None:
    if holder := row["evidence"].get("holder_trace_id"):
        return _call("trace", "the transaction that held the lock", trace_id=holder)
    if row["kind"] == "n_plus_one":
        return _call("repeats", "file, line and remedy of the N+1", start="now-1d")
    if row["kind"] in EXPLAINED and row["fingerprint"]:
        return _call("explain", "its plan, and the index that it lacks", fingerprint=row["fingerprint"])
    if row["trace_id"]:
        return _call("trace", f"an example of {row['kind']}", trace_id=row["trace_id"])
    return None


def _after_findings(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Suggest what shows the cause of each finding, or without one what has changed."""
    # By the call, because several findings may lead to the same: a lock that is held, and what waits for it.
    calls = {call.partition("): ")[0]: call for call in map(_after_finding, rows) if call}
    yield from list(calls.values())[:SUGGESTIONS_MAX]
    if not rows:
        yield _call("stats", "what changed most in the last hour", compare="previous", start="now-1h")
    yield _call("events", "deploys and migrations")


def _shortened(value: Any) -> Any:
    """Cut long texts and lists, and round to thousandths: all else costs an agent context for nothing."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, str):
        return value if len(value) <= TEXT_MAX else f"{value[:TEXT_MAX]}..."
    if isinstance(value, list):
        return [_shortened(one) for one in value[:ROWS_MAX]]
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    return value


TOOLS = ("findings", "stats", "requests", "repeats", "trace", "statement", "explain", "events", "health")


def _tool(read: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return an asynchronous tool with the arguments of a method; its queries are not recorded."""

    def read_muted(*args: Any, **kwargs: Any) -> str:
        with muted():
            return orjson.dumps(read(*args, **kwargs)).decode()

    # In another thread: the SDK's event loop runs in this one, where Django raises SynchronousOnlyOperation.
    @wraps(read)
    async def tool(*args: Any, **kwargs: Any) -> str:
        return await sync_to_async(read_muted)(*args, **kwargs)

    # The SDK describes the arguments to agents by these; the answer is one text.
    tool.__annotations__ = {**read.__annotations__, "return": str}
    return tool


def _refusal(exc: Exception) -> str:
    """Return the answer to a call that the SDK refuses, in the form of the API's errors."""
    problems: list[dict[str, Any]] = getattr(exc.__cause__, "errors", list)()
    field = str(problems[0]["loc"][0]) if problems else None
    message = f"{field}: {problems[0]['msg']}." if problems else f"{exc}. The tools are {', '.join(TOOLS)}."
    return _error(message, field)


def _error(message: str, field: str | None) -> str:
    error = {"code": "invalid_parameter", "message": message, "field": field}
    return orjson.dumps(_with_next({"error": error})).decode()


def server(token: str) -> Any:
    """Return the server with its tools; raise ImportError without the SDK."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
    from mcp.types import ToolAnnotations

    class Server(MCPServer):
        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            """Call a tool; answer what the SDK refuses, or would ignore, with an error that helps."""
            # Agents send null for what they leave out.
            given = {argument: value for argument, value in arguments.items() if value is not None}
            known = list(signature(getattr(Log, name)).parameters)[1:] if name in TOOLS else list(given)
            if unknown := [argument for argument in given if argument not in known]:
                has = f"{name} has {', '.join(known)}" if known else f"{name} has none"
                raise ToolError(_error(f"{unknown[0]}: Unknown argument; {has}.", unknown[0]))
            try:
                return await super().call_tool(name, given, context)
            except UnexpectedToolError:
                raise
            except ToolError as exc:
                raise ToolError(_refusal(exc)) from exc

    made = Server("sqllogs", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    log = Log(token)
    for name in TOOLS:
        reading = ToolAnnotations(read_only_hint=True)
        made.tool(name=name, annotations=reading, structured_output=False)(_tool(getattr(log, name)))
    return made


def _add_arguments(parser: CommandParser) -> None:
    """Add none: the token must not be among the arguments."""


def _serve(command: BaseCommand, options: Mapping[str, Any]) -> None:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    # Checked now too, or a wrong token would fail only in the tools, and no person would see the error.
    if tokens.verify(token.encode()) is None:
        message = _("Set %(name)s to a token of `manage.py sqllogs token create NAME`.")
        raise CommandError(message % {"name": TOKEN_VARIABLE})
    try:
        made = server(token)
    except ImportError as exc:
        raise CommandError(_('Install the SDK: pip install "django-sqllogs[mcp]"')) from exc
    made.run("stdio")


MCP = Subcommand(
    help=gettext_lazy("Serve the log to AI agents, by the Model Context Protocol."),
    add_arguments=_add_arguments,
    handle=_serve,
)
