"""Texts for people in code and templates are plain English; tests/test_docs.py checks the Markdown pages."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Words and phrases that are not plain English here, see "How the code is written" in CONTRIBUTING.md.
ODD = re.compile(
    r"\b(?:tells?|told|anew|beneath|lately|mend(?:s|ed|ing)?|heed(?:s|ed|ing)?|(?:is|are) none|so many"
    r"|no longer, or not|takes the permission|to be asked for|not for you to)\b",
    re.IGNORECASE,
)
IS_NONE = re.compile(r"\bis None\b")  # Python's, in code examples

FOLDERS = {
    *(f"sqllogs/{path.name}" for path in (ROOT / "sqllogs").iterdir() if any(path.glob("**/*.py"))),
    *("benchmarks", "core", "grafana", "home", "transactions", "sqllogs/*.py"),
}


def files(folder):
    patterns = (
        ("*.py",) if folder.endswith("*.py") else ("**/*.py", "**/*.html", "**/*.txt", "**/*.yml", "**/*.js")
    )
    return [
        path for pattern in patterns for path in sorted((ROOT / folder.removesuffix("*.py")).glob(pattern))
    ]


def texts(path):
    """Yield line number and text of each comment and string of a Python file, of each line of another."""
    source = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for number, line in enumerate(node.value.splitlines()):
                yield node.lineno + number, line


def odd(folder):
    return [
        f"{path.relative_to(ROOT)}:{number}: {text.strip()}"
        for path in files(folder)
        for number, text in texts(path)
        if ODD.search(IS_NONE.sub("", text))
    ]


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_texts_are_in_plain_english(folder):
    assert odd(folder) == []


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.py", '"""First.\n\nThis tells you.\n"""\nx = f"{1} told"  # anew\ntold = None\n', [3, 5, 5]),
        ("a.py", "x = 1 if y is None else 2  # None is None\n", []),
        ("a.html", "<p>\nThere are none.\n</p>\n", [2]),
    ],
    ids=["python", "is None", "template"],
)
def test_odd_words_are_found_in_docstrings_comments_strings_and_templates(name, content, lines, tmp_path):
    (tmp_path / name).write_text(content)
    found = [number for number, text in texts(tmp_path / name) if ODD.search(IS_NONE.sub("", text))]
    assert sorted(found) == lines
