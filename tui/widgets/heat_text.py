"""Tokens of an answer, each tinted by how far it opened the memory's gate.

Only the lines that are seen are drawn; a move of the cursor draws the lines it left and
entered. Without colours a bar below each token takes the tint's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.widgets.blocks import cell
from tui.widgets.heat_layout import Layout, Line, Piece, lay_out

N_TINTS = 16
"""Steps of lightness, the lightest and the darkest included."""

Gates = Sequence[float | None]


def tint_of(gate: float | None, scale: tuple[float, float]) -> int | None:
    """Return the step, 0 to N_TINTS - 1, of a gate between a scale's ends."""
    part = part_of(gate, scale)
    return None if part is None else round(part * (N_TINTS - 1))


def part_of(gate: float | None, scale: tuple[float, float]) -> float | None:
    """Return where a gate lies between a scale's ends, 0 to 1; None if it is unknown.

    A gate that is not a number is unknown; a scale without extent has no lower part.
    """
    if gate is None or gate != gate:
        return None
    low, high = scale
    return min(max((gate - low) / (high - low), 0.0), 1.0) if high > low else 1.0


def bar_line(line: Line, gates: Gates, scale: tuple[float, float]) -> str:
    """Return the line of bars below a line of text: a cell's bar as wide as a token."""
    return "".join(
        cell(part_of(gates[piece.token], scale)) * piece.width for piece in line
    )


@dataclass(frozen=True, slots=True)
class _Styles:
    """Of one theme, and one background."""

    plain: Style
    tints: tuple[Style, ...]
    cursor: Style


