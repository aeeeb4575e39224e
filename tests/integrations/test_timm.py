"""What timm's own tests/test_models.py asks of each of its models, asked of a network of each space."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import FeatureInfo, load_checkpoint
from torch import nn

import vaenas.integrations.timm  # noqa: F401  # registers the name
from tests.export.test_export import INFOS, images, trained
from vaenas.errors import UserError


@pytest.fixture(scope="module", params=INFOS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, Any]:
    """A file of weights, two images for it, its network."""
    folder, info = tmp_path_factory.mktemp(request.param), INFOS[request.param]
    network = trained(folder, info)
    return folder / "weights.safetensors", images(info, 2), network


def make(file: Path, **options: Any) -> Any:
    return timm.create_model("vaenas", weights=file, **options)


def test_forward_and_its_halves(case: Any) -> None:
    file, x, network = case
    model = make(file, pretrained=True)
    assert torch.equal(model(x), network(x))
    assert torch.equal(model.forward_head(model.forward_features(x)), network(x))


def test_backward(case: Any) -> None:
    file, x, _ = case
    model = make(file, num_classes=42).train()
    y = model(x)
    y.mean().backward()
    assert y.shape == (2, 42)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_default_cfg_and_heads(case: Any) -> None:
    file, x, _ = case
    model = make(file)
    cfg, state = model.default_cfg, model.state_dict()
    assert cfg == model.pretrained_cfg
    assert (cfg["input_size"], cfg["num_classes"]) == (tuple(x.shape[1:]), len(cfg["label_names"]))
    assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= {*state}
    assert timm.data.resolve_model_data_config(model)["mean"] == cfg["mean"]
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    assert features.shape == (2, model.num_features, *cfg["pool_size"])
    assert pooled.shape == (2, model.head_hidden_size)
    assert isinstance(model.get_classifier(), nn.Linear)
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert torch.equal(model(x), pooled)
    assert torch.equal(make(file, num_classes=0)(x), pooled)
    model.reset_classifier(0, "")
    assert model(x).shape[2:] == cfg["pool_size"]
    assert torch.equal(make(file, num_classes=0, global_pool="")(x), model(x))
    assert torch.allclose(model(x).mean((2, 3)), pooled, atol=1e-5)
    model.reset_classifier(7, "catavgmax")
    assert model(x).shape == (2, model.num_classes) == (2, 7)


def test_features_only(case: Any) -> None:
    file, x, _ = case
    model, whole = make(file, features_only=True), make(file)
    channels, reductions = model.feature_info.channels(), model.feature_info.reduction()
    assert len(channels) >= 3
    maps = model(x)
    assert [y.shape[1] for y in maps] == channels
    assert [y.shape[-1] for y in maps] == [-(-x.shape[-1] // r) for r in reductions]
    assert sorted(set(reductions)) == reductions
    assert torch.equal(maps[-1], whole.forward_features(x))
    chosen = make(file, features_only=True, out_indices=(0, -1))
    assert all(torch.equal(one, other) for one, other in zip(chosen(x), (maps[0], maps[-1]), strict=True))
    assert chosen.feature_info.channels() == [channels[0], channels[-1]]
    last, maps = whole.forward_intermediates(x)
    assert torch.equal(last, whole.forward_features(x))
    assert [y.shape[1] for y in maps] == FeatureInfo(whole.feature_info, len(maps)).channels()
    maps[0].sum().backward()  # a map that a later step would write over can't


def test_a_checkpoint_of_either_kind_is_loaded(case: Any, tmp_path: Path) -> None:
    file, x, network = case
    model = make(file)
    with torch.no_grad():
        model.get_classifier().bias += 1
    torch.save(model.state_dict(), tmp_path / "tuned.pth")
    assert torch.equal(make(file, checkpoint_path=tmp_path / "tuned.pth")(x), model(x))
    load_checkpoint(model, str(file))
    assert torch.equal(model(x), network(x))


def test_dropout_is_the_network_s_or_the_one_asked_for(tmp_path: Path) -> None:
    for space, own in (("shufflenet", 0.5), ("nasnet", 0.0)):
        trained(tmp_path, INFOS[space])
        assert make(tmp_path / "weights.safetensors").drop.p == own
        model = make(tmp_path / "weights.safetensors", drop_rate=0.9).train()
        with torch.no_grad():
            pooled = model.forward_head(torch.ones(1, model.num_features, 2, 2), pre_logits=True)
        assert float((pooled == 0).float().mean()) > own


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": None, "checkpoint_path": "x.safetensors"}, "weights: missing"),
        ({"scriptable": True}, "scriptable: TorchScript"),
        ({"drop_path_rate": 0.1}, "drop_path_rate: without effect"),
        ({"img_size": 64}, "img_size: without effect"),
        ({"pretrained_cfg_overlay": {"mean": 0}}, "pretrained_cfg_overlay: without effect"),
        ({"in_chans": 4}, "in_chans 4: the network in"),
        ({"out_indices": (0,)}, "out_indices .0,.: without effect without features_only; add features_only=True"),
        ({"global_pool": "median"}, "global_pool median: choose avg, max"),
        ({"global_pool": ""}, "global_pool '': 3 classes need a pooled map"),
        ({"num_classes": -1}, "num_classes -1: give 0"),
        ({"features_only": True, "out_indices": (0, 9)}, r"out_indices \(0, 9\): there are \d feature maps"),
        ({"features_only": True, "out_indices": 0}, "out_indices 0: there are"),
        ({"features_only": True, "num_classes": 5}, "num_classes 5: without effect with features_only"),
        ({"features_only": True, "drop_rate": 0.5}, "drop_rate 0.5: without effect with features_only"),
        ({"drop_rate": 5.0}, "drop_rate 5.0: must be from 0 to 1"),
        ({"drop_rate": float("nan")}, "drop_rate nan: must be"),
    ],
)
def test_what_has_no_effect_is_refused_in_one_line(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    trained(tmp_path, INFOS["shufflenet"])
    with pytest.raises(UserError, match=f"^{said}[^\n]*$"):
        timm.create_model("vaenas", **{"weights": tmp_path / "weights.safetensors", **options})


@pytest.mark.parametrize("indices", [[99], [-9], 9, 0, -1, []])
def test_feature_maps_that_are_not_there(case: Any, indices: Any) -> None:
    file, x, _ = case
    with pytest.raises(UserError, match=r"^indices .*: there are \d feature maps; choose from -\d to \d$"):
        make(file).forward_intermediates(x, indices=indices)
