"""Write the tables of docs/reference from the code that they describe, between two comments of each page.

Settings come from `sqllogs.conf`, fields from the models, checks and gauges from their source text,
commands from their parsers, the API from sqllogs/openapi.json. `python -m docs.generate` writes them,
`--check` fails if one is not current. A thing without a help text is an error. One thread.
"""

import ast
import inspect
import json
import os
import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
django.setup()

from django.core.management import find_commands, load_command_class  # noqa: E402
from django.core.management.base import BaseCommand  # noqa: E402

from sqllogs import conf  # noqa: E402
from sqllogs.metrics.families import DJANGO_DB, OWN  # noqa: E402
from sqllogs.models import SQLLog, Statement  # noqa: E402
from sqllogs.record import FIELD_TYPES  # noqa: E402

ROOT = Path(__file__).parent.parent
APP = ROOT / "sqllogs"
REFERENCE = ROOT / "docs" / "reference"
Row = tuple[str, ...]


class MissingHelpError(Exception):
    """Something that the reference lists has no help text in the code."""


def helped(what: str, text: str | None) -> str:
    """Return a help text on one line; raise MissingHelpError where there is none."""
    if not text:
        raise MissingHelpError(f"{what} has no help text.")
    return " ".join(text.split()).replace("|", "\\|")


def table(heads: Row, rows: Iterator[Row]) -> str:
    lines = [heads, ("-",) * len(heads), *rows]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell != '-' else '-' for cell in line)}|" for line in lines)


# Settings


def settings() -> str:
    return table(("Setting", "Type", "Default", "Range", "Meaning"), _settings())


def _settings() -> Iterator[Row]:
    texts, defaults = _texts_below_fields(conf.Conf), conf.Conf()
    for name, kinds in conf.NAMES.items():
        kind = " or ".join("None" if one is type(None) else one.__name__ for one in kinds)
        default = getattr(defaults, name.lower())
        shown = f"{default:_}" if type(default) is int else repr(default).replace("'", '"')
        meaning = helped(f"Setting {name}", texts.get(name.lower()))
        yield f"`{name}`", kind, f"`{shown}`", _range(name), meaning


def _range(name: str) -> str:
    least, most = conf._MINIMA.get(name), conf._MAXIMA.get(name)
    if least is None and most is None:
        return ""
    return f"{least:,} to {most:,}" if most is not None else f"{least:,} or more"