class HeatText(ScrollView, can_focus=True):
    """A scrolling text with a cursor over its tokens."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"heat-text--open", "heat-text--cursor"}
    DEFAULT_CSS = """
    HeatText {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    HeatText > .heat-text--open { background: $accent; }
    HeatText > .heat-text--cursor {
        background: $foreground;
        color: $background;
        text-style: bold underline;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Token before", show=False),
        Binding("right", "move(1)", "Token after", show=False),
        Binding("up", "move_lines(-1)", "Line above", show=False),
        Binding("down", "move_lines(1)", "Line below", show=False),
        Binding("pageup", "page(-1)", "Page above", show=False),
        Binding("pagedown", "page(1)", "Page below", show=False),
        Binding("home", "first", "First token", show=False),
        Binding("end", "last", "Last token", show=False),
    ]

    cursor: reactive[int] = reactive(0, repaint=False, init=False)
    """Token that is chosen."""

    bars: reactive[bool] = reactive(False, repaint=False, init=False)
    """Whether gates are bars below the text; so it is without colours, too."""

    @dataclass
    class Chosen(Message):
        """The cursor stands on another token, or on a token of another text."""

        heat_text: HeatText
        token: int

        @property
        def control(self) -> HeatText:
            return self.heat_text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._texts: tuple[str, ...] = ()
        self._gates: tuple[float | None, ...] = ()
        self._scale = (0.0, 1.0)
        self._layout_of_text = Layout((), ())
        self._wanted_column = 0
        self._styles_cache_of_theme: _Styles | None = None

    def show(self, texts: Sequence[str], gates: Gates) -> None:
        """Show the tokens of another text; the cursor goes to its first one."""
        self._texts = tuple(texts)
        self._gates = tuple(gates)
        self.set_reactive(HeatText.cursor, 0)
        self._wanted_column = 0
        self._lay_out()
        self.scroll_home(animate=False)
        if self._texts:
            self.post_message(self.Chosen(self, 0))

    def tint(self, gates: Gates, scale: tuple[float, float] = (0.0, 1.0)) -> None:
        """Tint the same tokens by other gates; scale: what is lightest and darkest."""
        self._gates = tuple(gates)
        self._scale = scale
        self.refresh()

    @property
    def has_bars(self) -> bool:
        """Whether bars are drawn in place of tints."""
        return self.bars or self.app.no_color or self.app.native_ansi_color

    @property
    def tints(self) -> tuple[Style, ...]:
        """The tints from closed to open; empty where bars are drawn."""
        return () if self.has_bars else self._styles_of_theme().tints

    # --- drawing ----------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Return a line of what is seen."""
        styles = self._styles_of_theme()
        row = self.scroll_offset.y + y
        number, below = divmod(row, self._rows_per_line)
        if number >= len(self._layout_of_text.lines):
            return Strip.blank(self.size.width, styles.plain)
        line = self._layout_of_text.lines[number]
        if below:
            text = bar_line(line, self._gates, self._scale)
            segments = [Segment(text, styles.plain)]
        else:
            segments = [Segment(piece.text, self._style(piece)) for piece in line]
        last = line[-1]
        strip = Strip(segments, last.column + last.width)
        return strip.extend_cell_length(self.size.width, styles.plain)

    def _style(self, piece: Piece) -> Style:
        styles = self._styles_of_theme()
        if piece.token == self.cursor:
            return styles.cursor
        tint = tint_of(self._gates[piece.token], self._scale)
        return styles.plain if tint is None or self.has_bars else styles.tints[tint]

    def _styles_of_theme(self) -> _Styles:
        if self._styles_cache_of_theme is None:
            _, _, background, _ = self.colors
            opened = self.get_component_styles("heat-text--open").background
            shades = [
                background.blend(opened, step / (N_TINTS - 1), alpha=1.0)
                for step in range(N_TINTS)
            ]
            self._styles_cache_of_theme = _Styles(
                plain=self.rich_style,
                tints=tuple(
                    Style.from_color(
                        (shade + shade.get_contrast_text()).rich_color, shade.rich_color
                    )
                    for shade in shades
                ),
                cursor=self.get_component_rich_style("heat-text--cursor"),
            )
        return self._styles_cache_of_theme

    def notify_style_update(self) -> None:
        """Forget the colours of the theme before."""
        super().notify_style_update()
        self._styles_cache_of_theme = None

    # --- layout -----------------------------------------------------------------

    @property
    def _rows_per_line(self) -> int:
        return 2 if self.has_bars else 1

    def _lay_out(self) -> None:
        width = self.size.width
        self._layout_of_text = lay_out(self._texts, width)
        n_rows = len(self._layout_of_text.lines) * self._rows_per_line
        self.virtual_size = Size(width, n_rows)
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap anew at another width."""
        if event.size.width != self.virtual_size.width or not self.virtual_size:
            self._lay_out()
            self._show_cursor()

    def watch_bars(self) -> None:
        """Take twice the rows, or half of them."""
        self._lay_out()
        self._show_cursor()

    # --- the cursor -------------------------------------------------------------

    def validate_cursor(self, cursor: int) -> int:
        """Stay within the tokens."""
        return min(max(cursor, 0), max(len(self._texts) - 1, 0))

    def watch_cursor(self, before: int, now: int) -> None:
        """Draw what was left and entered, and tell."""
        for token in (before, now):
            self._refresh_token(token)
        self._show_cursor()
        self.post_message(self.Chosen(self, now))

    def _refresh_token(self, token: int) -> None:
        if token < len(self._layout_of_text.places):
            first, last = self._layout_of_text.places[token]
            rows = self._rows_per_line
            self.refresh_lines(first * rows, (last - first + 1) * rows)

    def _show_cursor(self) -> None:
        if self._layout_of_text.lines:
            first, last = self._layout_of_text.places[self.cursor]
            rows = self._rows_per_line
            region = Region(0, first * rows, 1, (last - first + 1) * rows)
            self.scroll_to_region(region, animate=False, force=True, x_axis=False)

    def _go(self, token: int) -> None:
        self.cursor = token
        if self._layout_of_text.lines:
            self._wanted_column = self._layout_of_text.column_of(self.cursor)

    def action_move(self, n_tokens: int) -> None:
        """Go to the token so many further."""
        self._go(self.cursor + n_tokens)

    def action_move_lines(self, n_lines: int) -> None:
        """Go to the token so many lines below, as near below as there is one."""
        if self._layout_of_text.lines:
            self.cursor = self._layout_of_text.below(
                self.cursor, n_lines, self._wanted_column
            )

    def action_page(self, direction: int) -> None:
        """Go a page up or down."""
        n_lines = max(self.size.height // self._rows_per_line - 1, 1)
        self.action_move_lines(direction * n_lines)

    def action_first(self) -> None:
        """Go to the first token."""
        self._go(0)

    def action_last(self) -> None:
        """Go to the last token."""
        self._go(len(self._texts) - 1)

    def on_click(self, event: events.Click) -> None:
        """Go to the token under the mouse."""
        line = (self.scroll_offset.y + event.y) // self._rows_per_line
        if line < len(self._layout_of_text.lines):
            self._go(self._layout_of_text.token_at(line, event.x))
