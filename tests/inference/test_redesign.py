"""Redesigns by a small network: what is kept, how many mutate, and that their scores are those of `score`."""

import re

import numpy as np
import pytest

from sedd.design.redesigns import Redesign
from sedd.errors import SeddError
from sedd.inference.api import Network
from sedd.inference.sample_report import _redesigns_section
from tests.inference.networks import small_network

PARENT = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEV"


@pytest.fixture(scope="module", params=["absorbing", "uniform"])
def net(request, tmp_path_factory) -> Network:
    return Network(
        small_network(tmp_path_factory.mktemp("net"), graph=request.param, parameterization="subs")
    )


def differ(sequence: str) -> list[int]:
    return [n for n, (a, b) in enumerate(zip(PARENT, sequence, strict=True), start=1) if a != b]


def test_redesigns_are_distinct_and_say_what_they_are(net: Network):
    found = net.redesign(PARENT, 6, noise=0.4, steps=3, seed=3)
    assert len({sequence for sequence, _ in found} - {PARENT}) == 6
    for sequence, one in found:
        places = differ(sequence)
        assert one.count == len(places)
        assert one.identity == pytest.approx(1 - len(places) / len(PARENT))
        assert one.mutations == ":".join(f"{PARENT[p - 1]}{p}{sequence[p - 1]}" for p in places)
    assert found == net.redesign(PARENT, 6, noise=0.4, steps=3, seed=3)
    assert found != net.redesign(PARENT, 6, noise=0.4, steps=3, seed=4)


def test_scores_are_differences_of_bounds_with_their_errors(net: Network):
    found = net.redesign(PARENT, 3, steps=2, max_mutations=3, seed=1)
    scores = net.score(PARENT, [one.mutations for _, one in found], methods=("bound",), seed=1)
    np.testing.assert_allclose([one.score for _, one in found], scores.score("bound"), rtol=1e-5)
    np.testing.assert_allclose(
        [one.standard_error for _, one in found], scores.standard_error("bound"), rtol=1e-4
    )


def test_kept_positions_stay_and_no_more_mutate_than_may(net: Network):
    for sequence, one in net.redesign(PARENT, 4, noise=0.5, keep="1-6,20", steps=2):
        assert not set(differ(sequence)) & {*range(1, 7), 20}
        assert one.count > 2
    for sequence, _ in net.redesign(PARENT, 4, noise=0.9, keep="1-6", max_mutations=2, steps=2):
        assert 1 <= len(differ(sequence)) <= 2
        assert not set(differ(sequence)) & {*range(1, 7)}


def test_few_possible_redesigns_are_fewer_and_told(net: Network):
    """Of one free position and three letters, of which the parent has one."""
    how = {"omit": "DEFGHILMNPQRSTVWYXBUZO", "temperature": 9.0, "steps": 1}
    with pytest.warns(
        UserWarning, match="2 distinct redesigns of 'parent', 8 were wanted: there are no others"
    ):
        found = net.redesign("MK", 8, noise=1.0, keep="1", **how)
    assert {sequence for sequence, _ in found} == {"MA", "MC"}


def test_templates_with_gaps_are_completed(net: Network):
    drawn = net.sample(8, template="MKV{5-20}_GH", steps=4, seed=2)
    assert all(one.startswith("MKV") and one.endswith("GH") and 10 <= len(one) <= 25 for one in drawn)
    assert len({len(one) for one in drawn}) > 2
    assert drawn == net.sample(8, template="MKV{5-20}_GH", steps=4, seed=2)
    assert len(net.sample(3, template=["A__", "{1-3}_C"], steps=2)) == 6


@pytest.mark.parametrize("options", [{"remask": 2.0}, {"order": "confidence"}])
def test_samplers_that_need_masks_work_on_the_absorbing_graph_alone(net: Network, options):
    how = {"steps": 6, "temperature": 9.0, "top_p": 0.99, "omit": "XBUZOC", **options}
    if not net.trained.objective.graph.settles:
        with pytest.raises(SeddError, match=f"{next(iter(options))} needs the absorbing graph"):
            net.sample(1, **how)
        return
    plain = {name: value for name, value in how.items() if name not in options}
    assert net.sample(4, length=30, **how) != net.sample(4, length=30, **plain)
    assert all(one.startswith("MK") and "C" not in one for one in net.sample(3, template="MK{9}_", **how))
    for sequence, _ in net.redesign(PARENT, 4, keep="3-9", max_mutations=5, **how):
        assert not set(differ(sequence)) & set(range(3, 10))
        assert len(differ(sequence)) <= 5


def test_what_makes_no_sense_together_is_one_clear_error(net: Network):
    for call, told in (
        (lambda: net.redesign(PARENT, 1, length=5), "redesign takes the length of its parents"),
        (lambda: net.redesign(PARENT, 1, template=("A_",)), "give one of them"),
        (lambda: net.redesign(PARENT, 1, noise=0), "noise is 0; it must be greater"),
        (lambda: net.redesign(PARENT, 1, keep="40"), "position 40 cannot be kept"),
        (lambda: net.redesign("M" * 65, 1), "trained on at most 64"),
        (lambda: net.sample(1, redesign={"parent": "wt.fasta"}), "begins with no parent"),
    ):
        with pytest.raises(SeddError, match=told):
            call()


def test_the_report_lists_redesigns_with_the_highest_score_first():
    redesigns = [
        Redesign(
            name=f"r{n}",
            parent="wt",
            mutations="A1G",
            count=n,
            identity=1 - n / 10,
            score=-n,
            standard_error=0.1,
        )
        for n in range(1, 6)
    ]
    page = "".join(_redesigns_section(redesigns))
    assert re.findall(r"<td>(r\d)</td>", page) == ["r1", "r2", "r3", "r4", "r5"]
    assert (
        "Of 5 redesigns the median has 3 mutations, 70.0 % of its parent's residues and a score of -3.00"
        in page
    )
