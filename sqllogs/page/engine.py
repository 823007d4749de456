"""Fill in the templates of the page.

An engine of our own: the page works in a project without TEMPLATES, and no context
processor of the host's sends queries of its own for it. Used in the reader's thread.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from django.template import Context, Engine

TEMPLATES = Path(__file__).parent.parent / "templates"


@cache
def _engine() -> Engine:
    return Engine(dirs=[str(TEMPLATES)], builtins=["django.templatetags.static", "sqllogs.page.tags"])


def fill_in(template: str, values: Mapping[str, Any]) -> str:
    # Ids are part of addresses: they must not get the host project's thousands separator.
    return str(_engine().get_template(f"sqllogs/{template}").render(Context(dict(values), use_l10n=False)))
