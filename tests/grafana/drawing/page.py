"""Install Grafana's components with npm and bundle the page that draws dashboards, in build/drawing.

Called by `python -m tests.grafana.drawing` and by the fixture of tests/grafana/test_pictures.py; does
nothing while its sources are unchanged.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.programs import NODE, NPM, find

SOURCES = Path(__file__).parent
BUILD = SOURCES.parents[2] / "build" / "drawing"
NPM_CI = ("ci", "--legacy-peer-deps", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund")
"""Scripts of packages are not run: esbuild's binary is a package of its own."""
_PACKAGES = ("package.json", "package-lock.json")


def bundled() -> Path:
    """Return the folder of node_modules and of dist/, rebuilt if the sources have changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    if _is_new("packages", [SOURCES / name for name in _PACKAGES]):
        _copy(*_PACKAGES)
        _run(find(NPM), *NPM_CI, "--ignore-scripts")
        _done("packages", [SOURCES / name for name in _PACKAGES])
    sources = [SOURCES / "build.mjs", SOURCES / "shoot.mjs", *sorted((SOURCES / "src").iterdir())]
    if _is_new("sources", sources):
        shutil.rmtree(BUILD / "src", ignore_errors=True)
        _copy("build.mjs", "shoot.mjs", "src")
        _run(find(NODE), "build.mjs")
        _done("sources", sources)
    return BUILD


def _copy(*names: str) -> None:
    for name in names:
        copy = shutil.copytree if (SOURCES / name).is_dir() else shutil.copy
        copy(SOURCES / name, BUILD / name)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=BUILD, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _is_new(name: str, paths: list[Path]) -> bool:
    stamp = BUILD / f"{name}.sha256"
    return not stamp.exists() or stamp.read_text() != _digest(paths)


def _done(name: str, paths: list[Path]) -> None:
    (BUILD / f"{name}.sha256").write_text(_digest(paths))
