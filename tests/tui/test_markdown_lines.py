"""Markdown as lines: everything shown, code numbered, growing texts read in part."""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES

from tui.markdown_lines import Blocks, Painter, text_of
from tui.message_lines import Entry, MessageLines

TEXT = """# Title

A <think>tag</think> and `code`.

* one
  ```sh
  ls
  ```
* two

```python
x = 1
```

> quoted
"""


def painter(theme: str = "nord") -> Painter:
    made = Painter()
    variables = BUILTIN_THEMES[theme].to_color_system().generate()
    made.use_theme(variables, is_dark=True)
    return made


def blocks_of(text: str) -> Blocks:
    blocks = Blocks(is_markdown=True)
    blocks.set_text(text, is_whole=True)
    return blocks


def drawn(text: str, width: int = 60) -> list[str]:
    used = painter()
    return [
        text_of(line).rstrip()
        for block in blocks_of(text).blocks
        for line in used.lines(block, width)
    ]


def test_code_is_numbered_through_the_whole_text() -> None:
    assert [block.first_code for block in blocks_of(TEXT).blocks] == [1, 1, 1, 2, 3]
    lines = drawn(TEXT)
    assert "   ─ 1 sh" in lines
    assert "─ 2 python" in lines


def test_what_looks_like_html_is_shown() -> None:
    assert "A <think>tag</think> and code." in drawn(TEXT)
    assert drawn("<div>\nhidden?\n</div>") == ["<div> hidden? </div>"]


def test_where_links_lead_is_shown() -> None:
    text = "See [the page][1].\n\n[1]: https://example.org/a\n"
    lines = [
        text_of(line)
        for one in blocks_of(text).blocks
        for line in painter().lines(one, 60)
    ]
    assert "[1]: https://example.org/a" in map(str.rstrip, lines)


def test_control_characters_are_escaped() -> None:
    assert drawn("a \x1b]52;c;x\x07 b") == ["a \\x1b]52;c;x\\x07 b"]
    assert "\\x1b" in "".join(drawn("```\n\x1b[2J\n```"))


def test_lines_are_no_wider_than_asked() -> None:
    used = painter()
    for block in blocks_of(TEXT + "\n" + "word " * 50).blocks:
        for line in used.lines(block, 24):
            assert sum(segment.cell_length for segment in line) <= 24


def test_a_text_that_grew_is_the_same_as_one_that_came_at_once() -> None:
    grown = Blocks(is_markdown=True)
    for end in range(1, len(TEXT) + 1):
        grown.set_text(TEXT[:end], is_whole=False)
    grown.set_text(TEXT, is_whole=True)
    assert grown.blocks == blocks_of(TEXT).blocks


def test_only_the_last_block_of_a_growing_text_is_read_again() -> None:
    blocks = Blocks(is_markdown=True)
    blocks.set_text("one\n\ntwo", is_whole=False)
    first = blocks.blocks[0]
    blocks.set_text("one\n\ntwo and\n\nthree", is_whole=False)
    assert blocks.blocks[0] is first
    assert [block.source.strip() for block in blocks.blocks] == [
        "one",
        "two and",
        "three",
    ]


def test_all_themes_can_draw() -> None:
    for theme in BUILTIN_THEMES:
        assert painter(theme).lines(blocks_of(TEXT).blocks[0], 40)


def test_what_a_user_typed_is_no_markdown() -> None:
    entry = Entry(id="1", role="user", head="You", text="* a\n\n# b `c`")
    message = MessageLines(entry, painter())
    message.lay_out(40)
    lines = [text_of(message.line(y)).rstrip() for y in range(message.n_lines)]
    assert lines == ["You", "* a", "", "# b `c`", ""]


def test_numbers_stand_close_below_the_text() -> None:
    entry = Entry(id="1", role="assistant", head="M", text="a\n\nb", foot="numbers")
    message = MessageLines(entry, painter())
    message.lay_out(40)
    lines = [text_of(message.line(y)).rstrip() for y in range(message.n_lines)]
    assert lines == ["M", "a", "", "b", "numbers", ""]