def _texts_below_fields(described: type) -> dict[str, str]:
    """Return the string literals that stand below the fields of a class."""
    body: Any = ast.parse(inspect.getsource(described)).body[0]
    return {
        getattr(field.target, "id", ""): ast.literal_eval(text.value)
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


# Fields of a record

OTHER_NAMES = {"id": "seq"}
"""Fields of the API that have another name in the table."""


def fields() -> str:
    return table(("Field", "Type", "Meaning"), _fields())


def _fields() -> Iterator[Row]:
    columns = {field.name: field for model in (Statement, SQLLog) for field in model._meta.get_fields()}
    for name, kind in FIELD_TYPES.items():
        column = columns[OTHER_NAMES.get(name, name)]
        shown = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
        text = helped(f"Field {name}", getattr(column, "help_text", ""))
        yield f"`{name}`", shown.replace(" | None", " or null"), text


# System checks

CHECK_ID = re.compile(r"sqllogs\.[EWI]\d{3}")


def checks() -> str:
    rows = sorted(set(_checks()), key=lambda row: (row[0][-4:], row))
    return table(("Id", "Message", "Hint"), iter(rows))


def _checks() -> Iterator[Row]:
    paths = sorted(APP.rglob("*.py"))
    everywhere = {name: text for path in paths for name, text in _constants(path)}
    for path in paths:
        constants = everywhere | dict(_constants(path))
        for call in _calls(path):
            words = {word.arg: word.value for word in call.keywords}
            number = getattr(words.get("id"), "value", None)
            if isinstance(number, str) and CHECK_ID.fullmatch(number):
                message = next(one for one in call.args if _is_text(one))
                texts = (_text(one, constants) for one in (message, words.get("hint", words.get("lines"))))
                yield f"`{number}`", *(helped(f"Check {number}", text) for text in texts)


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node


def _constants(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield getattr(node.targets[0], "id", ""), str(node.value.value)


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):  # _("...") % {...}
        return _is_text(node.left)
    if isinstance(node, ast.Call):  # _("...")
        return getattr(node.func, "id", "") == "_"
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _text(node: ast.expr | None, constants: dict[str, str]) -> str | None:
    """Return a text of the source; what is filled in at run time is an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Call) and _is_text(node):
        return PLACEHOLDER.sub("…", _text(node.args[0], constants) or "")
    if isinstance(node, ast.BinOp) and _is_text(node):
        return _translated(node, constants)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one, constants) or "" for one in node.values)
    if isinstance(node, ast.FormattedValue):
        node = node.value
    return None if node is None else constants.get(getattr(node, "id", ""), "…")


PLACEHOLDER = re.compile(r"%\(\w+\)[rs]")


def _translated(node: ast.BinOp, constants: dict[str, str]) -> str:
    """Return a text with the constants that are filled into it."""
    values = node.right
    text = _text(next(one for one in ast.walk(node.left) if isinstance(one, ast.Constant)), {}) or ""
    if isinstance(values, ast.Dict):
        for key, value in zip(values.keys, values.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Name) and value.id in constants:
                text = text.replace(f"%({key.value})s", constants[value.id])
    return PLACEHOLDER.sub("…", text)


# Metrics


def metrics() -> str:
    return table(("Metric", "Type", "Labels", "Meaning"), _families(OWN))


def django_metrics() -> str:
    return table(("Metric", "Type", "Labels", "Meaning"), _families(DJANGO_DB))


def _families(families: Any) -> Iterator[Row]:
    for one in families:
        kind = {"sum": "gauge", "max": "gauge"}.get(one.kind, one.kind)
        if one.kind == "histogram":
            kind += f", {one.buckets[0]:g} to {one.buckets[-1]:g}"
        name = one.name + "_total" * (one.kind == "counter")
        yield f"`{name}`", kind, ", ".join(one.labels), helped(f"Metric {name}", one.help)


def gauges() -> str:
    return table(("Metric", "Type", "Labels", "Meaning"), _gauges())


def _gauges() -> Iterator[Row]:
    for path in sorted((APP / "metrics").glob("*.py")):
        constants = dict(_constants(path))
        for call in _calls(path):
            if getattr(call.func, "id", "") == "GaugeMetricFamily":
                name, text = (_text(one, constants) for one in call.args[:2])
                given = [ast.literal_eval(word.value) for word in call.keywords if word.arg == "labels"]
                labels = ", ".join(label for labels in given for label in labels)
                yield f"`{name}`", "gauge", labels, helped(f"Metric {name}", text)


# Commands

GIVEN_BY_DJANGO = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}
FILTERS = "filters"
"""Title of the group of options that several commands share."""


def commands() -> str:
    found: list[str] = []
    for name in sorted(find_commands(str(APP / "management")), reverse=True):
        parser = load_command_class("sqllogs", name).create_parser("manage.py", name)
        found += _command(f"manage.py {name}", parser, parser.description)
    return "\n\n".join(found)


def _command(name: str, parser: ArgumentParser, about: str | None) -> Iterator[str]:
    own = [action for action in parser._actions if action.dest not in GIVEN_BY_DJANGO]
    nested = [action for action in own if isinstance(action, _SubParsersAction)]
    filters = {id(one) for group in parser._action_groups for one in _of_filters(group)}
    plain = [one for one in own if one not in nested and id(one) not in filters and one.help is not SUPPRESS]
    if not nested:
        depth = "#" * 3
        yield f"{depth} {name}"
        yield helped(name, about) + (" Takes the [filters](#filters)." if filters else "")
        if plain:
            yield table(("Option", "Meaning"), (_option(name, one) for one in plain))
    for action in nested:
        abouts = {choice.dest: choice.help for choice in action._choices_actions}
        for choice, inner in action.choices.items():
            yield from _command(f"{name} {choice}", inner, inner.description or _sentence(abouts[choice]))


def _sentence(text: str | None) -> str | None:
    return text and f"{text[0].upper()}{text[1:]}."


def _of_filters(group: Any) -> list[Action]:
    return group._group_actions if group.title == FILTERS else []


def _option(command: str, action: Action) -> Row:
    value = str(action.metavar or action.dest.upper())
    names = action.option_strings or [value]
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 or not action.option_strings else f" {value}"
    text = helped(f"{command} {names[-1]}", action.help)
    shown = f"{', '.join(names)}{value}".replace("|", "\\|")
    return f"`{shown}`", (text % vars(action) if "%(" in text else text)


def filters() -> str:
    parser = load_command_class("sqllogs", "sqllogs").create_parser("manage.py", "sqllogs")
    (subcommands,) = (one for one in parser._actions if isinstance(one, _SubParsersAction))
    groups = {group.title: group for group in subcommands.choices["tail"]._action_groups}
    options = groups[FILTERS]._group_actions
    return table(("Option", "Meaning"), (_option("filters", one) for one in options))


# The API

OPENAPI = json.loads((APP / "openapi.json").read_text())


def addresses() -> str:
    return table(("Address", "Answer"), _addresses())


def _addresses() -> Iterator[Row]:
    for path, methods in OPENAPI["paths"].items():
        for one in methods.values():
            yield f"`{path}`", helped(path, one.get("description"))


def parameters() -> str:
    return table(("Parameter", "Values", "Meaning", "Not for"), _parameters())


def _parameters() -> Iterator[Row]:
    texts: dict[str, str] = {}
    values: dict[str, str] = {}
    takes: dict[str, set[str]] = {}
    lists = {path: one["get"]["parameters"] for path, one in OPENAPI["paths"].items() if path in LISTS}
    for path, described in lists.items():
        for one in described:
            if one["in"] == "query":
                name = one["name"]
                texts[name] = helped(f"Parameter {name} of {path}", one.get("description"))
                values.setdefault(name, _values(name, one["schema"]))
                takes.setdefault(name, set()).add(path)
    for name in sorted(texts):
        lacking = [path for path in lists if path not in takes[name]]
        some = ", ".join(f"`{path}`" for path in lacking)
        only = ", ".join(f"`{path}`" for path in lists if path in takes[name])
        yield f"`{name}`", values[name], texts[name], f"all but {only}" if len(lacking) > 3 else some


LISTS = [path for path in OPENAPI["paths"] if path not in ("/{id}/", "/health/", "/settings/")]


def _values(name: str, schema: dict[str, Any]) -> str:
    if name in ("ordering", "group_by"):
        return "see below"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"] if one)
    if "minimum" in schema:
        return f"{schema['type']}, {schema['minimum']:,} to {schema['maximum']:,.0f}"
    return "text"


# Pages

SECTIONS: dict[str, Callable[[], str]] = {
    "settings.md settings": settings,
    "fields.md fields": fields,
    "checks.md checks": checks,
    "metrics.md metrics": metrics,
    "metrics.md django metrics": django_metrics,
    "metrics.md gauges": gauges,
    "commands.md commands": commands,
    "commands.md filters": filters,
    "api.md addresses": addresses,
    "api.md parameters": parameters,
}
"""By page and name of the section."""


def current(page: str) -> str:
    """Return the text that a page of the reference must have."""
    text = (REFERENCE / page).read_text()
    for key, made in SECTIONS.items():
        if key.startswith(f"{page} "):
            begin, end = f"<!-- from the code: {key.partition(' ')[2]} -->", "<!-- end -->"
            before, found, rest = text.partition(begin)
            if not found:
                raise MissingHelpError(f"docs/reference/{page} has no line {begin}")
            text = f"{before}{begin}\n\n{made()}\n\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    pages = sorted({key.partition(" ")[0] for key in SECTIONS})
    stale = {page: text for page in pages if (text := current(page)) != (REFERENCE / page).read_text()}
    if stale and "--check" in sys.argv:
        sys.exit(f"Not current in docs/reference: {', '.join(stale)}. Run `make reference`.")
    for page, text in stale.items():
        (REFERENCE / page).write_text(text)


if __name__ == "__main__":
    try:
        main()
    except MissingHelpError as exc:
        sys.exit(str(exc))
