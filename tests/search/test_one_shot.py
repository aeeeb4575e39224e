"""Algorithm 2, line by line."""

import copy
import io
from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from tests.samplers.samplers import LEARNED, SAMPLERS, Make
from tests.shared_fixtures import SUPERNET, TRAINING, finish, numbered_lines, tiny_problem, tiny_search
from tests.spaces.spaces import SPACES
from vaenas.errors import UserError
from vaenas.networks.supernet import ChoiceBlock
from vaenas.search import one_shot
from vaenas.search.one_shot import OneShot
from vaenas.search.search import Found
from vaenas.search.settings import SurrogateSettings
from vaenas.search.surrogate import RidgeSurrogate

samplers = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS.keys())


@samplers
def test_a_whole_search_says_what_the_lines_say(make: Make) -> None:
    search = tiny_search(tiny_problem(), make)
    records, found, _ = finish(one_shot.run(search))
    kinds = Counter(record.kind for record in records)
    learns = make in LEARNED.values()
    assert kinds["train"] == 12  # line 2
    assert kinds["update"] == (3 if learns else 0)  # lines 5-9, at steps 4, 8, 12
    assert kinds["generation"] == 2  # line 15
    assert kinds["comparison"] == (1 if learns else 0)
    epsilons = [record.values["epsilon"] for record in records if record.kind == "train"]
    assert epsilons == pytest.approx([i / 12 if learns else 0.0 for i in range(12)])  # lines 1 and 11
    rates = [record.values["lr"] for record in records if record.kind == "train"]
    assert rates == pytest.approx([0.05 * (1 - i / 12) for i in range(12)])
    for record in records:
        if record.kind == "update":
            assert len(record.values["scores"]) == len(record.values["population"]) == 8  # N_s
    assert len(search.final.initial) == 6  # N_seeds
    assert found.best == int(found.scores.argmax())  # line 15
    assert (found.draws is not None) == learns


def test_the_lines_stand_in_the_order_of_the_paper() -> None:
    assert numbered_lines(one_shot.run) == [*range(1, 16)]


