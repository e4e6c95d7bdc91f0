"""Code is copied exactly as it stands in the answer."""

from __future__ import annotations

import pytest

from engram_local.chat.code_blocks import closed, code_block, code_blocks
from engram_local.errors import UsageError

ANSWER = """\
First:

```python title="x"
def f():

\treturn "a   b"  # ``` is no end
```

~~~
```
plain
```
~~~

* in a list:

  ```sh
  ls
    -l
  ```

    indented code is not fenced

````
open
"""


def test_blocks_are_found_as_they_stand() -> None:
    blocks = code_blocks(ANSWER)
    assert [block.language for block in blocks] == ["python", "", "sh", ""]
    assert [block.text for block in blocks] == [
        'def f():\n\n\treturn "a   b"  # ``` is no end',
        "```\nplain\n```",
        "ls\n  -l",
        "open",
    ]


def test_the_first_one_has_number_1() -> None:
    assert code_block(ANSWER, 3).text == "ls\n  -l"


@pytest.mark.parametrize(
    ("text", "number", "found"),
    [("no code", 1, "no code block"), (ANSWER, 5, "4 code blocks"), (ANSWER, 0, "4")],
)
def test_a_block_that_is_not_there_is_an_error(
    text: str, number: int, found: str
) -> None:
    with pytest.raises(UsageError, match=f"{number} was asked for.* has {found}"):
        code_block(text, number)


def test_an_open_block_is_closed_before_more_follows() -> None:
    assert closed("a\n~~~~py\nb") == "a\n~~~~py\nb\n~~~~"
    assert closed("a\n```\nb\n```") == "a\n```\nb\n```"
    assert closed("") == ""
