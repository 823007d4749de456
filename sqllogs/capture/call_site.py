"""Find and format call sites: the line of application code, or else of a library, that sent a query.

`FrameFinder` is called by `sqllogs.capture.wrapper` in the caller's thread, `CallSites` by
`sqllogs.pipeline.resolver` in the writer's thread.
"""

import os
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from importlib.util import find_spec
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType

import asgiref
import django

import sqllogs
from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.sql.text import text_of

MAX_CHARACTERS = 300
"""Length of the column. Not read from the model, which is loaded after this module."""
FILES_MAX = 10_000
"""File names remembered; beyond it the memory is cleared."""
RENDERING_SEARCHES_MAX = 200
"""After this many queries from a file of which none was sent while rendering, the rest are not searched."""
SITES_MAX = 10_000
"""Formatted call sites remembered; beyond it the memory is cleared."""

INSTRUMENTATION = frozenset(
    """
    appsignal cachalot cacheops ddtrace debug_toolbar django_prometheus easy_profile elasticapm instana
    logfire newrelic nplusone opentelemetry pyinstrument querycount rollbar scout_apm sentry_sdk silk
    solarwinds_apm wrapt zeal
    """.split()  # noqa: SIM905
)
"""Installed packages that wrap cursors, querysets or views: their code is never the origin of a query."""

LIBRARY_MARK = "~"
"""Prefix of a call site in a library, as in `~wagtail/models/pages.py:9 get_url`.

Used if no application code is on the stack.
"""


class Source(Enum):
    """What a file contains."""

    APPLICATION = 1
    LIBRARY = 2
    IGNORED = 3
    """Django, the standard library, instrumentation, generated code and launchers are never a call site."""
    BOUNDARY = 4
    """Django calls a view, middleware or command here. Code further up only passes the request on."""
    NODES = 5
    """Renders the nodes of templates."""
    FIELDS = 6
    """Django REST framework's module that renders the fields of serializers; also a library."""
    CHOICES = 7
    """Renders what is expected to query: form choices, cached template fragments, template filters."""
    TEMPLATE = 8
    """Application code that is not Python, such as a template that Jinja2 has compiled."""


LIBRARIES = frozenset({Source.LIBRARY, Source.FIELDS})
APPLICATION = frozenset({Source.APPLICATION, Source.TEMPLATE})
RENDERING = frozenset({Source.NODES, Source.FIELDS, Source.CHOICES, Source.TEMPLATE})

_paths = sysconfig.get_paths()


def _folders(*paths: str) -> tuple[str, ...]:
    # They end with a separator, because /app/sqllogs_extra is not in /app/sqllogs.
    return tuple(os.path.join(os.path.realpath(path), "") for path in paths)


_FRAMEWORK = _folders(*(module.__path__[0] for module in (asgiref, django, sqllogs)))
_LIBRARIES = _folders(_paths["purelib"], _paths["platlib"], *site.getsitepackages())
_LIBRARY_FOLDERS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD_LIBRARY = _folders(_paths["stdlib"], _paths["platstdlib"])
_NODES = os.path.join(_FRAMEWORK[1], "template", "base.py")
_FIELDS = tuple(
    os.path.join("rest_framework", f"{name}.py") for name in ("fields", "relations", "serializers")
)
_CHOICES = tuple(
    os.path.join(_FRAMEWORK[1], *path)
    for path in (("forms", "models.py"), ("templatetags", "cache.py"), ("template", "defaultfilters.py"))
)
_JINJA_LOOPS = ("QuerySet.__", "LoopContext.")
_LIST_METHODS = frozenset({"__iter__", "__next__", "__len__", "__bool__"})
_JINJA_FILTERS = tuple(os.path.join("jinja2", name) for name in ("filters.py", "async_utils.py"))
_BOUNDARIES = (
    *(os.path.join(_FRAMEWORK[1], "core", "handlers", name) for name in ("base.py", "exception.py")),
    os.path.join(_FRAMEWORK[1], "core", "management", "base.py"),
    os.path.join(_FRAMEWORK[2], "middleware.py"),  # iterates a streamed body, outside Django's handlers
)


class SourceFiles:
    """Classify source files. `application` is the setting; if empty, all code not installed counts."""

    def __init__(self, application: Sequence[str] = ()) -> None:
        self._application = tuple(path for name in application for path in application_paths(name))
        self._is_explicit = bool(application)
        self.source: Callable[[str], Source] = lru_cache(maxsize=FILES_MAX)(self._source)

    def _source(self, filename: str) -> Source:
        # realpath(), because virtual environments and release folders are often symbolic links.
        path = os.path.realpath(filename)
        if filename.startswith("<"):
            return Source.IGNORED
        if path.startswith(_FRAMEWORK):
            return _framework_source(path)
        # Before the libraries, so that the setting can name an installed package of the company.
        if path.startswith(self._application):  # False if the setting is empty
            return _application_source(path)
        if path.startswith(_LIBRARIES) or any(folder in path for folder in _LIBRARY_FOLDERS):
            package = _installed_path(path).partition(os.sep)[0]
            # Otherwise all queries of a generic view would have the same call site, in the wrapper.
            if package in INSTRUMENTATION:
                return Source.IGNORED
            return Source.FIELDS if path.endswith(_FIELDS) else Source.LIBRARY
        # After the libraries, because site-packages is inside the standard library's folder.
        if path.startswith(_STANDARD_LIBRARY) or _is_launcher(path):
            return Source.IGNORED
        return Source.LIBRARY if self._is_explicit else _application_source(path)


