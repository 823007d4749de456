"""Look at a page as a browser gets it."""

import re
from html.parser import HTMLParser

URL = "/sql-logs/"
NEWEST = "?ordering=-id"
"""The list of queries: without any parameter a browser is sent to the requests."""
HOSTILE = """<script>alert('1')</script>"><img src=x onerror="alert(2)">"""
VIEWERS = {
    "TRACE_URL": "https://traces.example/{trace_id}",
    "LOGS_URL": 'https://logs.example/?id={"a":"{trace_id}"}&from={from_ms}&to={to_ms}',
}
LOG_LINES = f'https://logs.example/?id={{"a":"{"ab" * 16}"}}&from=1769860500000&to=1769861100009'
"""Those of a query of 9 ms at BEGINNING, from five minutes before to five minutes after."""
FOREIGN = "\N{HEBREW LETTER ALEF}"


class Page(HTMLParser):
    """The elements of a page; whatever is text in it is no element."""

    def __init__(self, answer):
        super().__init__()
        self.elements = []
        self.words = ""
        self.feed(answer.text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def all(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    def links(self, css=None):
        return [found["href"] for found in self.all("a") if css is None or css in found.get("class", "")]


def filled_in(response):
    """Render the page of an answer again."""
    return response.accepted_renderer.render(response.data, None, response.renderer_context)


def look(client, query="", status=200):
    answer = client.get(URL + (query or NEWEST))
    assert (answer.status_code, answer["Content-Type"]) == (status, "text/html; charset=utf-8"), answer.text
    return Page(answer)


class Isolation(HTMLParser):
    """The texts with a letter of another direction that are not isolated from what stands beside them."""

    ISOLATING = frozenset(["bdi", "pre", "title", "option", "text", "script", "textarea"])
    ISOLATED = re.compile("\N{FIRST STRONG ISOLATE}.*?\N{POP DIRECTIONAL ISOLATE}")
    VOID = frozenset(["input", "meta", "link", "img", "br", "option", "rect", "line", "path", "circle"])

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if FOREIGN in self.ISOLATED.sub("", data) and not self.ISOLATING & set(self.open):
            self.found.append(" ".join([*self.open[-3:], data.strip()]))
