"""`python -m tests.install`, before the tests: make sure of the programs that pip cannot install.

As root on Debian, or in CI, missing ones are installed; elsewhere this ends with the command to type.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import (
    CHROMIUM,
    CURL,
    INITDB,
    MARIADB_INSTALL,
    MARIADBD,
    NODE,
    NPM,
    PGBOUNCER,
    PROMETHEUS,
    PROMTOOL,
    command,
    missing,
)

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian's own way to forbid the start of services, by its exit code of 101."""
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/no-cluster-for-tests.conf")


def main() -> None:
    needed = missing(
        INITDB, CHROMIUM, CURL, MARIADBD, MARIADB_INSTALL, NODE, NPM, PGBOUNCER, PROMETHEUS, PROMTOOL
    )
    if not needed:
        return
    install = command(*needed)
    is_trusted = os.geteuid() == 0 or os.environ.get("CI") == "true"
    if not (is_trusted and shutil.which("apt-get")):
        sys.exit(f"The tests need programs that are missing. Install them: {install}")
    update = install.split("install")[0] + "update"
    with without_cluster(), without_services():
        for line in (update, install):
            print(f"Installing what the tests need: {line}", flush=True)
            subprocess.run(shlex.split(line), env=os.environ | QUIET, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def without_services() -> Iterator[None]:
    """Keep Debian's packages from starting servers, unless the machine has said so itself."""
    is_ours = os.geteuid() == 0 and not POLICY.exists()
    if is_ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if is_ours:
            POLICY.unlink()


@contextmanager
def without_cluster() -> Iterator[None]:
    """Keep Debian's package from creating and starting a server, which the tests do not need."""
    if os.geteuid() == 0:
        NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        NO_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        yield
    finally:
        NO_CLUSTER.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