def _application_source(path: str) -> Source:
    # Scripts have no extension.
    return Source.APPLICATION if os.path.splitext(path)[1] in ("", ".py") else Source.TEMPLATE


def _framework_source(path: str) -> Source:
    if path in _BOUNDARIES:
        return Source.BOUNDARY
    if path in _CHOICES:
        return Source.CHOICES
    return Source.NODES if path == _NODES else Source.IGNORED


def application_paths(name: str) -> list[str]:
    """Return the folders and files that an item of APPLICATION, a path or package name, stands for."""
    if os.sep in name or name.startswith((".", "~")):
        paths = [os.path.expanduser(name)]
    else:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return []
        paths = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    return [os.path.realpath(path) if path.endswith(".py") else _folders(path)[0] for path in paths]


def _installed_path(path: str) -> str:
    """Return the path relative to site-packages; any other path unchanged."""
    for folder in _LIBRARY_FOLDERS:
        path = path.rpartition(folder)[2]
    return path


def _is_launcher(path: str) -> bool:
    """Return True for entry points: manage.py, `__main__.py`, scripts in the interpreter's folder."""
    folder, name = os.path.split(path)
    if name in ("manage.py", "__main__.py"):
        return True
    return not name.endswith(".py") and any(
        os.path.exists(os.path.join(folder, python)) for python in ("python", "python3", "python.exe")
    )


def rendered_by(source: Source, frame: FrameType, known: str | None) -> str | None:
    """Return the template node or serializer field being rendered; empty if it is expected to query.

    `known` is what an inner frame renders, which takes precedence. Only names are kept, no objects.
    """
    if source is Source.CHOICES:
        return ""
    if known is not None:
        return known
    function = frame.f_code.co_name
    if source is Source.TEMPLATE:
        return _jinja_line(frame)
    if function == "render_annotated":
        node = frame.f_locals.get("self")
        origin, token = getattr(node, "origin", None), getattr(node, "token", None)
        if origin is None or token is None:
            return None
        return f"{origin.name}:{token.lineno} {type(node).__name__}"
    if function in ("get_attribute", "to_representation"):
        field = frame.f_locals.get("self")
        name, parent = getattr(field, "field_name", None), getattr(field, "parent", None)
        return f"{type(parent).__name__}.{name}" if name and parent is not None else None
    return None


def _jinja_line(frame: FrameType) -> str | None:
    """Return file and line of a template that Jinja2 has compiled, and the node of Django that is like it."""
    lines = frame.f_globals.get("debug_info")  # 1=12&3=15: line of the template, line of the code
    if type(lines) is not str:
        return None
    found = 0
    for pair in lines.split("&"):
        line, _, compiled = pair.partition("=")
        if not compiled.isdecimal() or int(compiled) > (frame.f_lineno or 0):
            break
        found = int(line)
    inner = sys._getframe(1)
    while inner.f_back is not None and inner.f_back is not frame:
        inner = inner.f_back
    code = inner.f_code
    # A loop or a filter reads a list itself; for an expression, Jinja2 calls what it names.
    is_loop = (
        code.co_qualname.startswith(_JINJA_LOOPS)
        or code.co_name in _LIST_METHODS  # such as those of a page of Django's Paginator
        or bool(code.co_flags & CO_GENERATOR)
        or code.co_filename.endswith(_JINJA_FILTERS)
    )
    return f"{frame.f_code.co_filename}:{found} {'ForNode' if is_loop else 'VariableNode'}"


