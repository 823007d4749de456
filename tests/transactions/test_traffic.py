"""What the generator of traffic sends is counted by outcome."""

import socket

from transactions.traffic import Traffic


def test_request_without_an_answer_is_given_up_after_the_caller_s_time():
    """A busy machine answers late, and a count must not depend on that."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traffic = Traffic(f"http://127.0.0.1:{silent.getsockname()[1]}", 20, timeout_s=0.2)
        traffic.run(1)
    outcomes = {name for counts in traffic.tally._outcomes.values() for name in counts}
    assert outcomes == {"ReadTimeout"}
