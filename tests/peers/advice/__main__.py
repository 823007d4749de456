"""`python -m tests.peers.advice`, as `make advice`: run the loops in an environment with their packages."""

import subprocess
import sys
from pathlib import Path

from core import virtualenv

ENVIRONMENT = Path(virtualenv.ROOT) / ".tox" / "advice"


def main() -> int:
    python = virtualenv.prepare("tests/peers/advice/requirements.txt", str(ENVIRONMENT))
    command = [python, "-W", "ignore", "-m", "tests.peers.advice.trial"]
    return subprocess.run(command, cwd=virtualenv.ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
