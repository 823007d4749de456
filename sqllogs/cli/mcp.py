"""`manage.py sqllogs mcp`: a server of the Model Context Protocol, by which AI agents read the SQL log.

Speaks JSON-RPC over standard input and output with the official SDK (extra `mcp`). Each tool requests a view
of the API in this process with the token of SQLLOGS_TOKEN, so filters, permissions and errors are the API's.
The SDK runs in the main thread; reads run in one thread of asgiref.
"""

import os
from collections.abc import Callable, Mapping
from functools import wraps
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
from sqllogs.read import explain as read_explain

TOKEN_VARIABLE = "SQLLOGS_TOKEN"  # noqa: S105 - the name of a variable
ROWS_MAX = 20
"""Rows of an answer: an agent reads all of it, and can ask for more."""
TEXT_MAX = 600
"""Characters of one text, such as a statement."""

INSTRUCTIONS = (
    "Read-only access to the SQL log of a Django application. Begin with `findings`. Otherwise `stats` "
    "with a range before and one after it became slow, then `repeats` for N+1 queries, `statement` for one "
    "statement, `events` for deploys and migrations. Times are RFC 3339 or relative, as in now-2h; durations "
    "are milliseconds. Every answer has `next`: calls that may help."
)
_FIELDS = {
    "stats": "group,calls,calls_per_s,total_ms,load_percent,p95_ms,errors,repeats,route,call_sites,"
    "first_seen",
    "requests": "time,kind,method,route,view,status,elapsed_ms,queries,total_ms,worst_repeat,worst_call_site,"
    "trace_id,release",
    "repeats": "fingerprint,call_site,times_per_request,requests,total_ms,route,remedy,advice,sql,last_seen",
    "trace": "time,duration_ms,rows,sql,fingerprint,call_site,error",
    "events": "time,kind,title,text",
    "findings": "kind,summary,call_site,route,fingerprint,started_at,release,event,occurrences,trace_id",
}


