"""Where long documents are divided."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmlmc._inference.chunks import split_text

PIECES = st.sampled_from(
    ["word", "a", "longer-than-that", " ", "  ", "\n", "\n\n", ". ", "! ", "?\n", ".) ", "。", "ö🙂"]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join)
SIZES = st.integers(2, 40)


def letters(text):
    return re.sub(r"\s", "", text)


@given(TEXTS, SIZES)
def test_nothing_is_lost_or_read_twice(text, size):
    chunks = split_text(text, len, size)
    assert letters("".join(chunks)) == letters(text)
    assert all(len(chunk) <= size for chunk in chunks)
    assert all(chunk == chunk.strip() and chunk for chunk in chunks) or len(chunks) == 1
    assert chunks == [text] if len(text) <= size else chunks == split_text(text, len, size)


@given(TEXTS, SIZES, st.integers(1, 39))
def test_overlap_is_what_the_chunk_before_ends_with(text, size, overlap):
    overlap = min(overlap, size - 1)
    chunks = split_text(text, len, size, overlap)
    assert all(len(chunk) <= size for chunk in chunks)
    whole, places = letters(text), {0}  # all ends of what is in a chunk already: "aaa" may go on in several ways
    for chunk in map(letters, chunks):
        begins = {place - k for place in places for k in range(min(overlap, place, len(chunk) - 1) + 1)}
        places = {begin + len(chunk) for begin in begins if whole[begin:].startswith(chunk)}
    assert len(chunks) == 1 or len(whole) in places


@pytest.mark.parametrize(
    ("text", "size", "overlap", "expected"),
    [
        # A paragraph in the second half goes before a sentence, one in the first half does not.
        ("One. Two.\n\nThree. Four five.", 18, 0, ["One. Two.", "Three. Four five."]),
        ("One.\n\nTwo two. Three.", 16, 0, ["One.\n\nTwo two.", "Three."]),
        # A sentence goes before a word, however early it ends.
        ("No. It is a long one that goes on", 20, 0, ["No.", "It is a long one", "that goes on"]),
        # "3.14" ends no sentence, and closing marks belong to it.
        ('Pi is 3.14 and "more." Yes.', 22, 0, ['Pi is 3.14 and "more."', "Yes."]),
        ("abcdefghij", 4, 0, ["abcd", "efgh", "ij"]),
        ("   \n ", 2, 0, [""]),
        # Whole sentences are read again where they fit, else whole words, else nothing.
        ("Ab. Cd. Ef. Gh.", 11, 4, ["Ab. Cd. Ef.", "Ef. Gh."]),
        ("aa bb cc dd", 8, 3, ["aa bb cc", "cc dd"]),
        ("aaaaaa bb cc", 9, 8, ["aaaaaa bb", "bb cc"]),
        ("aaaa bbbb", 5, 3, ["aaaa", "bbbb"]),
        # What would leave no room for a whole word is not read again.
        ("aa bb cccccc dd", 8, 5, ["aa bb", "cccccc", "dd"]),
        (" .) .) .) ", 4, 2, [".)", ".)", ".)"]),
    ],
)
def test_where_chunks_end_and_begin(text, size, overlap, expected):
    assert split_text(text, len, size, overlap) == expected


def test_characters_of_several_tokens():
    def count(text):
        return len(text.encode())

    assert split_text("ö" * 5, count, 4) == ["öö", "öö", "ö"]
    with pytest.raises(ValueError, match="Got chunks of 1 tokens, but 'ö' alone has more: expected a larger size"):
        split_text("aö", count, 1)


def test_a_long_text_takes_little_tokenizing():
    read = 0

    def count(text):
        nonlocal read
        read += len(text)
        return len(text)

    text = "We won again, and nobody cared. " * 3000
    assert len(split_text(text, count, 300)) < 400
    assert read < 100 * len(text)
