"""Make the answers of the API that are no records: a module for each, with the fields of its rows.

Fed by `sqllogs.queries` in the reader's thread; views, page and commands show them.
"""
