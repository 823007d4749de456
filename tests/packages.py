"""`python -m tests.packages FOLDER`, as `make package`: build the sdist, from it the wheel, and check both.

Fed by the working tree, feeds the folder. Beside what twine and check-wheel-contents look for,
the sdist must hold exactly the repository's files: nothing forgotten, and nothing that a run leaves behind.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_SHIPPED = (".ci/", ".gitattributes")
"""What pyproject.toml leaves out of the sdist."""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.tar.gz"), *folder.glob("*.whl")):
        old.unlink()  # or the checks would be of an older version too
    # Without isolation: with the backend that tests/package-requirements.txt pins.
    run("build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run("twine", "check", "--strict", sdist, wheel)
    run("check_wheel_contents", wheel)
    if difference := compare(shipped(sdist), tracked()):
        sys.exit("\n".join([f"{sdist.name} is not the repository:", *difference]))


def run(module: str, *arguments: str | Path) -> None:
    if code := subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False).returncode:
        sys.exit(code)


def shipped(sdist: Path) -> set[str]:
    """Return the paths of the files in a sdist, without its first folder and the metadata."""
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    return names - {"PKG-INFO"}


def tracked() -> set[str]:
    """Return the paths of the repository's files that are to be shipped; new ones need not be added yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {name for name in listed if not name.startswith(NOT_SHIPPED) and (ROOT / name).exists()}


def compare(found: set[str], wanted: set[str]) -> list[str]:
    """Return a line for each path that is missing or unexpected."""
    return [
        *(f"  missing: {name}" for name in sorted(wanted - found)),
        *(f"  unexpected: {name}" for name in sorted(found - wanted)),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
