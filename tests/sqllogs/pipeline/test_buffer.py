"""The buffer keeps its bounds and its counts, whatever enters it from where."""

import signal
import threading

import pytest

from sqllogs.capture import Captured
from sqllogs.pipeline.buffer import Buffer
from sqllogs.threads import Tally


def captured(sql: str = "SELECT 1") -> tuple:
    made = {
        "sql": sql, "sql_length": -1, "alias": "default", "vendor": "sqlite", "many": False,
        "in_transaction": False, "rowcount": -1, "lasti": 0,
    }  # fmt: skip
    return tuple(Captured(**(dict.fromkeys(Captured._fields) | {"time_ns": 1, "execute_ns": 1} | made)))


def buffer(rows_max: int = 10, bytes_max: int = 1 << 20) -> Buffer:
    return Buffer(rows_max=rows_max, bytes_max=bytes_max)


def dropped(full: Buffer) -> dict[str, int]:
    return {reason: tally.value for reason, tally in full.dropped.items()}


def test_full_buffer_drops_newest_and_counts_it():
    full = buffer(rows_max=3)
    for number in range(5):
        full.put(captured(f"SELECT {number}"))
    assert [item[2] for item in full.drain(10)] == ["SELECT 0", "SELECT 1", "SELECT 2"]
    assert dropped(full) == {"buffer_rows": 2, "buffer_bytes": 0}
    assert full.captured == 5


def test_long_statements_reach_the_byte_bound_first():
    full = buffer(rows_max=1000, bytes_max=100 * 1024)
    for _ in range(20):
        full.put(captured("x" * 20_000))
    assert len(full) == 5
    assert dropped(full) == {"buffer_rows": 0, "buffer_bytes": 15}


@pytest.mark.parametrize("length", [10, 500, 800, 5_000, 60_000])
def test_held_bytes_are_never_less_than_the_records_hold(length):
    full = buffer(rows_max=1000, bytes_max=1 << 30)
    for _ in range(100):
        full.put(captured("é" * length))
    assert full.held_bytes >= 100 * length


def test_draining_gives_the_bytes_back():
    full = buffer(rows_max=1000, bytes_max=1 << 20)
    for _ in range(30):
        full.put(captured("x" * 30_000))
    full.drain(30)
    assert full.held_bytes == 0


def test_drain_takes_the_oldest_up_to_the_limit():
    full = buffer()
    for number in range(5):
        full.put(captured(str(number)))
    assert [item[2] for item in full.drain(2)] == ["0", "1"]
    assert len(full) == 3


def test_half_full_buffer_wakes_the_writer_once():
    full = buffer(rows_max=10)
    for _ in range(10):
        full.put(captured())
    assert full.waker.qsize() == 1
    full.drain(10)
    for _ in range(10):
        full.put(captured())
    assert full.waker.qsize() == 2


def test_no_record_of_many_threads_is_lost_or_counted_twice():
    full = buffer(rows_max=20_000, bytes_max=1 << 30)
    threads = [
        threading.Thread(target=lambda: [full.put(captured("x" * 3000)) for _ in range(2000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    drained = 0
    while any(thread.is_alive() for thread in threads) or len(full):
        drained += len(full.drain(500))
    assert drained == full.captured == 16_000
    assert full.held_bytes == 0


def test_signal_handler_may_put_while_a_put_is_under_way():
    full = buffer(rows_max=1_000_000, bytes_max=1 << 30)
    inside = []

    def handler(signum, frame):
        full.put(captured())
        inside.append(1)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        puts = 0
        while len(inside) < 50:
            full.put(captured())
            puts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert full.captured == puts + len(inside) == len(full)


def test_reading_a_tally_does_not_change_it():
    tally = Tally()
    tally.add()
    tally.add()
    assert [tally.value, tally.value, tally.value] == [2, 2, 2]
    tally.add()
    assert tally.value == 3
