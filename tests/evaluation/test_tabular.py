"""Tables against a dictionary that says the same, their file, and what they say to bad questions."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vaenas.errors import UserError
from vaenas.evaluation.tabular import FORMAT, TabularBenchmark
from vaenas.spaces import cells
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.space import SearchSpace
from vaenas.tensors import read_tensors, write_tensors

SPACE = SearchSpace("toy", operations=("abc", "ab", "abcd"), groups=(3,))
BUDGETS = (4, 12)


def toy(n: int = 10, runs: int = 3, seed: int = 0, **more: Any) -> TabularBenchmark:
    """n of the 24 architectures; about a third of the labels unknown."""
    rng = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(24, generator=rng)[:n]
    population = torch.stack([numbers // 8, numbers // 4 % 2, numbers % 4], dim=1)
    values = torch.rand(3, n, 2, runs, generator=rng)
    values[:2][torch.rand(2, n, 2, runs, generator=rng) < 0.3] = torch.nan
    given = {"test": values[1], "seconds": 100 * values[2], "params": numbers + 1000, **more}
    return TabularBenchmark.of(
        SPACE, population, BUDGETS, values[0], source="toy.csv", measured="nothing", **given
    )  # fmt: skip


def every() -> torch.Tensor:
    """All 24 architectures."""
    return torch.cartesian_prod(*(torch.arange(k) for k in SPACE.choices))


def close(a: torch.Tensor, b: Any) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), equal_nan=True)


@given(n=st.integers(1, 24), runs=st.integers(1, 3), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_answers_are_those_of_a_dictionary(n: int, runs: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(24, generator=rng)[:n]
    population = every()[numbers]
    values = torch.rand(n, 2, runs, generator=rng)
    values[torch.rand(n, 2, runs, generator=rng) < 0.4] = torch.nan
    table = TabularBenchmark.of(SPACE, population, BUDGETS, values, source="a", measured="b", params=numbers)
    truth = {tuple(row): value for row, value in zip(population.tolist(), values, strict=True)}
    asked = every()[torch.randint(24, (50,), generator=rng)]
    unknown = torch.full((2, runs), torch.nan)
    expected = torch.stack([truth.get(tuple(row), unknown) for row in asked.tolist()])  # (50, 2, r)
    for b, epochs in enumerate(BUDGETS):
        close(table.validation(asked, epochs), expected[:, b].nanmean(-1))
        for run in range(runs):
            close(table.validation(asked, epochs, run), expected[:, b, run])
        chosen = torch.randint(runs, (50,), generator=rng)
        close(table.validation(asked, epochs, chosen), expected[torch.arange(50), b, chosen])
        assert torch.equal(table.known(asked, epochs), ~expected[:, b].isnan().all(-1))
        labelled = table.labelled(epochs)
        assert {tuple(row) for row in labelled.tolist()} == {k for k, v in truth.items() if not v[b].isnan().all()}
        assert table.known(labelled, epochs).all()
    close(table.validation(asked), expected[:, -1].nanmean(-1))
    in_table = torch.tensor([tuple(row) in truth for row in asked.tolist()])
    rows = table.rows(asked)
    assert torch.equal(rows >= 0, in_table)
    assert len(set(rows[in_table].tolist())) == len({tuple(row) for row in asked[in_table].tolist()})
    close(table.params(asked), torch.where(in_table, (asked * torch.tensor([8, 4, 1])).sum(-1), -1))


def test_test_and_seconds_are_their_own_columns() -> None:
    table = toy()
    everything = every()
    known = table.rows(everything) >= 0
    assert known.sum() == 10
    assert ((table.seconds(everything) / 100 - table.test(everything)).abs() > 1e-3)[known].any()
    assert table.seconds(everything)[known].isfinite().all()
    assert table.seconds(everything)[~known].isnan().all()


def test_a_file_gives_the_same_table(tmp_path: Path) -> None:
    table = toy(offset=-3.0, scale=7.5, slots={"x": ["1", "2", "3"], "y": ["u", "v"], "z": ["a", "b", "c", "d"]})
    path = tmp_path / "table"
    path.write_text("an older file")
    table.save(path)
    assert list(tmp_path.iterdir()) == [path]
    again = TabularBenchmark.open(path)
    for name in ("space", "budgets", "runs", "test_budgets", "source", "measured", "offset", "scale", "slots"):
        assert getattr(again, name) == getattr(table, name)
    assert len(again) == 10
    for answer in ("validation", "test", "seconds", "params", "known", "rows"):
        close(getattr(again, answer)(every()), getattr(table, answer)(every()))
    path.unlink()  # an open table does not need its name any longer
    close(again.validation(every(), 4, 1), table.validation(every(), 4, 1))


def test_nobody_and_one() -> None:
    table = toy()
    assert table.validation(every()[:0]).shape == (0,)
    assert table.known(every()[:0]).shape == (0,)
    close(table.validation(every())[3:4], table.validation(every()[3:4]))


def test_cells_are_known_by_their_isomorphism_class() -> None:
    """A cell that is renumbered, or has dangling vertices more, is the same row."""
    # input -> output alone; two branches, of a convolution and of pooling
    bits = torch.tensor([0b1, 0b110011])
    population = cells.embed(torch.tensor([2, 4]), bits, ["", "02"])
    table = TabularBenchmark.of(
        NASBench101Space(), population, (108,), torch.tensor([[[0.25]], [[0.75]]]), source="a", measured="b"
    )
    dangling = population[:1].clone()
    dangling[0, [0, 21]] = torch.tensor([1, 2])  # an edge into vertex 1, from which none goes on
    renumbered = cells.embed(torch.tensor([4, 4]), bits[[1, 1]], ["20", "00"])
    close(table.validation(torch.cat([population, dangling, renumbered])), [0.25, 0.75, 0.25, 0.75, torch.nan])
    with pytest.raises(UserError, match="rows 0 and 1 are the same architecture"):
        TabularBenchmark.of(
            NASBench101Space(),
            torch.cat([dangling, population]),
            (108,),
            torch.ones(3, 1, 1),
            source="a",
            measured="b",
        )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.validation(every(), 108), "toy.csv: unknown budget of 108 epochs; the table has 4, 12"),
        (lambda t: t.labelled(5), "unknown budget of 5 epochs"),
        (lambda t: t.validation(every(), 4, 3), "unknown run 3; the table has 0 to 2"),
        (lambda t: t.validation(every(), 4, torch.arange(24) - 1), "unknown run -1; the table has 0 to 2"),
        (lambda t: t.validation(every()[:, :2]), "rows of 2 slots; space toy has 3"),
        (lambda t: t.known(every() + 1), "row 3 has 4 in slot 2; space toy takes 0 to 3 there"),
        (lambda t: t.rows(every() - 1), "row 0 has -1 in slot 0; space toy takes 0 to 2 there"),
        (lambda t: t.expect("nasbench101"), "a table of space toy; nasbench101 is needed"),
    ],
)
def test_bad_questions(ask: Callable[[TabularBenchmark], object], message: str) -> None:
    table = toy()
    table.expect("toy")
    with pytest.raises(UserError, match=message) as caught:
        ask(table)
    assert "\n" not in str(caught.value)


def test_what_a_table_does_not_have() -> None:
    without = toy(test=None, seconds=None, params=None)
    assert not without.has_test
    for ask, message in (
        (without.test, "toy.csv: no test accuracy at 12 epochs; use validation"),
        (without.seconds, "the table has no seconds"),
        (without.params, "the table has no params"),
    ):
        with pytest.raises(UserError, match=message):
            ask(every())
    early = torch.rand(10, 2, 3)
    early[:, 1] = torch.nan
    table = toy(test=early)
    assert (table.has_test, table.test_budgets) == (False, (4,))
    assert table.test(every(), 4).isfinite().sum() == 10
    with pytest.raises(UserError, match="no test accuracy at 12 epochs; it has some at 4 epochs"):
        table.test(every())


def test_invalid_cells_name_the_rule(rng: torch.Generator) -> None:
    space = NASBench101Space()
    plain = cells.embed(torch.tensor([2]), torch.tensor([1]), [""])
    table = TabularBenchmark.of(space, plain, (108,), torch.ones(1, 1, 1), source="a", measured="b")
    apart, crowded, strange = torch.zeros(1, 26).long(), torch.ones(1, 26).long(), plain.clone()
    strange[0, 25] = 3
    for wrong, message in ((apart, "no path"), (crowded, "21 edges"), (strange, "row 1 has 3 in slot 25")):
        with pytest.raises(UserError, match=message):
            table.validation(torch.cat([plain, wrong]))
        with pytest.raises(UserError, match=message):
            TabularBenchmark.of(space, torch.cat([plain, wrong]), (1,), torch.ones(2, 1, 1), source="a", measured="b")


def test_bad_rows() -> None:
    values = torch.full((2, 2, 1), 0.5)
    twice, outside = every()[[3, 3]], values.clone()
    outside[1, 0] = 93.5
    with pytest.raises(UserError, match=r"a.csv: rows 0 and 1 are the same architecture"):
        TabularBenchmark.of(SPACE, twice, BUDGETS, values, source="a.csv", measured="b")
    with pytest.raises(UserError, match=r"a.csv: validation accuracy 93.5; accuracies lie in"):
        TabularBenchmark.of(SPACE, every()[:2], BUDGETS, outside, source="a.csv", measured="b")
    with pytest.raises(UserError, match=r"a.csv: test accuracy 93.5"):
        TabularBenchmark.of(SPACE, every()[:2], BUDGETS, values, test=outside, source="a.csv", measured="b")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "table"
    toy().save(path)
    whole = path.read_bytes()
    for content in (b"", b"no table", whole[:5], whole[:200], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"not a file of a table: it is not whole.*vaenas bench import"):
            TabularBenchmark.open(path)
    save_file({"weights": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not in the format 'vaenas table 2'; make one by: vaenas bench import"):
        TabularBenchmark.open(path)
    with pytest.raises(UserError, match="no table at"):
        TabularBenchmark.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot write"):
        toy().save(tmp_path / "nowhere" / "table")


def test_a_space_too_large_to_number(rng: torch.Generator) -> None:
    """10^20 architectures: keys are hashes then."""
    large = SearchSpace("large", ("0123456789",) * 20, (20,))
    population, values = large.uniform(500, rng), torch.rand(500, 1, 1, generator=rng)
    table = TabularBenchmark.of(large, population, (1,), values, source="a.csv", measured="b")
    assert torch.equal(table.validation(population), values[:, 0, 0])
    assert (table.rows(large.uniform(500, rng)) == -1).all()


def changed_file(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Path:
    """A toy table whose metadata and tensors `change` has changed, under a right checksum."""
    toy().save(path)
    tensors, text = read_tensors(path, FORMAT)
    facts, copies = json.loads(text), {name: tensor.clone() for name, tensor in tensors.items()}
    change(facts, copies)
    write_tensors(path, copies, FORMAT, json.dumps(facts))
    return path


HOSTILE = {
    "no space": (lambda f, t: f.pop("space"), "space: Field required"),
    "no slots": (lambda f, t: f.pop("slots"), "slots: Field required"),
    "more": (lambda f, t: f.update(more=1), "more: Extra inputs"),
    "numbers for text": (lambda f, t: f.update(source=7), "source: must be a valid string .7."),
    "no number": (lambda f, t: f.update(scale=0.0), "scale: must be greater than 0"),
    "infinite": (lambda f, t: f.update(offset=float("inf")), "offset: must be a finite number"),
    "groups": (lambda f, t: f["space"].__setitem__(2, [2]), "must be positive and sum to the 3 slots"),
    "another space": (lambda f, t: f["space"].__setitem__(0, "nasbench201"), "operations of another space"),
    "budgets": (lambda f, t: f.update(budgets=[12, 4]), "not ascending"),
    "test budgets": (lambda f, t: f.update(test_budgets=[5]), "are not some of"),
    "slots' values": (lambda f, t: f.update(slots={"a": ["x"]}), "not as many as the choices"),
    "no keys": (lambda f, t: t.pop("keys"), "not those of a table with rows"),
    "more tensors": (lambda f, t: t.update(x=torch.zeros(1)), "not those of a table with rows"),
    "shape": (lambda f, t: t.update(params=torch.zeros(3, dtype=torch.int64)), r"params is torch.int64 \[3\], not"),
    "type": (lambda f, t: t.update(validation=t["validation"].double()), "validation is torch.float64"),
    "dimensions": (lambda f, t: t.update(validation=torch.tensor(0.0)), "not those of a table with rows"),
    "no rows": (lambda f, t: t.update({name: x[:0] for name, x in t.items()}), "not those of a table with rows"),
    "operation": (lambda f, t: t["population"].fill_(9), "row 0 has 9 in slot 0"),
    "order": (lambda f, t: t.update(keys=t["keys"].flip(0), population=t["population"].flip(0)), "not in the order"),
    "keys": (lambda f, t: t["keys"].add_(1), "not those of its rows"),
    "accuracy": (lambda f, t: t["validation"].fill_(1.5), "validation accuracy 1.5"),
    "seconds": (lambda f, t: t["seconds"].fill_(torch.inf), "seconds inf"),
    "params": (lambda f, t: t["params"].fill_(-1), "params -1"),
    "tests": (lambda f, t: t["test"].fill_(torch.nan), "its test budgets are not those"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_file_says_of_itself_is_not_believed(
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        TabularBenchmark.open(changed_file(tmp_path / "table", change))


def test_metadata_of_brackets_is_one_line(tmp_path: Path) -> None:
    table = toy()
    write_tensors(tmp_path / "table", table._tensors, FORMAT, "[" * 100_000)
    with pytest.raises(UserError, match="recursion limit"):
        TabularBenchmark.open(tmp_path / "table")


def test_damage_is_found_by_the_checksum_also_after_the_table_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "table"
    toy().save(path)
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)  # a file of this moment is not remembered
    assert torch.equal(TabularBenchmark.open(path).population, TabularBenchmark.open(path).population)
    assert len(list((tmp_path / "cache").rglob("*"))) == 2  # the folder and one note
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2), whole[:-1] + b"\x01"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged: its checksum is not that of its content"):
            TabularBenchmark.open(path)
