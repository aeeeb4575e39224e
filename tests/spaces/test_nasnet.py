"""The NASNet-like space: validity, draws given validity, DARTS's genotypes."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaenas.errors import UserError
from vaenas.networks import NetworkConfig
from vaenas.networks.nasnet import NASNetImageSpace
from vaenas.spaces.nasnet import EDGES, NONE, OPERATIONS, NASNetSpace

SPACE = NASNetSpace()
CIFAR = NetworkConfig(32, 3, 10, width=36, layers=20)
seeds = st.integers(0, 2**31 - 1)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def chi2_z(seen: Tensor, expected: Tensor) -> float:
    """Pearson's statistic as a standard normal (Wilson-Hilferty)."""
    freedom = seen.numel() - 1
    chi2 = float(((seen - expected) ** 2 / expected).sum())
    return ((chi2 / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5


def two_edges(seed: int, n: int) -> Tensor:
    """Architectures with exactly two edges into each node."""
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for edges in SPACE.groups:
        chosen = torch.rand(n, edges, generator=rng).argsort(-1)[:, :2]
        operations = torch.randint(1, 8, (n, 2), generator=rng)
        parts.append(torch.zeros(n, edges, dtype=torch.int64).scatter(1, chosen, operations))
    return torch.cat(parts, dim=1)


def test_two_cells_of_fourteen_edges_and_eight_operations() -> None:
    assert SPACE.choices == (8,) * 28
    assert SPACE.size == 8**28
    assert len(OPERATIONS) == 8
    assert (
        (0, 2),
        (1, 2),
        *((s, 3) for s in range(3)),
        *((s, 4) for s in range(4)),
        *((s, 5) for s in range(5)),
    ) == EDGES


def test_text_code_reads_node_by_node() -> None:
    population = torch.arange(28)[None] % 8
    assert SPACE.encode(population) == ["na-ms3-57dn-ams35-7d-nam-s357-dnams"]


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_valid_is_what_a_walk_from_the_inputs_reaches_in_full(seed: int) -> None:
    """The walk knows nothing of the order of the nodes; rows with few edges, so that both answers occur."""
    rng = torch.Generator().manual_seed(seed)
    population = torch.randint(1, 8, (40, 28), generator=rng)
    population *= torch.rand(40, 28, generator=rng) < torch.rand(40, 1, generator=rng)
    for architecture, valid in zip(population.tolist(), SPACE.is_valid(population).tolist(), strict=True):
        expected = True
        for cell in (architecture[:14], architecture[14:]):
            reached, front = {0, 1}, [0, 1]
            while front:
                at = front.pop()
                for (source, target), operation in zip(EDGES, cell, strict=True):
                    if source == at and operation != NONE and target not in reached:
                        reached.add(target)
                        front.append(target)
            expected &= reached == {0, 1, 2, 3, 4, 5}
        assert valid == expected


def test_a_cell_that_ignores_both_inputs_is_invalid_and_one_that_ignores_one_is_not() -> None:
    population = torch.ones(3, 28, dtype=torch.int64)
    for row, ignored in enumerate(((0, 1), (0,), (1,))):
        population[row, :14][torch.tensor([source in ignored for source, _ in EDGES])] = NONE
    assert SPACE.is_valid(population).tolist() == [False, True, True]


def test_zero_logits_are_uniform_over_valid_architectures(rng: torch.Generator) -> None:
    """Chi-square tests of every node's number of edges and of the first nodes' 63 pairs; false alarms 5e-6 in all."""
    n = 40_000
    drawn = SPACE.uniform(n, rng)
    for node, edges in zip(drawn.split(SPACE.groups, dim=1), SPACE.groups, strict=True):
        share = torch.tensor([torch.tensor(7.0) ** k for k in range(1, edges + 1)]).double()
        share *= torch.tensor([len(list(itertools.combinations(range(edges), k))) for k in range(1, edges + 1)])
        seen = (node != NONE).sum(-1).bincount(minlength=edges + 1).double()
        assert seen[0] == 0
        assert chi2_z(seen[1:], n * share / (8**edges - 1)) < 4.9
        if edges == 2:
            pairs = (8 * node[:, 0] + node[:, 1]).bincount(minlength=64).double()
            assert chi2_z(pairs[1:], torch.full((63,), n / 63).double()) < 4.9


def test_draws_follow_the_softmax_given_validity(rng: torch.Generator) -> None:
    """The first node's two slots, of which "none" is likely; false-alarm rate 5e-7."""
    n = 20_000
    logits = torch.zeros(28, 8)
    logits[:2] = torch.randn(2, 8, generator=rng)
    logits[:2, NONE] = 3.0
    drawn = SPACE.draw(logits.expand(n, -1, -1), rng)
    p, q = logits[:2].double().softmax(-1)
    expected = (p[:, None] * q[None]).flatten()[1:]
    seen = (8 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=64)[1:].double()
    assert chi2_z(seen, n * expected / expected.sum()) < 4.9


def test_logits_that_leave_a_node_without_edges_still_give_valid_rows(rng: torch.Generator) -> None:
    """The one edge that such a node gets follows the odds against "none"; false-alarm rate 5e-7."""
    n = 2000
    logits = torch.zeros(28, 8)
    logits[:2] = torch.randn(2, 8, generator=rng)
    logits[0, NONE], logits[1, NONE] = 200.0, 201.0
    drawn = SPACE.draw(logits.expand(n, -1, -1), rng)
    assert SPACE.is_valid(drawn).all()
    assert ((drawn[:, :2] != NONE).sum(-1) == 1).all()
    odds = (logits[:2, 1:] - logits[:2, :1]).double().flatten().softmax(-1)
    seen = torch.nn.functional.one_hot(drawn[:, :2], 8).sum(0)[:, 1:].flatten().double()
    assert chi2_z(seen, n * odds) < 4.9


def test_no_logits_keep_a_draw_from_being_valid(rng: torch.Generator) -> None:
    for everything, none in ((0.0, 1e30), (-torch.inf, 0.0), (0.0, torch.inf)):
        logits = torch.full((20, 28, 8), everything)
        logits[:, :, NONE] = none
        assert SPACE.is_valid(SPACE.draw(logits, rng)).all()


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_children_of_hopeless_parents_are_valid(seed: int) -> None:
    """One edge into each node: half of all crossings of two nodes are empty, and all of them somewhere."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.zeros(100, 28, 8)
    logits[:, :, NONE] = 100.0
    mothers, fathers = SPACE.draw(logits, rng), SPACE.draw(logits, rng)
    children = SPACE.crossover(mothers, fathers, rng)
    assert SPACE.is_valid(children).all()
    assert ((children == mothers) | (children == fathers)).all()
    assert SPACE.is_valid(SPACE.mutate(mothers, 0.5, rng)).all()


def test_mutation_redraws_slots_at_its_rate(rng: torch.Generator) -> None:
    """Slots of the last nodes, where next to no child is invalid; 5 sigma of 10 shares: false-alarm rate 6e-6."""
    n, prob = 20_000, 0.3
    parents = SPACE.uniform(n, rng)
    changed = (SPACE.mutate(parents, prob, rng) != parents).double().mean(0)[torch.arange(28) % 14 >= 9]
    expected = prob * 7 / 8
    assert ((changed - expected).abs() < 5 * (expected * (1 - expected) / n) ** 0.5 + 2e-4).all()


def test_neighbours_are_all_valid_rows_one_operation_away() -> None:
    architecture = SPACE.decode(["33-3nn-3snn-3snnn-an-nam-7d57-sssss"])[0]
    expected = set()
    for slot, operation in itertools.product(range(28), range(8)):
        changed = architecture.clone()
        changed[slot] = operation
        expected.add(tuple(changed.tolist()))
    expected = {row for row in expected if SPACE.is_valid(torch.tensor([row]))} - {tuple(architecture.tolist())}
    found = [tuple(row) for row in SPACE.neighbours(architecture).tolist()]
    assert len(found) == len(set(found)) == 28 * 7 - 2  # the only edges into two of the nodes
    assert set(found) == expected


def test_feature_groups_have_one_scale(rng: torch.Generator) -> None:
    for group in SPACE.features(SPACE.uniform(4000, rng)):
        assert 0.9 < float(group.var(0).sum()) < 1.1


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_genotypes_are_exact_inverses(seed: int) -> None:
    for architecture in two_edges(seed, 5):
        text = str(SPACE.genotype(architecture))
        assert torch.equal(SPACE.from_genotype(text), architecture)
        assert SPACE.genotype(SPACE.from_genotype(text)) == text


def test_darts_v2_is_an_architecture_of_this_space() -> None:
    architecture = SPACE.from_genotype(DARTS_V2)
    assert SPACE.is_valid(architecture[None]).all()
    assert SPACE.encode(architecture[None]) == ["33-33n-s3nn-sndnn-mm-nms-mnsn-nmsnn"]
    ranges = DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)")
    for text in (ranges, DARTS_V2.replace("[2, 3, 4, 5]", "(2, 3, 4, 5)"), f"\n  {DARTS_V2} \n"):
        assert torch.equal(SPACE.from_genotype(text), architecture)
    # the same edges, those into a node in the order of their sources
    assert SPACE.genotype(architecture) == ranges.replace(
        "('sep_conv_3x3', 1), ('skip_connect', 0)", "('skip_connect', 0), ('sep_conv_3x3', 1)"
    ).replace("('skip_connect', 2), ('max_pool_3x3', 1)", "('max_pool_3x3', 1), ('skip_connect', 2)")


def test_only_two_edges_into_each_node_make_a_genotype() -> None:
    architecture = SPACE.from_genotype(DARTS_V2)
    architecture[14 + 5 + 3] = 4  # a third edge into node 4
    assert SPACE.genotype(architecture) is None
    architecture = SPACE.from_genotype(DARTS_V2)
    architecture[:2] = torch.tensor([0, 1])  # one edge into node 2
    assert SPACE.genotype(architecture) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dil_conv_3x3", "dil_conv_5x5", "normal has unknown operation 'dil_conv_5x5'; known are avg_pool_3x3, max_"),
        ("dil_conv_3x3", "none", "normal has unknown operation 'none'"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "node 5 of normal has source 5; must be 0 to 4"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)", "node 5 of normal has source -1; must be 0 to 4"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "source True"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', '2')", "source '2'"),
        ("('dil_conv_3x3', 2)", "(['dil_conv_3x3'], 2)", r"unknown operation \['dil_conv_3x3'\]"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "node 5 of normal has two edges from 0"),
        ("('dil_conv_3x3', 2)", "'dil'", "normal holds 'dil'; must be pairs"),
        (", ('dil_conv_3x3', 2)", "", "normal has 7 entries; must be 8 pairs, two for each of 4 nodes"),
        ("normal=[('sep", "normal=7, x=[('sep", "arguments must be normal, normal_concat, reduce, reduce_concat"),
        ("reduce_concat=[2, 3, 4, 5]", "reduce_concat=[3, 4, 5]", r"reduce_concat is \[3, 4, 5\]; .* \[2, 3, 4, 5\]"),
        ("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(2, 7)", r"reduce_concat is range\(2, 7\)"),
        ("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(10**9)", "is no plain value"),
        ("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(2)", r"reduce_concat is range\(0, 2\)"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3, 4, 5", "cannot be read"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=__import__('os').getpid()", "is no plain value"),
        ("normal_concat=[2, 3, 4, 5], ", "", "each once and by name"),
        ("reduce_concat", "normal_concat", "cannot be read"),
        ("Genotype(", "print(", "it is no Genotype"),
        ("normal_concat=[2, 3, 4, 5]", "**{}", "each once and by name"),
        (DARTS_V2, "", "cannot be read"),
        (DARTS_V2, "(" * 10_000, "cannot be read"),
        (DARTS_V2, "Genotype(normal='\0')", "cannot be read"),
        (DARTS_V2, "-" * 100_000 + "1", "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_genotypes_are_named_in_one_line_and_never_executed(old: str, new: str, words: str) -> None:
    assert old in DARTS_V2
    with pytest.raises(UserError, match=words) as caught:
        SPACE.from_genotype(DARTS_V2.replace(old, new))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(text=st.text(max_size=40) | st.text(max_size=20).map(lambda inside: f"Genotype({inside})"))
@settings(max_examples=200, deadline=None)
def test_any_text_is_an_architecture_or_a_user_error(text: str) -> None:
    with pytest.raises(UserError):
        SPACE.from_genotype(text)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"layers": 2}, "layers 2: .*>= 3"),
        ({"width": 35}, "width 35: .*even"),
        ({"width": 0}, "width 0"),
        ({"image_size": 15}, "image size 15: .*16 pixels"),
        ({"image_channels": 2}, "image channels 2"),
        ({"classes": 1}, "classes 1: must be 2"),
    ],
)
def test_an_impossible_network_is_named_with_value_and_limit(bad: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        NASNetImageSpace(dataclasses.replace(CIFAR, **bad))


def test_drawing_has_the_edges_that_are_there(rng: torch.Generator) -> None:
    (architecture,) = SPACE.uniform(1, rng)
    picture = NASNetImageSpace(CIFAR).drawing(architecture)
    assert [cell["name"] for cell in picture["cells"]] == ["normal", "reduction"]
    rebuilt = torch.zeros(28, dtype=torch.int64)
    for number, cell in enumerate(picture["cells"]):
        texts = {i: node["text"] for i, node in enumerate(cell["nodes"]) if "text" in node}
        assert list(texts.values()) == ["c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "c_{k}"]
        names = dict(zip(texts, range(7), strict=True))  # of drawn boxes: 0 and 1 the inputs, 2 to 5 nodes, 6 output
        for i, node in enumerate(cell["nodes"]):
            if "slot" in node:
                (source,) = [a for a, b in cell["edges"] if b == i]
                (target,) = [b for a, b in cell["edges"] if a == i]
                assert node["slot"] == 14 * number + EDGES.index((names[source], names[target]))
                assert node["operation"] != NONE
                rebuilt[node["slot"]] = node["operation"]
        output = len(cell["nodes"]) - 1
        assert [names[a] for a, b in cell["edges"] if b == output] == [2, 3, 4, 5]
    assert torch.equal(rebuilt, architecture)
    assert [o["name"] for o in picture["operations"]] == list(OPERATIONS)
    assert "".join(o["symbol"] for o in picture["operations"]) == "nams357d"
