"""Tunes a scikit-learn pipeline for handwritten digits with the learned sampler of VAENAS.

    pip install 'vaenas[optuna]' scikit-learn
    python examples/optuna_sklearn.py --trials 60

Categorical, integer and boolean parameters are learned; `components` exists only where `reduce` is true. Takes about a
minute on two cores. Prints the best cross-validated accuracy and, of that pipeline, the accuracy on a third of the
images that the search has not seen.
"""

import argparse

import optuna
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from vaenas.integrations.optuna import VAENASSampler

SCALERS = {"none": "passthrough", "standard": StandardScaler(), "min-max": MinMaxScaler(), "unit": Normalizer()}


def pipeline(trial: optuna.trial.BaseTrial) -> Pipeline:
    """The pipeline that the trial's parameters describe."""
    scaler = SCALERS[trial.suggest_categorical("scaler", list(SCALERS))]
    reduce = "passthrough"
    if trial.suggest_categorical("reduce", [True, False]):
        reduce = PCA(
            trial.suggest_int("components", 4, 48, step=4), whiten=trial.suggest_categorical("whiten", [True, False])
        )
    neighbours = KNeighborsClassifier(
        n_neighbors=trial.suggest_int("neighbours", 1, 40, log=True),
        weights=trial.suggest_categorical("weights", ["uniform", "distance"]),
        metric=trial.suggest_categorical("metric", ["euclidean", "manhattan", "chebyshev", "cosine"]),
    )
    return make_pipeline(scaler, reduce, neighbours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    images, unseen, digits, unseen_digits = train_test_split(images, digits, test_size=1 / 3, random_state=0)

    study = optuna.create_study(direction="maximize", sampler=VAENASSampler(seed=arguments.seed))
    study.optimize(lambda trial: cross_val_score(pipeline(trial), images, digits, cv=4).mean(), arguments.trials)

    best = pipeline(study.best_trial).fit(images, digits)
    print(f"best of {arguments.trials}: {study.best_params}")
    print(f"cross-validated accuracy {study.best_value:.4f}, on unseen images {best.score(unseen, unseen_digits):.4f}")


if __name__ == "__main__":
    main()
