"""The reproductions in ``examples/contract/FINDINGS.md`` print what the document says."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "examples" / "contract" / "FINDINGS.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def reproductions() -> list:
    """Code and output of each block, named by the section that it is in."""
    found = []
    for section in DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]:
        number = section.partition(".")[0]
        for index, (code, output) in enumerate(BLOCK.findall(section)):
            found.append(pytest.param(code, output, id=f"section-{number}-{'abc'[index]}"))
    return found


def run(code: str) -> str:
    """What the code prints, and the exception that it ends in."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(code, DOCUMENT.name, "exec"), {"__name__": "reproduction"})
        except Exception as error:
            print(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return printed.getvalue()


def lines(output: str) -> list[str]:
    """Lines to compare; of an exception only the type, as versions of torch word it their way."""
    return [re.sub(r"^(\w+Error): .*", r"\1", line) for line in output.splitlines()]


@pytest.mark.parametrize(("code", "output"), reproductions())
def test_reproduction(code, output):
    assert lines(run(code)) == lines(output)


def test_each_section_has_one():
    document = DOCUMENT.read_text(encoding="utf-8")
    sections = re.findall(r"^## (\d+)\.", document, re.MULTILINE)
    assert sections == [str(n) for n in range(1, 16)]
    assert document.count("```python") == document.count("```text") == len(reproductions())
