"""`python -m tests.peers`, as `make peers`: the suites of the peers lose no test beside sqllogs.

Runs each suite without and with the app, two at a time, and compares the outcome of each test.
A difference must be in `tests.peers.intended`, and what is there must still be a difference. After any other
difference the suite runs once more: silk has a test that compares times, which a busy machine fails.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from tests.peers.intended import INTENDED
from tests.peers.suites import PEERS, Peer, Run, prepare, run


def main() -> int:
    python = prepare()
    bad: list[str] = []
    seen: set[str] = set()
    runs = run_suites(PEERS, python)
    for peer in PEERS:
        without, beside = runs[peer.name]
        differing = differences(without, beside)
        if differing.keys() - INTENDED.keys():
            again = differences(*run_suites([peer], python)[peer.name])
            differing = lasting(differing, again)
        seen |= differing.keys()
        print(
            f"{peer}: {len(without.outcomes)} tests, {len(differing)} end differently beside sqllogs, "
            f"which recorded {beside.captured} queries and stored {beside.stored}."
        )
        bad += report(differing)
        if not beside.stored:
            bad.append(f"{peer}: nothing was recorded, so nothing was tried.")
    bad += [f"No longer a difference: {test}" for test in INTENDED.keys() - seen]
    for line in bad:
        print(line)
    return int(bool(bad))


def run_suites(peers: Collection[Peer], python: str) -> dict[str, tuple[Run, Run]]:
    """Run suites without and with the app; return both outcomes by the peer's name."""
    with ThreadPoolExecutor(2) as pool:
        runs = {
            (peer.name, is_with): pool.submit(run, peer, python, is_with_sqllogs=is_with)
            for peer, is_with in product(peers, (False, True))
        }
    return {peer.name: (runs[peer.name, False].result(), runs[peer.name, True].result()) for peer in peers}


def differences(without: Run, beside: Run) -> dict[str, str]:
    """Return what has become of each test that did not end as well as without us.

    A test that failed without us alone is lost to chance: silk has one that compares times.
    """
    tests = sorted(without.outcomes.keys() | beside.outcomes.keys())
    pairs = {
        test: (without.outcomes.get(test, "absent"), beside.outcomes.get(test, "absent")) for test in tests
    }
    return {
        test: f"{before} -> {after}"
        for test, (before, after) in pairs.items()
        if before != after and (before, after) != ("failed", "passed")
    }


def lasting(first: Mapping[str, str], second: Collection[str]) -> dict[str, str]:
    """Return the differences that are intended or came twice; print the others."""
    both = {test: change for test, change in first.items() if test in INTENDED or test in second}
    for test in first.keys() - both.keys():
        print(f"  In one of two runs: {test}: {first[test]}.")
    return both


def report(differing: dict[str, str]) -> Iterator[str]:
    """Print the differences that are intended; yield a line for each other one."""
    for test, change in differing.items():
        if test in INTENDED:
            print(f"  {test}: {change}. {INTENDED[test]}")
        else:
            yield f"NOT INTENDED: {test}: {change}"


if __name__ == "__main__":
    sys.exit(main())
