"""The fenced code blocks of an answer, as they stand in its source."""

from __future__ import annotations

from dataclasses import dataclass

from markdown_it import MarkdownIt

from engram_local.errors import UsageError

_PARSER = MarkdownIt("commonmark")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBlock:
    """A fenced block of code."""

    language: str
    """The first word behind the fence; may be empty."""

    text: str
    """Without the newline before the closing fence, and without the indentation or the
    quote marks of a list or a quotation that it stands in."""


def code_blocks(markdown: str) -> tuple[CodeBlock, ...]:
    """Return all fenced code blocks; one that is not closed goes on to the end."""
    return tuple(
        CodeBlock(
            language=token.info.split(maxsplit=1)[0] if token.info.strip() else "",
            text=token.content.removesuffix("\n"),
        )
        for token in _PARSER.parse(markdown)
        if token.type == "fence"
    )


def code_block(markdown: str, number: int) -> CodeBlock:
    """Return a code block, the first one with 1; raise UsageError if there is none."""
    blocks = code_blocks(markdown)
    if not 1 <= number <= len(blocks):
        found = {0: "no code block", 1: "one code block"}.get(
            len(blocks), f"{len(blocks)} code blocks"
        )
        raise UsageError(f"code block {number} was asked for, the answer has {found}")
    return blocks[number - 1]


def closed(markdown: str) -> str:
    """Return a text whose last code block is closed, so that more can follow it."""
    last = _PARSER.parse(f"{markdown}\n\nEnd")[-1]
    return f"{markdown}\n{last.markup}" if last.type == "fence" else markdown
