"""The page: one file that loads nothing, well formed, whatever names say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from engram_local.sizing.render.html_page import render_html
from engram_local.sizing.report import Report
from tests.sizing.render.test_formats import REPORTS, hostile_report, samples
from tests.sizing.samples import DENSE, LAPTOP, MOE, report_of

VOID = {"meta"}
TAGS = (
    "html head title style body main h1 h2 h3 p span code section div dl dt "
    "dd table thead tbody tr th td abbr pre figure figcaption footer ul li b "
    "svg desc line polyline polygon circle text rect meta "
)
ATTRIBUTES = (
    "lang charset http-equiv content name class scope tabindex title id role "
    "aria-label aria-labelledby aria-hidden viewbox x y x1 y1 x2 y2 cx cy r "
    "points width height text-anchor "
)


class Page(HTMLParser):
    """A page's elements, checked to be closed in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def check(report: Report) -> Page:
    page = Page(render_html(report))
    assert set(page.tags) <= set(TAGS.split())
    assert {name for name, _ in page.attributes} <= set(ATTRIBUTES.split())
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in page.attributes:
        if name == "aria-labelledby":
            assert value is not None and set(value.split()) <= set(ids)
    return page


@samples
def test_page_is_well_formed_and_loads_nothing(name: str) -> None:
    report = REPORTS[name]()
    check(report)
    style = re.findall(r"(?s)<style>(.*?)</style>", render_html(report))
    assert len(style) == 1
    assert "url(" not in style[0] and "@import" not in style[0]


@pytest.mark.parametrize(
    "name", ["</title><b>", "</style>", "<!--", "]]>", "\x00", "<x"]
)
def test_names_make_no_elements(name: str) -> None:
    harmless = check(hostile_report("x"))
    hostile = check(hostile_report(name))
    assert hostile.tags == harmless.tags


def test_hostile_names_are_shown_as_text() -> None:
    page = check(hostile_report())
    assert "<script>alert(1)</script>" in "".join(page.words)


def test_each_chart_has_a_title_and_a_description() -> None:
    page = check(report_of(MOE))
    n_charts = page.tags.count("svg")
    assert n_charts == 5
    assert page.tags.count("desc") == n_charts
    assert page.tags.count("title") == n_charts + 1


def test_without_gpu_and_table_there_is_one_chart() -> None:
    assert check(report_of(DENSE, hardware=LAPTOP)).tags.count("svg") == 1


def test_page_has_a_dark_and_a_printed_form() -> None:
    text = render_html(report_of(DENSE))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_each_colour_of_a_chart_is_in_the_style_sheet() -> None:
    text = render_html(report_of(MOE))
    style, charts = text.split("</style>")
    for name in set(re.findall(r'class="[a-z ]*(c\d)', charts)):
        assert f"svg .{name} {{ fill" in style
