"""Stub."""


def install() -> None: ...
