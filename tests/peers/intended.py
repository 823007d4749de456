"""Tests of the peers that may end differently beside sqllogs, with reasons, as the documentation has them."""

_CURSOR = "The class of a cursor is a subclass of Django's; the test compares classes by identity."
_CHECK = "The test replaces MIDDLEWARE, and the check sqllogs.W010 reports that the middleware is missing."
_STATIC = "The test lists all apps with static files, and sqllogs is one."

INTENDED = {
    "tests.panels.test_sql.SQLPanelTestCase.test_chunked_cursor_wrapper_singleton": _CURSOR,
    "tests.panels.test_sql.SQLPanelTestCase.test_cursor_wrapper_async": _CURSOR,
    "tests.panels.test_sql.SQLPanelTestCase.test_cursor_wrapper_asyncio_ctx": _CURSOR,
    "tests.panels.test_sql.SQLPanelTestCase.test_cursor_wrapper_singleton": _CURSOR,
    "tests.panels.test_staticfiles.StaticFilesPanelTestCase.test_default_case": _STATIC,
    "tests.test_checks.ChecksTestCase.test_check_good_configuration": _CHECK,
    "tests.test_checks.ChecksTestCase.test_check_gzip_middleware_error": _CHECK,
    "tests.test_checks.ChecksTestCase.test_check_missing_middleware_error": _CHECK,
}
