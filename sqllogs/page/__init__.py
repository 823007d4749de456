"""Render the API's answers as HTML pages at the same URLs."""
