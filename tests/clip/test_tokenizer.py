import json

import pytest

from clip import tokenize
from conftest import GOLDEN


@pytest.mark.parametrize("case", json.loads((GOLDEN / "tokens.json").read_text()))
def test_tokens_equal_the_published_ones(case):
    assert tokenize(case["text"]).tolist() == [case["tokens"]]


def test_a_text_that_is_too_long_is_quoted():
    with pytest.raises(ValueError, match=r"'cat cat .*needs 82 tokens, CLIP takes 77"):
        tokenize(["short", "cat " * 80])


def test_special_tokens_are_one_token_each():
    assert tokenize("<|endoftext|>")[0, :4].tolist() == [49406, 49407, 49407, 0]
