"""The conversation: its messages below each other, the newest in view.

One widget for all messages: Textual keeps every line that a widget has ever drawn, and
a widget per message takes 30 KiB before it has drawn anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui.markdown_lines import Line, Painter, text_of
from tui.message_lines import Entry, MessageLines, n_same_of

_GUTTER = {"user": "▌ ", "assistant": "  "}
_SELECTED = "┃ "
_GUTTER_CELLS = 2


class Transcript(ScrollView, can_focus=True):
    """Scrolls messages; follows the newest text while it is at the end.

    One of the messages can be selected, for what is done with single ones.
    """

    COMPONENT_CLASSES = {"transcript--gutter"}  # noqa: RUF012 - Textual's type

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self._painter = Painter()
        self._messages: list[MessageLines] = []
        self._starts = [0]
        self._selected_id: str | None = None
        self._follows = True
        self._style = Style.null()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._use_theme())
        self._use_theme()

    @property
    def entries(self) -> list[Entry]:
        """All messages, oldest first."""
        return [message.entry for message in self._messages]

    @property
    def selected(self) -> Entry | None:
        """The message that is selected."""
        chosen = (one for one in self.entries if one.id == self._selected_id)
        return next(chosen, None)

    def show(self, entries: Sequence[Entry]) -> None:
        """Draw these messages; those that are there already stay as they are."""
        before = self.entries
        n_same = n_same_of(before, entries)
        if n_same == len(before) == len(entries):
            return
        for number, entry in enumerate(entries[n_same:], n_same):
            self._put(number, entry)
        del self._messages[len(entries) :]
        if self.selected is None:
            self._selected_id = None
        self._lay_out(n_same)

    def _put(self, number: int, entry: Entry) -> None:
        there = self._messages[number : number + 1]
        if there and there[0].entry.id == entry.id:
            there[0].show(entry)
        else:
            self._messages[number : number + 1] = [MessageLines(entry, self._painter)]

    def select(self, entry_id: str | None) -> None:
        """Mark a message and scroll to it; None = no message, and to the end."""
        self._selected_id = entry_id
        self.refresh()
        for start, entry in zip(self._starts, self.entries, strict=False):
            if entry.id == entry_id:
                self.scroll_to(y=start, animate=False)
        if entry_id is None:
            self.follow()

    def select_next(self, step: int) -> None:
        """Select the message `step` below the selected one; past the end none."""
        ids: list[str | None] = [entry.id for entry in self.entries]
        if ids:
            ids.append(None)
            at = ids.index(self._selected_id) + step
            self.select(ids[max(0, min(at, len(ids) - 1))])

    def follow(self) -> None:
        """Go to the end, and stay there while text comes."""
        self._follows = True
        self.scroll_end(animate=False, immediate=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        # Text that comes moves the end away, but only the user goes up.
        if new_value < old_value or self.is_vertical_scroll_end:
            self._follows = self.is_vertical_scroll_end

    def on_resize(self) -> None:
        self._lay_out(0)

    def render_line(self, y: int) -> Strip:
        style = self._style
        y += self.scroll_offset.y
        number = bisect_right(self._starts, y) - 1
        if number >= len(self._messages):
            return Strip.blank(self.size.width, style)
        gutter, line = self._line(number, y)
        strip = Strip([gutter, *line]).apply_style(style)
        strip = strip.crop_extend(0, self.size.width, style)
        return self._with_selection(strip, y).apply_offsets(0, y)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style = self.rich_style  # 0.1 ms, for each line that is drawn

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """Return what is selected with the mouse, as it is drawn."""
        lines = []
        for y in range(self._starts[-1]):
            span = selection.get_span(y)
            if span is not None:
                number = bisect_right(self._starts, y) - 1
                gutter, line = self._line(number, y)
                end = None if span[1] == -1 else span[1]
                text = text_of((gutter, *line))[span[0] : end]
                lines.append(text.removeprefix(gutter.text).rstrip())
        return "\n".join(lines), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def _line(self, number: int, y: int) -> tuple[Segment, Line]:
        message = self._messages[number]
        is_selected = message.entry.id == self._selected_id
        mark = _SELECTED if is_selected else _GUTTER[message.entry.role]
        style = self.get_component_rich_style("transcript--gutter", partial=True)
        line_at = y - self._starts[number]
        if line_at == message.n_lines - 1:  # the empty line between two messages
            mark = " " * _GUTTER_CELLS
        return Segment(mark, style), message.line(line_at)

    def _lay_out(self, first: int) -> None:
        """Find where messages begin, from the first changed one on."""
        width = self.scrollable_content_region.width - _GUTTER_CELLS
        if width <= 0:
            return  # not shown yet
        n_before = self._starts[-1]
        del self._starts[first + 1 :]
        for message in self._messages[first:]:
            message.lay_out(width)
            self._starts.append(self._starts[-1] + message.n_lines)
        self.virtual_size = Size(width, self._starts[-1])
        begin = self._starts[first]
        if first < len(self._messages):
            begin += self._messages[first].first_changed
        # A word more is one line; all lines took 8 ms of processor time instead of 4.
        self.refresh_lines(begin, max(n_before, self._starts[-1]) - begin)
        if self._follows and not self.is_vertical_scrollbar_grabbed:
            self.follow()

    def _with_selection(self, strip: Strip, y: int) -> Strip:
        selection = self.text_selection
        span = None if selection is None else selection.get_span(y)
        if span is None:
            return strip
        start, end = span
        end = strip.cell_length if end == -1 else end
        style = self.screen.get_component_rich_style("screen--selection")
        inner = Strip(Segment.apply_style(strip.crop(start, end), post_style=style))
        return Strip.join([strip.crop(0, start), inner, strip.crop(end)])

    def _use_theme(self) -> None:
        theme = self.app.current_theme
        self._painter.use_theme(self.app.theme_variables, is_dark=theme.dark)
        self.refresh()
