"""Show the answers of `sqllogs.views` as pages, in a browser, at the same addresses.

Fed with what the JSON is made of; runs in the reader's thread and queries nothing.
A further tab is a module here with what a template needs, a template, and a line in `tabs`.
"""
