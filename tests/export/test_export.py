"""What is exported answers as the network does, wherever it is read; what cannot be is said in one line."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import timm
import torch

import vaenas.integrations.timm  # noqa: F401  # registers the name
from tests.runs.command import call
from vaenas.networks.weights import NetworkInfo, load_weights, save_weights

INFOS = {
    "shufflenet": NetworkInfo("shufflenet", "3-5-7x-3", 16, 1, 0.125, 5, ("a", "b", "c"), (0.3,), (0.2,)),
    "nasnet": NetworkInfo(
        "nasnet", "33-33n-3snn-s7nnn-mm-nns-mnsn-nmsd5", 17, 3, 2, 3, ("a", "b"), (0.1, 0.2, 0.3), (0.2, 0.2, 0.2)
    ),
    "nasbench101": NetworkInfo(
        "nasbench101", "1-01-010-1000-10011-100010-3131p", 17, 3, 5, 1, ("a", "b"), (0.1, 0.2, 0.3), (0.2, 0.2, 0.2)
    ),
    "nasbench201": NetworkInfo("nasbench201", "3-np-s31", 17, 1, 3, 1, ("a", "b"), (0.3,), (0.2,)),
    "macro": NetworkInfo("macro", "02012100", 17, 1, 0.125, 8, ("a", "b"), (0.3,), (0.2,)),
}


def trained(folder: Path, info: NetworkInfo) -> torch.nn.Module:
    """A network with weights and statistics of its own, saved in `folder`."""
    torch.manual_seed(0)
    network = info.build()
    for _ in range(3):
        network(torch.randn(8, info.image_channels, info.image_size, info.image_size))
    save_weights(folder / "weights.safetensors", network, info)
    return network.eval()


def images(info: NetworkInfo, n: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(n)
    return torch.randn(n, info.image_channels, info.image_size, info.image_size, generator=rng)


@pytest.mark.parametrize("space", INFOS)
def test_onnx_runtime_gives_the_network_s_logits_at_any_batch(space: str, tmp_path: Path) -> None:
    info = INFOS[space]
    network = trained(tmp_path, info)
    assert call("export", tmp_path, "-f", "onnx") == 0
    session = onnxruntime.InferenceSession(tmp_path / "weights.onnx")
    for n in (1, 2, 7):
        (ours,) = session.run(["logits"], {"images": images(info, n).numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(ours), network(images(info, n)), atol=1e-4)
    assert str(Path(torch.__file__).parents[1]).encode() not in (tmp_path / "weights.onnx").read_bytes()
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "weights.onnx").metadata_props}
    assert json.loads(facts["classes"]) == list(info.classes)
    preprocessing = json.loads(facts["preprocessing"])
    assert (preprocessing["mean"], preprocessing["std"]) == (list(info.mean), list(info.std))
    assert preprocessing["channels"] == ("grey" if info.image_channels == 1 else "RGB")


@pytest.mark.parametrize("space", INFOS)
def test_torch_timm_and_safetensors_give_the_same_network(space: str, tmp_path: Path) -> None:
    info = INFOS[space]
    network, x = trained(tmp_path, info), images(info, 3)
    with torch.no_grad():
        expected = network(x)
        assert call("export", tmp_path, "-f", "torch", "-o", tmp_path / "n.pt") == 0
        content = torch.load(tmp_path / "n.pt", weights_only=True)
        again = NetworkInfo(**content["info"]).build().eval()
        again.load_state_dict(content["state_dict"])
        assert torch.equal(again(x), expected)
        assert (
            call("export", tmp_path / "weights.safetensors", "-f", "safetensors", "-o", tmp_path / "s.safetensors") == 0
        )
        assert torch.equal(load_weights(tmp_path / "s.safetensors")[0](x), expected)
        assert call("export", tmp_path, "-f", "timm", "-o", tmp_path / "t.safetensors") == 0
        named = timm.create_model("vaenas", weights=tmp_path / "t.safetensors", num_classes=len(info.classes)).eval()
        assert torch.equal(named(x), expected)
    config = timm.data.resolve_model_data_config(named)
    assert (config["mean"], config["std"], config["input_size"]) == (info.mean, info.std, tuple(x.shape[1:]))
    card = (tmp_path / "t.md").read_text()
    assert info.code in card
    assert "not recorded beside the weights" in card  # no result.json, so no accuracy is made up


def test_what_cannot_be_exported_is_one_line_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = INFOS["shufflenet"]
    trained(tmp_path, info)
    for name in ("old.pt", "mine.md", "other.pt", "README.md", "old.svg"):
        (tmp_path / name).write_bytes(b"mine")
    torch.manual_seed(1)
    other = replace(info, code="5-5-55-5")
    save_weights(tmp_path / "other.safetensors", other.build(), info)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:99])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for words, said in (
        ([tmp_path, "-f", "tflite"], "--format tflite: choose onnx, torch, timm, safetensors"),
        ([tmp_path / "other.safetensors", "-f", "torch", "-o", tmp_path / "new.pt"], "not those of architecture"),
        ([tmp_path / "cut.safetensors", "-f", "torch", "-o", tmp_path / "old.pt", "--force"], "not a file of weights"),
        ([tmp_path / "none", "-f", "torch"], "no weights at"),
        ([tmp_path, "-f", "torch", "-o", tmp_path / "no" / "folder.pt"], "there is no folder"),
        ([tmp_path, "-f", "torch", "-o", tmp_path / "old.pt"], "old.pt: it is there already"),
        ([tmp_path, "-f", "torch", "-o", tmp_path / "mine.pt"], "mine.md: it is there already"),
        ([tmp_path / "other.safetensors", "-f", "torch"], "other.pt: it is there already"),
        ([tmp_path, "-f", "torch", "-o", tmp_path / "card.md"], "the model card ends so"),
    ):
        assert call("export", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_export_made_by_default_is_made_again_and_force_replaces(tmp_path: Path) -> None:
    trained(tmp_path, INFOS["macro"])
    (tmp_path / "README.md").write_text("mine")
    result = {
        "space": "macro", "network": {"image_size": 17, "image_channels": 1, "classes": 2, "width": 0.125, "layers": 8},
        "code": "02012100", "recipe": "quick", "accuracy": 0.5, "top5": 1, "params": 1, "flops": 1, "epochs": 1,
        "seed": 0, "search": None, "seconds": 1, "version": "0.1.0", "environment": {"torch": "2.6", "threads": 2},
        "images": {"training": 1, "test": 1, "test_split": None, "skipped": [], "notes": []},
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "config.yaml").write_text(f"data:\n  source: {tmp_path}/secret/pictures\n")
    for _ in range(2):
        assert call("export", tmp_path, "-f", "torch") == 0
    card = (tmp_path / "weights.md").read_text()
    assert "| Trained with | torch 2.6, threads 2 |" in card
    assert "pictures" in card
    assert str(tmp_path) not in card
    assert call("export", tmp_path, "-f", "torch", "-o", tmp_path / "weights.pt", "--force") == 0
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [
        ("draw", "02012100", "--output", "x.svg"),
        ("eval", ".", "--picture", "x.svg"),
        ("bench", "import", "some.csv", "--output", "x.svg"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_replaces_a_file_unasked(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.svg").write_text("mine")
    assert call(*words) == 2
    assert (
        f"{words[-2]} x.svg: it is there already: choose another name, or replace it with --force"
        in capsys.readouterr().err
    )
    assert Path("x.svg").read_text() == "mine"
    call(*words, "--force")  # only of what is written below a name is the rest of the error
    assert "it is there already" not in capsys.readouterr().err


@pytest.mark.parametrize(("command", "name"), [("curves", "curves.json"), ("table4", "fig2.png")])
def test_no_benchmark_replaces_results_that_are_not_its_own(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert call("bench", command, "--table", tmp_path / "none", "--output", tmp_path) == 2
    assert f"{name} is there already, without" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
