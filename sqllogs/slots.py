"""Where the ring keeps a number: `slot = seq % capacity`. Used by its writers and its readers."""


def slot_ranges(first: int, last: int, capacity: int) -> list[tuple[int, int]]:
    """Return the one or two runs of slots that hold the numbers from `first` to `last`, oldest first."""
    low, high = first % capacity, last % capacity
    return [(low, high)] if low <= high else [(low, capacity - 1), (0, high)]
