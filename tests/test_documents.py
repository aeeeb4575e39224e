"""Strict YAML: what is written comes back, what surprises is refused in one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vaenas.documents import read_yaml
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make

SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False)
# PyYAML writes Unicode's line breaks (U+0085, U+2028, U+2029) as they are, and folds them when it reads.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x85\u2028\u2029"), max_size=8) | st.sampled_from(
    ["010", "089", "1e3", "1.5e3", "0x1f", "yes", "on", "~", "null", "1:30", "2001-01-01", "1_0", "=", "<<", "- a", ""]
)


@given(st.dictionaries(TEXTS, SCALARS | TEXTS | st.lists(SCALARS, max_size=3), max_size=5))
@settings(deadline=None, max_examples=200)
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    file = tmp_path_factory.getbasetemp() / "a.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    assert repr(read_yaml(file)) == repr(values)


BOMB = "a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nseed: [*c, *c]"
HOSTILE = {
    "bomb": (BOMB, "line 1: not YAML: references"),
    "brackets": ("seed: " + "[" * 3000 + "]" * 3000, "levels of brackets"),
    "digits": ("seed: " + "9" * 5000, "seed: '999"),
    "date": ("seed: 2001-99-99", "seed: '2001-99-99' is not allowed"),
    "no text": ('data: "a\\0b"', "line 1: not YAML: a character"),
    "surrogate": ('data: "a\\ud800b"', "line 1: not YAML: a character"),
    "raw null": ("data: a\0b", "not YAML"),
    "user": ("data: {source: ~nosuchuser/x}", "data.source: '~nosuchuser/x' is not allowed: must be a path"),
    "tag": ("seed: !!int", "line 1: not YAML: tags"),
    "yes": ("seed: yes", "seed: 'yes' is not allowed"),
    "true": ("seed: true", "seed: true is not allowed"),
    "octal": ("seed: 010", "line 1: not YAML: '010' would be octal"),
    "twice": ("seed: 1\nepochs: 2\nseed: 3", "line 3: not YAML: 'seed' stands there twice"),
    "no name": ("1: 2", "a name must be text"),
    "long": ("seed: '" + "x" * 70_000 + "'", "more than 65536 bytes"),
    "two": ("seed: 1\n---\nseed: 2", "not YAML"),
}


@pytest.mark.parametrize(("text", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        make(SearchConfig, {}, file)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["3e8", "300e6", "300M", "0.3G", "300000000", "3.E+8"])
def test_whole_counts_however_they_are_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"constraints: {{max_flops: {text}}}")
    given = make(SearchConfig, {"constraints.max_flops": text})
    assert given == make(SearchConfig, {}, tmp_path / "a.yaml")
    assert given.constraints.max_flops == 300_000_000
    for wrong in ("0.5", "1.0000000001G", "3e-8", "e8", "3e8e8", "-3e8"):
        with pytest.raises(UserError, match="--max-flops: '"):
            make(SearchConfig, {"constraints.max_flops": wrong})