@pytest.mark.parametrize("kind", ["none", "ridge"])
def test_the_sampler_learns_from_the_scores_or_from_a_surrogate_to_them(
    kind: Literal["none", "ridge"], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = tiny_search(tiny_problem(), LEARNED["categorical"], surrogate=SurrogateSettings(kind, rounds=3))
    surrogate = kind == "ridge"
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    update = search.sampler.update  # type: ignore[attr-defined]
    monkeypatch.setattr(search.sampler, "update", lambda p, s, rng: given.append((p, s)) or update(p, s, rng))
    for record in one_shot.run(search):
        if record.kind == "update":
            population, scores = torch.tensor(record.values["population"]), torch.tensor(record.values["scores"])
            for learned_from, predicted in given[-3:] if surrogate else given[-1:]:
                if surrogate:
                    assert len(learned_from) == 1008
                    assert torch.equal(learned_from[:8], population)
                    torch.testing.assert_close(
                        predicted, RidgeSurrogate(search.space, population, scores)(learned_from)
                    )
                else:
                    assert torch.equal(learned_from, population)
                    torch.testing.assert_close(predicted, scores)
    assert len(given) == (9 if surrogate else 3)
    assert len({learned_from.numpy().tobytes() for learned_from, _ in given}) == len(given)  # drawn anew each time


@pytest.mark.parametrize(("name", "k"), [("vae", 0.25), ("categorical", 0.25)])
def test_a_sampler_that_goes_on_learning_from_a_surrogate_gets_better_and_keeps_its_variety(
    name: str, k: float
) -> None:
    """20 rounds on one ranking. With ε = 1 in place of K the VAE ends on one architecture."""
    problem = replace(tiny_problem(), space=SPACES["shufflenet-10"])
    search = tiny_search(problem, LEARNED[name], surrogate=SurrogateSettings(rounds=20))
    assert search.learned is not None
    assert search.learned.keep_ratio == k
    ranked = search.space.uniform(64, search.rng)
    scores = (ranked == 3).float().mean(-1)
    search.learn(ranked, torch.zeros(64, dtype=torch.bool), scores)
    drawn = search.sampler.sample(1000, search.rng)
    assert float((drawn == 3).float().mean()) > 0.5  # uniform: 0.25
    assert len(torch.unique(drawn, dim=0)) > 200


@pytest.mark.parametrize("kind", ["none", "ridge"])
def test_saved_at_any_boundary_and_loaded_it_ends_in_the_same_bits(kind: Literal["none", "ridge"]) -> None:
    """Random states included."""
    search = tiny_search(tiny_problem(), SAMPLERS["vae"], surrogate=SurrogateSettings(kind))
    _, found, saved = finish(one_shot.run(search), search)
    expected = end(search, found)
    assert len(saved) == 12 + 2
    for content in saved[::3]:
        other = tiny_search(tiny_problem(seed=5), SAMPLERS["vae"], surrogate=SurrogateSettings(kind))
        torch.manual_seed(99)
        other.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        again = end(other, finish(one_shot.run(other))[1])
        assert again.keys() == expected.keys()
        assert all(torch.equal(again[name], expected[name]) for name in expected)


def end(search: OneShot, found: Found) -> dict[str, torch.Tensor]:
    tensors = {**search.trainer.network.state_dict(), "rng": search.rng.get_state(), "torch": torch.get_rng_state()}
    return {**tensors, "population": found.population, "scores": found.scores, "predicted": found.predicted}


def test_unused_paths_get_no_update_of_weights_momentum_or_decay() -> None:
    problem = tiny_problem()
    search = tiny_search(problem, SAMPLERS["uniform"], training=replace(TRAINING, vae_interval=10))
    run = one_shot.run(search)
    next(run)  # momentum is not zero any more on the first path
    for _ in range(4):
        path = search.ahead.rows[0].tolist()
        before = {name: p.clone() for name, p in problem.network.named_parameters()}
        momenta = copy.deepcopy(search.trainer.optimizer.state_dict()["state"])
        names = [name for name, _ in problem.network.named_parameters()]
        next(run)
        for i, (name, parameter) in enumerate(problem.network.named_parameters()):
            parts = name.split(".")
            on_path = parts[0] != "layers" or int(parts[3]) == path[int(parts[1])]
            momentum = search.trainer.optimizer.state_dict()["state"].get(i, {}).get("momentum_buffer")
            if on_path:
                assert not torch.equal(parameter, before[name]), name
            else:
                assert torch.equal(parameter, before[name]), name
                old = momenta.get(i, {}).get("momentum_buffer")
                assert (momentum is None and old is None) or torch.equal(momentum, old), names[i]


@pytest.mark.parametrize("kind", ["none", "ridge"])
def test_every_ranked_learned_initial_and_returned_architecture_keeps_the_limit(
    kind: Literal["none", "ridge"], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = tiny_search(
        tiny_problem(), LEARNED["vae"], lambda population: population[:, 0] != 2, surrogate=SurrogateSettings(kind)
    )
    given: list[torch.Tensor] = []
    update = search.sampler.update  # type: ignore[attr-defined]
    monkeypatch.setattr(search.sampler, "update", lambda p, s, rng: given.append(p) or update(p, s, rng))
    records, found, _ = finish(one_shot.run(search))
    for record in records:
        if record.kind == "update":
            assert all(row[0] != 2 for row in record.values["population"])
    assert (found.population[:, 0] != 2).all()
    assert (torch.cat(given)[:, 0] != 2).all()


def test_training_stops_before_a_loss_that_is_not_finite_reaches_the_weights() -> None:
    problem = tiny_problem()
    search = tiny_search(problem, SAMPLERS["uniform"])
    run = one_shot.run(search)
    next(run)
    with torch.no_grad():
        problem.network.stem[1].bias[0] = torch.inf
    before = {name: p.clone() for name, p in problem.network.named_parameters()}
    with pytest.raises(UserError, match=r"step 2: the loss is nan.*lower --learning-rate"):
        next(run)
    assert all(torch.equal(p, before[name]) for name, p in problem.network.named_parameters())
    assert search.step == search.trainer.step_count == 1


def test_training_and_ranking_images_are_what_the_caller_gave_and_each_epoch_sees_each_once() -> None:
    problem = tiny_problem()
    seen: list[torch.Tensor] = []
    fetch = problem.training.batch
    problem.training.batch = lambda rows: seen.append(rows) or fetch(rows)  # type: ignore[method-assign]
    search = tiny_search(problem, SAMPLERS["uniform"], supernet=replace(SUPERNET, epochs=2))
    for record in one_shot.run(search):
        if record.kind != "train":
            break
    for epoch in (seen[:12], seen[12:24]):
        rows = torch.cat(epoch)
        assert len(rows.unique()) == len(rows) == 192  # of 200: the last, smaller batch is left out


def test_supernet_layers_are_choice_layers() -> None:
    assert all(isinstance(layer, ChoiceBlock) for layer in tiny_problem().network.layers)
    assert isinstance(tiny_problem().network, nn.Module)