class _Request(HttpRequest):
    """A request of the API with a token, from no network."""

    def __init__(self, token: str, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.method = "GET"
        self.META = {"HTTP_AUTHORIZATION": f"Bearer {token}", "HTTP_ACCEPT": "application/json"}
        query = QueryDict(mutable=True)
        query.update({name: str(value) for name, value in parameters.items() if value not in ("", None)})
        self.GET = query  # type: ignore[assignment]

    def build_absolute_uri(self, location: str | None = None) -> str:
        return location or self.GET.urlencode()


class Log:
    """Reads the log for the tools; each method is a tool, and its docstring what an agent reads about it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def stats(
        self,
        start: str = "now-1h",
        end: str = "now",
        group_by: str = "fingerprint",
        view: str = "",
        limit: int = 10,
    ) -> dict[str, Any]:
        """Load by group, highest first: group_by is fingerprint, view, route, release, table ..."""
        fields = _FIELDS["stats"] + (",sql" if group_by == "fingerprint" else "")
        chosen = {"group_by": group_by, "view": view, "limit": limit, "fields": fields}
        answer = self._list("StatsView", chosen, start, end)
        repeating = any(row.get("repeats") for row in answer.get("results", ()))
        following = ["repeats: one of these has an N+1"] if repeating else []
        return answer | {
            "next": [*following, "statement with a fingerprint", "stats with group_by=release or view"]
        }

    def findings(self, limit: int = 10) -> dict[str, Any]:
        """Problems that were found without being asked for: regressions, N+1 queries, locks. Begin here."""
        answer = self._get("FindingsView", {"limit": min(limit, ROWS_MAX), "fields": _FIELDS["findings"]})
        for name in ("next", "previous"):
            answer.pop(name, None)
        return answer | {
            "next": ["repeats for file, line and remedy of an N+1", "statement", "events", "stats"]
        }

    def requests(
        self,
        start: str = "now-1h",
        end: str = "now",
        view: str = "",
        ordering: str = "-elapsed_ms",
        limit: int = 10,
    ) -> dict[str, Any]:
        """Requests, commands and tasks with a summary of their queries, the slowest first."""
        chosen = {"view": view, "ordering": ordering, "limit": limit, "fields": _FIELDS["requests"]}
        following = ["trace with a trace_id", "repeats if worst_repeat is high"]
        return self._list("RequestsView", chosen, start, end) | {"next": following}

    def repeats(
        self, start: str = "now-1h", end: str = "now", view: str = "", limit: int = 10
    ) -> dict[str, Any]:
        """N+1 queries: file and line that run a statement repeatedly, and how to fix each."""
        chosen = {"view": view, "limit": limit, "fields": _FIELDS["repeats"]}
        following = ["change the line in call_site as advice says", "events: which release brought it"]
        return self._list("RepeatsView", chosen, start, end) | {"next": following}

    def trace(self, trace_id: str, limit: int = ROWS_MAX) -> dict[str, Any]:
        """The queries of one request in order."""
        chosen = {"limit": limit, "fields": _FIELDS["trace"]}
        answer = self._get("TraceView", chosen, trace_id=trace_id)
        answer.pop("spans", None)
        return answer | {"next": ["statement with a fingerprint"]}

    def statement(self, fingerprint: str, start: str = "now-1h", end: str = "now") -> dict[str, Any]:
        """One statement: its text, figures, call sites, routes and samples."""
        answer = self._get("FingerprintView", {"from": start, "to": end}, fingerprint=fingerprint)
        return answer | {"next": ["explain with the fingerprint", "repeats"]}

    def explain(self, fingerprint: str) -> dict[str, Any]:
        """The plan of a statement, without running it."""
        try:
            plan = read_explain.explain(fingerprint)
        except SQLLogsError as exc:
            return {"error": {"message": str(exc)}}
        return {"lines": list(plan.lines), "notes": [str(note) for note in plan.notes], "next": ["statement"]}

    def events(self, start: str = "now-1d", end: str = "now", limit: int = 10) -> dict[str, Any]:
        """Deploys and migrations, newest first."""
        chosen = {"limit": limit, "fields": _FIELDS["events"]}
        following = ["stats with start and end around an event", "stats with group_by=release"]
        return self._list("EventsView", chosen, start, end) | {"next": following}

    def health(self) -> dict[str, Any]:
        """Whether the log is complete: what it has captured, stored and dropped, and its oldest record."""
        return self._get("HealthView", {}) | {"next": ["stats"]}

    def _list(self, view: str, parameters: dict[str, Any], start: str, end: str) -> dict[str, Any]:
        limit = max(1, min(int(parameters["limit"]), ROWS_MAX))
        answer = self._get(view, {**parameters, "limit": limit, "from": start, "to": end})
        for name in ("next", "previous"):
            answer.pop(name, None)
        return answer

    def _get(self, view: str, parameters: Mapping[str, Any], **arguments: str) -> dict[str, Any]:
        from sqllogs.api import views  # with DRF, which no other subcommand needs

        response = getattr(views, view).as_view()(_Request(self._token, parameters), **arguments)
        answer: dict[str, Any] = orjson.loads(response.content)
        return {name: _shortened(value) for name, value in answer.items()}


def _shortened(value: Any) -> Any:
    """Cut long texts and lists."""
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

    def quietly(*args: Any, **kwargs: Any) -> str:
        with muted():
            return orjson.dumps(read(*args, **kwargs)).decode()

    @wraps(read)
    async def tool(*args: Any, **kwargs: Any) -> str:
        return await sync_to_async(quietly)(*args, **kwargs)

    tool.__annotations__ = {**read.__annotations__, "return": str}
    return tool


def server(token: str) -> Any:
    """Return the server with its tools; raise ImportError without the SDK."""
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    made = MCPServer("sqllogs", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    log = Log(token)
    for name in TOOLS:
        reading = ToolAnnotations(read_only_hint=True)
        made.tool(name=name, annotations=reading, structured_output=False)(_tool(getattr(log, name)))
    return made


def _add_arguments(parser: CommandParser) -> None:
    """Add none: the token must not be among the arguments."""


def _serve(command: BaseCommand, options: Mapping[str, Any]) -> None:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
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
