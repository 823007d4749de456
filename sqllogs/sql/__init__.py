"""Understand statements: normalize, redact, fingerprint, recognize an N+1 and suggest a remedy."""

import re
import sys
from typing import Any

# Before 3.11.5, a possessive group loses its match: https://github.com/python/cpython/issues/106052. A greedy
# group matches the same here, because its content is possessive; only a failure takes longer.
_HAS_POSSESSIVE_GROUPS = sys.version_info >= (3, 11, 5)
_POSSESSIVE_GROUP = r"\)([*+?])\+"


class Expression:
    """A regular expression that is compiled at its first use, because most processes need few of them."""

    METHODS = ("findall", "finditer", "fullmatch", "match", "search", "sub")

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern, self.flags = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name not in self.METHODS:
            raise AttributeError(name)
        pattern = self.pattern if _HAS_POSSESSIVE_GROUPS else re.sub(_POSSESSIVE_GROUP, r")\1", self.pattern)
        compiled = re.compile(pattern, self.flags)
        vars(self).update({method: getattr(compiled, method) for method in self.METHODS})
        return vars(self)[name]
