"""Evaluating a population as a trie against one architecture after the other, on what a real search evaluates.

A supernet of the ShuffleNet-like space is trained on the built-in images by uniform paths, then evolved as Single Path
One-Shot does: 50 architectures in a generation. Timed are the last generation (`ratio`) and 50 uniform architectures
(`ratio_uniform`), each as a trie (`evaluated_set.score`, which a search calls) and one by one, in turn. Both ways give
the same scores; the benchmark stops if they do not. `ratio_measures` is the time of the training-free measures that
are fused with the scores against the trie's, for the uniform architectures.

    python benchmarks/evaluation.py [--layers 20] [--width 0.25] [--steps 200] [--runs 3]     (some minutes on 2 cores)
"""

import argparse
import json
import statistics

import torch
from lightning_fabric import Fabric
from ratio import seconds

from vaenas.data.augment import Augment
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.data.subsets import Subset
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.evaluation.training_free import IMAGES, TrainingFree
from vaenas.networks import NetworkConfig, space_class
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.evolution import Evolution
from vaenas.search.settings import EvolutionSettings, SupernetTraining
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.spaces.space import Population


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--recalibration", type=int, default=256, help="images")
    parser.add_argument("--ranking", type=int, default=1000, help="images")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    data = load(DataSettings())
    order = torch.randperm(len(data.train), generator=rng)
    ranking, training = Subset(data.train, order[:2000]), Subset(data.train, order[2000:])
    augment = Augment(data.mean, data.std)
    sizes = data.train.image_size, data.train.channels, 10, options.width, options.layers
    image_space = space_class("shufflenet")(NetworkConfig(*sizes))
    space, supernet = image_space.space, image_space.supernet()
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = SupernetTrainer(supernet, SupernetTraining(), training, augment, fabric, rng)
    trainer.steps = options.steps

    def evaluator(recalibration: int, images: int) -> SupernetEvaluator:
        return SupernetEvaluator(supernet, training.batches(recalibration), ranking.batches(images), augment.plain)

    def anything(population: Population) -> torch.Tensor:
        return torch.ones(len(population), dtype=torch.bool)

    for _ in range(options.steps):
        trainer.step(space.uniform(1, rng)[0])
    # The generations before the last only have to be a search's: fewer images rank them.
    settings, initial = EvolutionSettings(50, options.generations, 10), space.uniform(50, rng)
    state = Evolution(space, settings, evaluator(64, 256), anything, rng, initial)
    for record in state.run():
        if record.kind == "generation":
            print(f"generation {record.values['generation'] + 1}: best {record.values['best']:.3f}", flush=True)
    late, uniform = state.evaluated.population[-50:], space.uniform(50, rng)  # a generation is new
    evaluate, found = evaluator(options.recalibration, options.ranking), {}

    def as_trie(population: Population) -> None:
        found["trie"] = EvaluatedSet(space.slots)
        for _ in score(population, evaluate, "ranking", found["trie"]):
            pass

    def one_by_one(population: Population) -> None:
        found["alone"] = torch.cat([evaluate(row[None]) for row in EvaluatedSet(space.slots).missing(population)])

    result: dict[str, float | str] = {"benchmark": "evaluation", "threads": torch.get_num_threads()}
    for name, population in (("ratio", late), ("ratio_uniform", uniform)):
        ratios = []
        for _ in range(options.runs):
            ratios.append(seconds(lambda p=population: as_trie(p)) / seconds(lambda p=population: one_by_one(p)))
            torch.testing.assert_close(found["trie"].scores, found["alone"], atol=1e-5, rtol=0)
            print(f"{name}: {len(found['alone'])} different architectures, {ratios[-1]:.3f}", flush=True)
        result[name] = round(statistics.median(ratios), 4)
    images, labels = training.batch(torch.arange(IMAGES))
    measures = TrainingFree(image_space.supernet(), augment.plain(images), labels)
    shares = [
        seconds(lambda: measures.features(uniform)) / seconds(lambda: as_trie(uniform)) for _ in range(options.runs)
    ]
    result["ratio_measures"] = round(statistics.median(shares), 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