class FrameFinder:
    """Find the frame of a call site, in any thread.

    Most of the cost is reading `f_back`: since Python 3.11 this creates a frame object, which is half of
    all instructions of a captured query. The depth is not limited, but the search ends where Django calls
    the view.
    """

    def __init__(self, application: Sequence[str] = ()) -> None:
        self.source = self._source = SourceFiles(application).source
        self._ignored: set[str] = set()
        self._known: set[str] = set()
        """Ignored files and libraries."""
        self._searches: dict[str, int] = {}
        """By file: how many of its queries were searched."""
        self._never_rendering: set[str] = set()
        """Files whose queries were searched often enough without finding anything."""

    def find(self, frames: int) -> tuple[FrameType | None, str | None]:  # noqa: C901 - a call costs more
        """Return the nearest frame of application code, else of a library, and what it is rendering.

        A library's template tag that only renders the nodes within it is no call site: every query of every
        page would have that one.

        `frames` is the number of frames between the wrapper, two calls up, and the cursor's caller.
        """
        try:
            frame: FrameType | None = sys._getframe(3 + frames)
        except ValueError as exc:
            if guard.must_propagate(exc):
                raise
            return None, None  # the thread's first function is the cursor's method
        library: FrameType | None = None
        rendering: str | None = None
        has_nodes = is_passing_on = False
        # A plain set, because a dict with `__missing__` or the cached function costs three calls per frame.
        skipped = self._ignored
        while frame is not None:
            filename = frame.f_code.co_filename
            if filename not in skipped:
                source = self._source(filename)
                if source is Source.APPLICATION:
                    if rendering is None and filename not in self._never_rendering:
                        rendering = self._around(frame, filename)
                    return frame, rendering
                if source is Source.BOUNDARY:
                    return library, rendering
                if source in RENDERING:
                    # These files are never skipped, so only queries sent while rendering pay for this.
                    rendering = rendered_by(source, frame, rendering)
                    if source is Source.TEMPLATE:
                        return frame, rendering
                    if source is Source.NODES:
                        has_nodes = True
                        if is_passing_on:
                            # A tag such as sekizai's `render_block`: nodes inside and outside of it.
                            library, is_passing_on, skipped = None, False, self._ignored
                elif filename not in self._known:
                    self._add(filename, source)
                if source in LIBRARIES and library is None:
                    library, is_passing_on = frame, has_nodes
                    skipped = self._known
            frame = frame.f_back
        return library, rendering

    def _around(self, frame: FrameType, filename: str) -> str | None:
        """Return what is rendered by the callers of a property, tag or method of the application."""
        outer = frame.f_back
        rendering: str | None = None
        while outer is not None:
            # A lazy object in the context queries on first use, wherever that is: not the template's fault.
            if outer.f_code.co_qualname == "SimpleLazyObject._setup":
                break
            source = self._source(outer.f_code.co_filename)
            if source is Source.BOUNDARY:
                break
            if source in RENDERING:
                rendering = rendered_by(source, outer, rendering)
            outer = outer.f_back
        if len(self._searches) >= FILES_MAX:
            self._searches.clear()
            self._never_rendering.clear()
        # Once a query was sent while rendering, the file is searched for a long time.
        searches = self._searches.get(filename, 0) + (-FILES_MAX if rendering else 1)
        self._searches[filename] = searches
        if searches >= RENDERING_SEARCHES_MAX:
            self._never_rendering.add(filename)
        return rendering

    def _add(self, filename: str, source: Source) -> None:
        # Compiled templates and exec() can produce any number of file names.
        if len(self._known) >= FILES_MAX:
            self._known.clear()
            self._ignored.clear()
        self._known.add(filename)
        if source is Source.IGNORED:
            self._ignored.add(filename)


class CallSites:
    """Format call sites as `path/file.py:line function`; for use in one thread."""

    def __init__(self, conf: Conf) -> None:
        # Relative paths are the same on every host and in every release, so call sites can be compared.
        self._root = os.path.join(os.path.realpath(Path.cwd()), "")
        self._source = SourceFiles(conf.application).source
        # The value keeps the code object alive, so that its id stays unique. The object is not the key
        # itself, because hashing it walks its bytecode (0.6-2 us).
        self._names: dict[tuple[int, int], tuple[CodeType, str]] = {}
        self._renderings: dict[str, str] = {}

    def name(self, code: CodeType, lasti: int) -> str:
        found = self._names.get((id(code), lasti))
        if found is None:
            if len(self._names) >= SITES_MAX:
                self._names.clear()
            found = self._names[id(code), lasti] = (code, self._resolve(code, lasti))
        return found[1]

    def _resolve(self, code: CodeType, lasti: int) -> str:
        path = self._shorten(os.path.realpath(code.co_filename))
        if self._source(code.co_filename) not in APPLICATION:
            path = LIBRARY_MARK + path
        line = next((line for start, end, line in code.co_lines() if start <= lasti < end), None)
        return text_of(f"{path}:{line or code.co_firstlineno} {code.co_qualname}")[:MAX_CHARACTERS]

    def shorten(self, rendering: str) -> str:
        """Return what was rendered, with the template's path shortened like that of a call site."""
        if rendering not in self._renderings:
            if len(self._renderings) >= SITES_MAX:
                self._renderings.clear()
            path, colon, rest = rendering.rpartition(":")
            short = self._shorten(os.path.realpath(path)) if os.path.isabs(path) else path
            self._renderings[rendering] = text_of(f"{short}{colon}{rest}")[:MAX_CHARACTERS]
        return self._renderings[rendering]

    def _shorten(self, path: str) -> str:
        """Return the path relative to the project, or to site-packages."""
        return _installed_path(path).removeprefix(self._root)
