"""Loops in the code of packages from PyPI, with the advice that each must get."""
