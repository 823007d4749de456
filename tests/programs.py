"""Programs that tests start and pip cannot install: where they are, and the command that installs them.

Only the standard library: tests/install.py uses this before anything is installed.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from glob import glob
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    names: tuple[str, ...]
    """Any of these will do."""
    folders: tuple[str, ...]
    """Where to look after PATH, as glob patterns; of two matches the newer version is taken."""
    debian: str
    homebrew: str


class MissingProgramError(Exception):
    """A program is not on this machine; the message has the command that installs it."""


HOMEBREW = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")
INITDB = Program(
    names=("initdb",),
    folders=("/usr/lib/postgresql/*/bin", *(f"{prefix}/opt/postgresql@*/bin" for prefix in HOMEBREW)),
    debian="postgresql",
    homebrew="postgresql@15",
)
CHROMIUM = Program(
    names=("chromium", "chromium-browser", "google-chrome", "Chromium", "Google Chrome"),
    folders=("/Applications/*.app/Contents/MacOS",),
    debian="chromium",
    homebrew="--cask chromium",
)
PGBOUNCER = Program(names=("pgbouncer",), folders=("/usr/sbin",), debian="pgbouncer", homebrew="pgbouncer")
MARIADBD = Program(names=("mariadbd",), folders=("/usr/sbin",), debian="mariadb-server", homebrew="mariadb")
MARIADB_INSTALL = Program(
    names=("mariadb-install-db",), folders=(), debian="mariadb-server", homebrew="mariadb"
)
CURL = Program(names=("curl",), folders=(), debian="curl", homebrew="curl")
PROMETHEUS = Program(names=("prometheus",), folders=(), debian="prometheus", homebrew="prometheus")
NODE = Program(names=("node", "nodejs"), folders=(), debian="nodejs", homebrew="node")
NPM = Program(names=("npm",), folders=(), debian="npm", homebrew="node")
PROMTOOL = Program(names=("promtool",), folders=(), debian="prometheus", homebrew="prometheus")


def find(program: Program) -> Path:
    """Return a program's path; raise MissingProgramError when it is nowhere."""
    folders = [*_path(), *(folder for pattern in program.folders for folder in _newest_first(pattern))]
    for name in program.names:
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    raise MissingProgramError(f"{program.names[0]} is missing. Install it: {command(program)}")


def missing(*programs: Program) -> list[Program]:
    lacking = []
    for program in programs:
        try:
            find(program)
        except MissingProgramError:
            lacking.append(program)
    return lacking


def command(*programs: Program) -> str:
    """Return the command that installs programs on this kind of machine."""
    if sys.platform == "darwin":
        formulas = dict.fromkeys(program.homebrew for program in programs)
        return " && ".join(f"brew install {formula}" for formula in formulas)
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install --yes {' '.join(dict.fromkeys(program.debian for program in programs))}"


def _path() -> list[str]:
    """Return PATH and the folder that PostgreSQL's pg_config prints."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if pg_config := shutil.which("pg_config"):
        printed = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(printed.stdout.strip())
    return folders


def _newest_first(pattern: str) -> list[str]:
    return sorted(glob(pattern), key=lambda folder: (len(folder), folder), reverse=True)  # 9 is before 15
