"""The chat template of a GGUF, through llama-cpp-python's sandboxed Jinja formatter.

llama.cpp's own `llama_chat_apply_template` knows a list of templates by heart; it drops
SmolLM2's default system prompt, for example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from engram_local.errors import FormatError, UnsupportedError
from engram_local.llama.runtime import Backbone
from engram_local.units import escape_control

Message = Mapping[str, str]
"""`role` ("system", "user", "assistant") and `content`."""


class ChatTemplate:
    """Turns messages into the prompt that a model was trained on."""

    def __init__(self, template: str, *, bos: str, eos: str) -> None:
        try:
            # A template is a program from a file: it may raise anything, also below.
            self._formatter = Jinja2ChatFormatter(template, eos, bos)
        except Exception as error:
            raise _template_error(error) from error

    def format(self, messages: Sequence[Message]) -> str:
        """Return the prompt, open for the assistant's answer.

        An assistant's message at the end is gone on with: its text follows, and no end
        of it.
        """
        begun = messages[-1]["content"] if _is_begun(messages) else ""
        before = messages[:-1] if _is_begun(messages) else messages
        try:
            return str(self._formatter(messages=list(before)).prompt) + begun  # type: ignore[arg-type]
        except Exception as error:
            raise _template_error(error) from error


def encode(backbone: Backbone, messages: Sequence[Message]) -> list[int]:
    """Return the token ids of messages, by the template in the backbone's file.

    Raises UnsupportedError if there is none.
    """
    if backbone.chat_template is None:
        raise UnsupportedError(
            f"{backbone.path} has no chat template",
            hint="give the whole prompt yourself with --raw",
        )
    bos = backbone.bos
    template = ChatTemplate(backbone.chat_template, bos=bos, eos=backbone.eos)
    text = template.format(messages)
    has_bos = bool(bos) and text.startswith(bos)
    return backbone.tokenize(text, parse_special=True, add_special=not has_bos)


def _is_begun(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[-1]["role"] == "assistant"


def _template_error(error: Exception) -> FormatError:
    return FormatError(
        f"the model's chat template cannot be used: {escape_control(str(error))}",
        hint="give the whole prompt yourself with --raw",
    )
