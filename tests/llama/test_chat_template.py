"""Chat templates: what they make of messages, and what hostile ones may do."""

from __future__ import annotations

import pytest

from engram_local.errors import FormatError
from engram_local.llama.chat_template import ChatTemplate

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_messages_become_a_prompt_that_waits_for_an_answer() -> None:
    template = ChatTemplate(TEMPLATE, bos="<s>", eos="</s>")
    text = template.format([{"role": "user", "content": "Hi"}])
    assert text == "<|user|>Hi</s><|assistant|>"


def test_an_answer_that_was_begun_stays_open() -> None:
    template = ChatTemplate(TEMPLATE, bos="<s>", eos="</s>")
    asked = {"role": "user", "content": "Hi"}
    begun = {"role": "assistant", "content": "Hello, I"}
    wanted = "<|user|>Hi</s><|assistant|>Hello, I"
    assert template.format([asked, begun]) == wanted
    more = template.format([asked, begun, asked])
    assert more == "<|user|>Hi</s><|assistant|>Hello, I</s><|user|>Hi</s><|assistant|>"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content.x }}",
        "{{ raise_exception('no system prompt, please') }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_is_a_sentence(template: str) -> None:
    with pytest.raises(FormatError, match="chat template cannot be used") as caught:
        ChatTemplate(template, bos="", eos="").format([{"role": "user", "content": ""}])
    assert caught.value.exit_code == 3
