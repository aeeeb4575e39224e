"""What a user can get wrong: exit code 2, one line that says how to fix it, and nothing lost."""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.runs.command import TINY, call, files, metrics, result, run
from vaenas.data.cifar10 import MD5
from vaenas.errors import UserError
from vaenas.runs.directory import RunDirectory

Refused = Callable[..., str]


def the_line(err: str) -> str:
    """The one line of an error."""
    assert "Traceback" not in err
    assert err.startswith("vaenas: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command in this process; it must end with 2 and the line that is given back."""

    def check(*words: object) -> str:
        capsys.readouterr()
        assert call(*words) == 2
        return the_line(capsys.readouterr().err)

    return check


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished run as it was at its last checkpoint."""
    path = tmp_path / "copy"
    shutil.copytree(finished, path)
    (path / "result.json").unlink()
    return path


BAD_OPTIONS = {
    "space": (["--space", "resnet"], "--space: 'resnet' .* must be shufflenet, nasnet, nasbench101"),
    "sampler": (
        ["--sampler", "vea"],
        "--sampler: 'vea' .* 'vae', 'categorical', 'uniform' or 'fair'",
    ),
    "typo": (["--epoch", "3"], "--epoch"),
    "unknown option": (["--colour", "red"], "--colour"),
    "no value": (["--epochs"], "--epochs"),
    "extra word": (["again"], "again"),
    "epochs 0": (["--epochs", "0"], "--epochs: '0' .* greater than or equal to 1"),
    "epochs -1": (["--epochs", "-1"], "--epochs: '-1' .* greater than or equal to 1"),
    "not a number": (["--epochs", "ten"], "--epochs: 'ten' .* integer"),
    "nan": (["--learning-rate", "nan"], "--learning-rate: 'nan' .* finite"),
    "layers": (["--layers", "12"], "--layers: 12 does not fit: space shufflenet takes multiples of 5"),
    "width": (["--width", "0.01"], "--width: 0.01 does not fit: .* >= 0.125"),
    "no count": (["--max-flops", "nonsense"], "--max-flops: 'nonsense'"),
    "no count either": (["--max-flops", "1.2.3M"], "--max-flops: '1.2.3M'"),
    "huge count": (["--max-flops", "9" * 400], "--max-flops: '999"),
    "count beyond 64 bits": (["--max-params", "99999999999G"], "--max-params: '99999999999G'"),
    "flops": (["--max-flops", "1K"], "--max-flops 1K: .* cheapest architecture, .* raise --max-flops or lower --width"),
    "params": (["--max-params", "10"], "--max-params 10: .* cheapest architecture, .* parameters: raise --max-params"),
    "both": (["--max-flops", "245K", "--max-params", "76.4K"], "of .* only 0 keep --max-flops 245K and --max-params"),
    "data": (["--data", "/no/where"], "'/no/where': choose builtin, cifar10, or a folder"),
    "ranking": (["--ranking.images", "150"], "cannot hold out 150 of 150 images: choose from 0 to 147"),
    "batch": (["--batch-size", "121"], "--batch-size 121: only 120 images .* lower --batch-size or --ranking.images"),
    "recalibration": (
        ["--ranking.recalibration-images", "121"],
        "--ranking.recalibration-images 121: there are only 120",
    ),
    "interval": (["--update.vae-interval", "5"], "--update.vae-interval 5: .* never learn in 4 epochs; lower it"),
    "size of builtin": (["--data", "builtin", "--image-size", "32"], "image size 32: builtin has 28"),
}


@pytest.mark.parametrize(("words", "said"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_bad_options(words: list[str], said: str, refused: Refused, pictures: Path, tmp_path: Path) -> None:
    """Said before anything is trained or any folder made."""
    line = refused("search", "--output", tmp_path / "run", "--data", pictures, *TINY, *words)
    assert re.search(said, line)
    assert not (tmp_path / "run").exists()


def test_an_unknown_command(refused: Refused) -> None:
    assert "'serch'" in refused("serch")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none(refused: Refused, tmp_path: Path) -> None:
    line = refused("search", "--output", tmp_path / "run", "--device", "cuda")
    assert "--device cuda" in line
    assert "--device cpu" in line
    assert not (tmp_path / "run").exists()


BAD_YAML = {
    "unknown": ("epoch: 3", "epoch: there is no such setting; did you mean supernet.epochs"),
    "wrong type": ("supernet: {epochs: many}", "supernet.epochs: 'many' .* integer"),
    "list": ("supernet:\n  epochs: [1, 2]", r"supernet.epochs: \[1, 2\]"),
    "wrong value": ("seed: 1\nnetwork: {layers: 12}", "network.layers: 12 does not fit: .* takes multiples of 5"),
    "broken": ("seed: 1\nepochs: [1\nx: :", "line 3: not YAML"),
    "tab": ("seed:\n\t- 1", "line 2: not YAML"),
    "no mapping": ("- epochs", "must hold settings as 'name: value'"),
}


@pytest.mark.parametrize(("text", "said"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_bad_yaml_is_named_with_its_file(text: str, said: str, refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    line = refused("search", "--config", file, "--output", tmp_path / "run")
    assert str(file) in line
    assert re.search(said, line)
    assert file.read_text() == text
    assert not (tmp_path / "run").exists()


def test_yaml_that_cannot_be_read(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name in ("missing.yaml", "binary", "."):
        assert f"cannot read {tmp_path / name}" in refused("search", "--config", tmp_path / name)


def test_one_class_is_not_enough(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "train" / "red", tmp_path / "data" / "train" / "red")
    line = refused("search", "--output", tmp_path / "run", "--data", tmp_path / "data", *TINY)
    assert "1 class folders, at least 2" in line
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    """It is named, may be skipped, and is named again in the result."""
    data, output = tmp_path / "data", tmp_path / "run"
    shutil.copytree(pictures, data)
    bad = data / "train" / "red" / "half.png"
    bad.write_bytes((data / "train" / "red" / "0.png").read_bytes()[:99])
    line = refused("search", "--output", output, "--data", data, *TINY)
    assert str(bad) in line
    assert "--skip-bad-images" in line
    assert not output.exists()
    assert call("search", "--output", output, "--data", data, *TINY, "--skip-bad-images") == 0
    images = {"training": 120, "ranking": 30, "skipped": ["train/red/half.png"], "notes": []}
    assert {name: value for name, value in result(output)["images"].items() if value is not None} == images


def test_cifar10_missing_or_damaged(refused: Refused, tmp_path: Path, cache: Path) -> None:
    words = ("search", "--output", tmp_path / "run", "--data", "cifar10", "--data-root")
    line = refused(*words, tmp_path / "none")
    assert str(tmp_path / "none") in line
    assert "--data.download" in line

    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in MD5:
        (folder / name).write_bytes(b"\1" * 3073)
    before = files(tmp_path)
    line = refused(*words, folder)
    assert f"{folder}/data_batch_1.bin: 3073 bytes, not 30730000" in line

    whole, cut = tmp_path / "whole.tar.gz", tmp_path / "cut.tar.gz"
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(folder, folder.name)
    cut.write_bytes(whole.read_bytes()[:150])
    assert f"{cut}: not a whole tar archive" in refused(*words, cut)
    (tmp_path / "no.tar").write_bytes(b"no tar at all")
    assert f"{tmp_path / 'no.tar'}: not a whole tar archive" in refused(*words, tmp_path / "no.tar")

    assert before.items() <= files(tmp_path).items()
    assert not (tmp_path / "run").exists()
    assert not list(cache.glob("cifar10/*/cifar-10-batches-bin"))


def test_nothing_to_resume(refused: Refused, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        assert f"--resume {path}: there is no run in it" in refused("search", "--resume", path)
    assert not files(tmp_path)


def test_a_resumed_run_keeps_its_settings(refused: Refused, copy: Path, tmp_path: Path) -> None:
    before = files(copy)
    line = refused("search", "--resume", copy, "--seed", "5")
    assert re.search("--seed 5: the run in .* has 0", line)
    file = tmp_path / "settings.yaml"
    file.write_text("evolution: {population: 7}")
    assert "--evolution.population 7" in refused("search", "--resume", copy, "--config", file)
    assert "--output" in refused("search", "--resume", copy, "--output", tmp_path / "other")
    assert files(copy) == before


@pytest.mark.parametrize("text", ["width: 0.5", "sampler: uniform", "epochs: 2", "seed: 9"])
def test_settings_edited_under_a_run(text: str, refused: Refused, copy: Path) -> None:
    """A checkpoint belongs to the settings that it was made with."""
    config, name = copy / "config.yaml", text.split(":")[0]
    config.write_text(re.sub(f"^( *){name}:.*$", rf"\1{text}", config.read_text(), flags=re.MULTILINE))
    before = files(copy)
    assert name in refused("search", "--resume", copy)
    assert files(copy) == before


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def flip(content: bytes) -> bytes:
    return content[: 10**6] + bytes([content[10**6] ^ 1]) + content[10**6 + 1 :]


@pytest.mark.parametrize("damage", [cut, empty, flip])
def test_a_damaged_checkpoint(damage: Callable[[bytes], bytes], refused: Refused, copy: Path) -> None:
    """It is named and left as it is, and so are the metrics."""
    file = copy / "checkpoint"
    file.write_bytes(damage(file.read_bytes()))
    before = files(copy)
    assert f"{file} is damaged" in refused("search", "--resume", copy)
    assert files(copy) == before


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_no_flipped_byte_of_a_checkpoint_goes_unnoticed(copy: Path, rng: torch.Generator) -> None:
    """Wherever it is, also in the directory at the end: the file is refused, or it loads as it was."""
    directory, file = RunDirectory(copy), copy / "checkpoint"
    expected, content = directory.load_checkpoint(), file.read_bytes()
    assert expected is not None
    places = torch.cat(
        [torch.randint(len(content), (30,), generator=rng), -torch.randint(1, 20_000, (60,), generator=rng)]
    )
    refusals = 0
    for place in places.tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            assert same(dict(directory.load_checkpoint() or {}), dict(expected)), f"byte {place}"
        except UserError:
            refusals += 1
    assert refusals > 45


def test_metrics_that_a_power_cut_shortened(copy: Path, pictures: Path) -> None:
    """What is lost is lost, but the file stays one of whole lines, and the run goes on."""
    file = copy / "metrics.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    before = len(metrics(copy))
    assert call("search", "--resume", copy) == 0
    assert len(metrics(copy)) >= before


def test_output_that_is_taken(refused: Refused, finished: Path, tmp_path: Path, pictures: Path) -> None:
    words = ("search", "--data", pictures, *TINY, "--output")
    before = files(finished)
    line = refused(*words, finished)
    assert "holds another run" in line
    assert f"--resume {finished}" in line
    assert files(finished) == before
    (tmp_path / "file").write_text("mine")
    assert "not empty" in refused(*words, tmp_path)
    assert f"{tmp_path / 'file'}: Not a directory" in refused(*words, tmp_path / "file")
    assert f"{tmp_path / 'file' / 'run'}: File exists" in refused(*words, tmp_path / "file" / "run")
    assert "name too long" in refused(*words, tmp_path / ("x" * 300))
    assert files(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["search"], "shufflenet-vae-builtin-seed0"),
        (["run"], "run-shufflenet-vae-builtin-seed0"),
        (["train", "33-33-3333-33"], "train"),
    ],
)
def test_all_names_of_new_runs_are_taken(
    words: list[str], name: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ending in ("", *(f"-{i}" for i in range(2, 1000))):
        (tmp_path / "runs" / f"{name}{ending}").mkdir(parents=True)
    assert f"--output: runs/{name} to runs/{name}-999 are all there" in refused(*words)


@pytest.mark.parametrize("place", ["/proc/vaenas", "/sys/vaenas"])
def test_output_that_cannot_be_made(place: str, refused: Refused, pictures: Path) -> None:
    """Not even by root."""
    if not Path(place).parent.is_dir():
        pytest.skip(f"no {Path(place).parent}")
    line = refused("search", "--data", pictures, *TINY, "--output", place)
    assert re.search(f"cannot write {place}: .*; make room or choose another folder", line)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    line = refused("search", "--data", pictures, *TINY, "--output", tmp_path / "closed" / "run")
    assert "Permission denied" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
        return place

    if not shutil.which("mount"):
        pytest.skip("no mount command")
    yield mount
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("size", [4096, 200_000])
def test_a_disk_that_is_full_from_the_start(
    size: int, small_disk: Callable[[int], Path], pictures: Path, cache: Path
) -> None:
    """Too small for the settings, for the metrics, for a checkpoint."""
    disk = small_disk(size)
    done = run(cache, "search", "--data", pictures, "--output", disk / "run", *TINY)
    line = the_line(done.stderr)
    assert done.returncode == 2
    assert re.search(r"cannot write .*/run.*: No space left on device; make room or choose another", line)
    assert not list(disk.rglob("*.tmp"))


def test_a_disk_that_fills_up(
    small_disk: Callable[[int], Path], finished: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    """The earlier checkpoint stays whole: with room the run goes on from it to the same end."""
    disk = small_disk(int(1.5 * (finished / "checkpoint").stat().st_size))
    done = run(cache, "search", "--data", pictures, "--output", disk / "run", *TINY, "--checkpoint-seconds", "0")
    line = the_line(done.stderr)
    assert done.returncode == 2
    assert "checkpoint: No space left on device; make room" in line
    shutil.copytree(disk / "run", tmp_path / "run")
    assert call("search", "--resume", tmp_path / "run") == 0
    assert result(tmp_path / "run") == result(finished)
    assert metrics(tmp_path / "run") == metrics(finished)


def test_a_loss_that_is_not_a_number(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    """It stops with the step and the fix; the checkpoint before it stays whole."""
    output = tmp_path / "run"
    words = ["--learning-rate", "1e6", "--supernet.clip-norm", "1e6", "--checkpoint-seconds", "0"]
    line = refused("search", "--data", pictures, "--output", output, *TINY, *words)
    assert re.search(r"step \d+: the loss is .* the last checkpoint is kept; .* a lower --learning-rate", line)
    checkpoint = RunDirectory(output).load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.state["step"] > 0
    assert refused("search", "--resume", output) == line


def test_a_run_that_another_process_works_on(refused: Refused, copy: Path) -> None:
    other = RunDirectory(copy)
    other.lock()
    before = files(copy)
    assert f"{copy}: another process is working in it; wait for it" in refused("search", "--resume", copy)
    assert files(copy) == before
    del other
    assert call("search", "--resume", copy) == 0
