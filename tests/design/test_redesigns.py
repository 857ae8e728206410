"""Parents, what noise hits of them, and draws until enough differ."""

import itertools

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from sedd.data.alphabet import encode
from sedd.data.records import Record
from sedd.design.mutations import substitutions
from sedd.design.parents import parse_parent
from sedd.design.redesigns import TRIES, columns, count_possible, draw_distinct, redesigns_of, shortfall
from sedd.errors import DataError, UsageError
from sedd.inference.variant_table import parse_variants
from sedd.spec.redesign import RedesignOptions

TEXT = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG"


def parent_of(how: RedesignOptions, text: str = TEXT):
    return parse_parent(Record("wt", text), how)


def test_noise_hits_each_free_residue_with_its_share_and_kept_ones_never():
    how = RedesignOptions(noise=0.3, keep="2-9, 40,50")
    parent = parent_of(how)
    assert np.flatnonzero(parent.kept).tolist() == [*range(1, 9), 39, 49]
    hits = np.array([parent.hit(how, 1, 0, draw) for draw in range(2000)])
    assert not hits[:, parent.kept].any()
    free = hits[:, ~parent.kept]
    counts = free.sum(0)
    assert scipy.stats.chisquare(counts, np.full(40, counts.mean())).statistic < 80
    assert free.mean() == pytest.approx(0.3, abs=0.01)
    assert free.sum(1).var() == pytest.approx(40 * 0.3 * 0.7, rel=0.15)  # each on its own
    assert parent.share_hit(how) == 0.3


def test_no_more_are_hit_than_may_mutate_and_at_least_one():
    few, faint = RedesignOptions(noise=0.3, max_mutations=4), RedesignOptions(noise=1e-6)
    parent = parent_of(few)
    hits = np.array([parent.hit(few, 1, 0, draw) for draw in range(500)])
    assert set(hits.sum(1)) == {4}
    assert hits.any(0).all()
    assert parent.share_hit(few) == pytest.approx(4 / 50)
    assert {parent.hit(faint, 1, 0, draw).sum() for draw in range(50)} == {1}
    everything = RedesignOptions(noise=1.0, keep="1")
    assert parent_of(everything).hit(everything, 0, 0, 0).tolist() == [False] + [True] * 49


def test_a_hit_is_a_function_of_seed_parent_and_draw():
    how = RedesignOptions()
    parent = parent_of(how)
    one = parent.hit(how, 7, 2, 30)
    assert np.array_equal(one, parent.hit(how, 7, 2, 30))
    assert not any(
        np.array_equal(one, parent.hit(how, *other)) for other in ((8, 2, 30), (7, 3, 30), (7, 2, 31))
    )


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        ("60-24", "the first number must not be larger"),
        ("0-5", "counted from 1"),
        ("a", "write positions and ranges as 24-60,88"),
        ("1,,2", "keep is ''"),
        ("-5", "keep is '-5'"),
    ],
)
def test_ranges_that_are_none_are_told(keep: str, told: str):
    with pytest.raises(ValidationError, match=told):
        RedesignOptions(keep=keep)


def test_one_position_may_be_a_number_as_yaml_reads_it():
    assert RedesignOptions.model_validate({"keep": 88}).kept_ranges == ((88, 88),)


@pytest.mark.parametrize(
    ("keep", "text", "told"),
    [
        ("24-60", TEXT, "position 60 cannot be kept: parent 'wt' has 50 residues"),
        ("1-50", TEXT, "every position"),
        ("", "MK-T", "holds '-': amino acids alone"),
        ("", "MKJ_", "holds 'J' and '_':"),
    ],
)
def test_what_cannot_be_redesigned_is_told(keep: str, text: str, told: str):
    with pytest.raises((DataError, UsageError), match=told):
        parent_of(RedesignOptions(keep=keep), text)


def test_draws_go_on_until_enough_differ_from_the_parent_and_each_other():
    parent, asked = parent_of(RedesignOptions(), "MKTA"), []

    def draw(first: int, count: int):
        asked.append((first, count))
        return [encode("MK" + "ACDEFGHT"[n // 2 % 8] + "A") for n in range(first, first + count)]

    found = draw_distinct(parent, 6, draw)
    assert [substitutions(parent.tokens, tokens) for tokens in found.found] == [
        f"T3{letter}" for letter in "ACDEFG"
    ]
    assert [first for first, _ in asked] == np.cumsum([0, *(count for _, count in asked)])[:-1].tolist()
    assert shortfall(parent, 6, found) is None


def test_where_there_are_not_enough_the_tries_are_bounded_and_told():
    parent = parent_of(RedesignOptions(), "MKTA")
    found = draw_distinct(parent, 20, lambda first, count: [encode("MKAA"), parent.tokens][:count] * count)
    assert (len(found.found), found.tries) == (1, TRIES * 20)
    told = shortfall(parent, 20, found)
    assert told is not None
    assert told.startswith("1 distinct redesign of 'wt' in 200 draws, 20 were wanted")


def test_as_many_redesigns_are_possible_as_can_be_listed():
    """Against every sequence over three letters."""
    for kept, most in itertools.product(("", "1", "1-2"), (None, 1, 2)):
        parent = parent_of(RedesignOptions(keep=kept), "ACDY")
        listed = {
            text
            for text in itertools.product("ACD", "ACD", "ACD", "ACDY")
            if 0 < sum(a != b for a, b in zip(text, "ACDY", strict=True)) <= (most or 4)
            and all(text[n] == "ACDY"[n] for n in np.flatnonzero(parent.kept))
        }
        letters = encode("ACD").tolist()
        assert count_possible(parent, letters, most, enough=10**6) == len(listed), (kept, most)
        assert count_possible(parent, letters, most, enough=2) == 2


def test_the_search_ends_when_all_are_found_or_nothing_new_comes():
    parent = parent_of(RedesignOptions(keep="2-4", max_mutations=1), "MKTA")

    def draw(first: int, count: int):
        return [encode("ACDEFGHIKLNPQRSTVWYM"[n % 20] + "KTA") for n in range(first, first + count)]

    letters = encode("ACDEFGHIKLMNPQRSTVWY").tolist()
    found = draw_distinct(parent, 1000, draw, possible=count_possible(parent, letters, 1, enough=1000))
    assert (len(found.found), found.tries) == (19, 125)
    assert "19 distinct redesigns of 'wt', 1000 were wanted: there are no others" in str(
        shortfall(parent, 1000, found)
    )
    idle = draw_distinct(parent, 1000, draw)
    assert (len(idle.found), idle.tries) == (19, 1000 + 981)


def test_mutations_say_what_turns_the_parent_into_the_redesign():
    parent, other = parent_of(RedesignOptions(), "MKTAY"), encode("MRTAW")
    (one,) = redesigns_of(parent, [other], [1.25], [0.5])
    assert (one.name, one.mutations, one.count, one.identity) == ("wt_0", "K2R:Y5W", 2, 0.6)
    (variant,) = parse_variants(Record("wt", "MKTAY"), [one.mutations]).variants
    assert np.array_equal(variant.mutant, other)
    assert {name: column[0] for name, column in columns([one], ["MRTAW"]).items()} == {
        "name": "wt_0", "parent": "wt", "mutations": "K2R:Y5W", "count": 2, "identity": 0.6, "score": 1.25,
        "score_se": 0.5, "sequence": "MRTAW",
    }  # fmt: skip
