"""Show the API's answers as HTML at the same addresses."""
