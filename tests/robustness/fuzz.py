"""Hostile files of every format: each input must be read, or refused by a `UserError` of one line.

    python -m tests.robustness.fuzz --inputs 100000 --output FILE.json

An input is a format and a number: that decides how the valid seed is changed, in its bytes or in its structure with
checksums put right. A traceback, more than 5 s of CPU or 1 GiB, or a message of several lines is a failure; what was
read then is kept beside the output.
"""

import argparse
import bz2
import contextlib
import datetime
import gzip
import hashlib
import io
import json
import math
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.bench import official
from tests.shared_fixtures import Images, Problem, tiny_problem, tiny_search
from vaenas import machine
from vaenas.bench.curves import Run
from vaenas.bench.finished import Finished
from vaenas.bench.import_table import import_table
from vaenas.commands.architecture import choose
from vaenas.commands.run import Plan, open_run
from vaenas.commands.train import found_by
from vaenas.data.decode import Decoder
from vaenas.data.folder import load_folder
from vaenas.data.images import Findings
from vaenas.data.settings import DataSettings
from vaenas.data.shards import ShardSet, _samples, _Stream, open_shards
from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.evaluation.tabular import TabularBenchmark
from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.latency import LatencyTable
from vaenas.networks.weights import NetworkInfo, load_weights, save_weights
from vaenas.records import TrainingResult
from vaenas.report import write_report
from vaenas.report.run_data import read_run
from vaenas.runs.config import SearchConfig
from vaenas.runs.directory import FORMAT, RunDirectory
from vaenas.runs.saved_scores import SavedScores
from vaenas.runs.settings import make
from vaenas.samplers.vae import VAESampler, VAESettings
from vaenas.search import one_shot
from vaenas.search.one_shot import OneShot
from vaenas.search.search import BOUNDARIES
from vaenas.search.settings import EvolutionSettings, SamplerTraining, SupernetTraining, SurrogateSettings
from vaenas.spaces.cells import module_hash
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.nasbench201 import NASBench201Space
from vaenas.spaces.nasnet import NASNetSpace
from vaenas.spaces.space import SearchSpace
from vaenas.training.config import TrainConfig
from vaenas.training.teacher import load_teacher

SECONDS, BYTES, CHARACTERS = 5, 2**30, 2000
IMAGES = ("png", "jpg", "webp", "bmp", "gif", "tiff", "ppm")

# What is no JSON for Python's own writer, or no value that anyone expects: put in as it stands here.
RAW = [
    "null", "true", "0", "-1", "7", "1e400", "-1e400", "NaN", "1e-400", "0.5", "9223372036854775808", "-0", "1" * 5000,
    '""', '"x"', r'"\u0000"', r'"\ud800"', '"\\n\\u202e<img src=x>"', '"' + "y" * 5000 + '"', "[]", "{}", "[[]]",
    "[null]", "[1, 2, 3]", '{"": 1}', "[" * 3000 + "]" * 3000, '{"a":' * 300 + "1" + "}" * 300, "", "//",
    '"~nosuchuser/x"',
]  # fmt: skip
RAW_YAML = [
    *RAW, "yes", "010", "2001-99-99", "1:30:00", '"a\\0b"', "!!int ''", "!!python/object:os.system x", "~nosuchuser/x",
    "&a [*a]", "&a [x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b]", "x\nseed: 1\nseed: 2", "? [1]\n: 2",
    "<<: {seed: 1}", "!!timestamp x", "!!binary x", "!!set {a}", "0x10", "1_000", "'\\ud800'", "\x00", "\t- 1",
    "%YAML 3.0", "---\n---\n", "{" * 3000, "- " * 2000, "|\n  text", "'" + "z" * 70_000 + "'", "3e-5", ".inf", "=",
    "@", "`",
]  # fmt: skip


def changed(value: Any, rng: random.Random, raw: list[str]) -> str:
    """The JSON text of `value` with one to three places replaced, left out or added."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    value = json.loads(json.dumps(value))
    holder = [value]
    walk(holder)
    for _ in range(rng.choice((1, 1, 2, 3))):
        node, key = rng.choice(places)
        kind = rng.random()
        with contextlib.suppress(LookupError):  # changed already
            if kind < 0.12 and node is not holder:
                del node[key]
            elif kind < 0.2 and isinstance(node, dict):
                node[rng.choice(("", "x", "space", "é", "\n"))] = f"@{rng.randrange(len(raw))}@"
            else:
                node[key] = f"@{rng.randrange(len(raw))}@"
    return re.sub(r'"@(\d+)@"', lambda found: raw[int(found[1])], json.dumps(holder[0]))


def flipped(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four flips, cuts, insertions, doublings or zeros."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        length = min(rng.choice((1, 2, 8, 64, 1000)), len(data) - at)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = rng.randbytes(length)
        elif kind == 3:
            data[at : at + length] = bytes(length)
        elif kind == 4:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[other : other + length]
        else:
            del data[at:]
    return bytes(data)


Mutate = Callable[[bytes, random.Random], bytes]


def json_text(content: bytes, rng: random.Random) -> bytes:
    return changed(json.loads(content), rng, RAW).encode()


def json_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines()
    i = rng.randrange(len(lines))
    lines[i] = json_text(lines[i], rng)
    return b"\n".join(lines) + b"\n"


def signed_lines(content: bytes, rng: random.Random) -> bytes:
    """The JSON of one line changed, under the signature of what it was."""
    lines = content.split(b"\n")
    i = rng.choice([i for i, line in enumerate(lines) if line])
    signature, _, body = lines[i].partition(b" ")
    lines[i] = signature + b" " + json_text(body, rng)
    return b"\n".join(lines)


def yaml_text(content: bytes, rng: random.Random) -> bytes:
    lines = content.decode().splitlines()
    i = rng.randrange(len(lines))
    name = lines[i].split(":")[0]
    lines[i] = rng.choice((f"{name}: {{}}", "{}", f"{lines[i]}\n{{}}")).replace("{}", rng.choice(RAW_YAML))
    return "\n".join(lines).encode(errors="surrogatepass")


def cells_of_csv(content: bytes, rng: random.Random) -> bytes:
    lines = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice((1, 2, 5))):
        line = rng.choice(lines[rng.randrange(2) :])
        text = rng.choice(
            ("", " ", "nan", "1e308", "-1e308", "1e400", "inf", "0x10", '"', "\0", "9" * 5000, "é", "1_0")
        )
        line[rng.randrange(len(line))] = text
    return "\n".join(map(",".join, lines)).encode()


def tensor_file(content: bytes, rng: random.Random) -> bytes:
    """Changes the header, its JSON of facts or the tensors' bytes; the checksum is mostly put right."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    (name,) = (key for key in header["__metadata__"] if key.startswith("vaenas"))
    where = rng.random()
    if where < 0.5:
        header["__metadata__"][name] = changed(json.loads(header["__metadata__"][name]), rng, RAW)
    elif where < 0.7:
        data = flipped(data, rng).ljust(len(data), b"\0")[: len(data)]
    else:
        key = rng.choice([key for key in header if key != "__metadata__"])
        kind = rng.randrange(4)
        if kind == 0:
            del header[key]
        elif kind == 1:
            header[key]["dtype"] = rng.choice(("F64", "I32", "F16", "U8", "BOOL", "X"))
        elif kind == 2:
            header[key]["shape"] = rng.choice(
                ([], [1], [0], header[key]["shape"][::-1], [2**62, 4], [*header[key]["shape"], 1])
            )
        else:
            header[rng.choice(("hash", "x", ""))] = header.pop(key)
    text = json.dumps(header, separators=(",", ":")).encode()
    if where > 0.9:
        text = changed(header, rng, RAW).encode()
    whole = len(text).to_bytes(8, "little") + text + data
    if rng.random() < 0.9:
        blank = re.sub(rb'"sha256":"[0-9a-f]{64}"', b'"sha256":"' + b"0" * 64 + b'"', whole, count=1)
        digest = hashlib.sha256(blank).hexdigest().encode()
        whole = blank.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest, 1)
    return whole


def record(content: bytes, rng: random.Random) -> bytes:
    """One record of a TFRecord file changed, in its JSON or its bytes, under right checksums."""
    records, position = [], 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 8], "little")
        records.append(content[position + 12 : position + 12 + length])
        position += 16 + length
    i = rng.randrange(len(records))
    records[i] = rng.choice((json_text, flipped))(records[i], rng)
    with tempfile.TemporaryDirectory() as folder:
        return official.write(Path(folder, "a"), records).read_bytes()


def table_of_parquet(content: bytes, rng: random.Random) -> bytes:
    columns = parquet.read_table(io.BytesIO(content)).to_pydict()
    name = rng.choice(list(columns))
    odd = rng.choice(
        (None, -1, 2**40, 2**62, 1e300, float("nan"), float("inf"), -0.5, "", " ", "zz", "0 " * 16, "é" * 5)
    )
    if rng.random() < 0.1:
        del columns[name]
    elif rng.random() < 0.5:
        columns[name] = [odd for _ in columns[name]]
    elif type(odd) is type(columns[name][0]) or odd is None:
        columns[name][rng.randrange(len(columns[name]))] = odd
    target = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), target)
    return target.getvalue()


@lru_cache(8)
def loaded(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def containers(node: Any) -> Any:
    """New dictionaries and lists with the same leaves in them."""
    if isinstance(node, dict):
        return {key: containers(value) for key, value in node.items()}
    return [containers(value) for value in node] if isinstance(node, list) else node


def hostile(old: Any) -> list[Any]:
    """What may stand in a checkpoint in the place of a tensor, a number or anything else."""
    if isinstance(old, torch.Tensor) and not old.is_sparse and old.numel() < 2**20:
        filled = [torch.full_like(old, number) for number in (0, 1, -1, 100)]
        shaped = [old[None], old.flatten()[1:], old.flatten()[:1], old[..., None].expand(*old.shape, 9)]
        return [*filled, *shaped, old.double(), old.long(), old > 0, old.to_sparse(), old * math.nan]
    if isinstance(old, int | float):
        return [-1, 0, 1, 2**31, 2**63, -(2**70), 10**400, 0.5, math.nan, -math.inf, True, "x", torch.tensor(7)]
    odd = [None, True, {}, {"x": 1}, [], [[]], (), "", "x", 0, -1, 2**40, 2**70, 0.5, -0.5, math.nan, math.inf]
    return [*odd, torch.empty(0), torch.tensor(7), torch.zeros(1).expand(2**40), torch.zeros(2, 3, dtype=torch.int64)]


def place(node: Any, rng: random.Random) -> tuple[Any, Any]:
    """A dictionary or list within `node` and a key of it: each name alike, as weights are many."""
    key = rng.choice([*node] if isinstance(node, dict) else range(len(node)))
    inner = isinstance(node[key], dict | list) and node[key] and rng.random() < 0.9
    return place(node[key], rng) if inner else (node, key)


def torch_file(content: bytes, rng: random.Random) -> bytes:
    """One or two places of what torch has saved, mostly of a search's state, replaced or left out."""
    whole = containers(loaded(content))
    start = whole.get("state", whole) if rng.random() < 0.9 else whole
    for _ in range(rng.choice((1, 1, 2))):
        node, key = place(start, rng)
        if rng.random() < 0.1:
            del node[key]
        else:
            node[key] = rng.choice(hostile(node[key] if rng.random() < 0.7 else None))
    target = io.BytesIO()
    torch.save(whole, target)
    return target.getvalue()


def tar_members(content: bytes, rng: random.Random) -> bytes:
    """A member of a tar with another name, kind, size or content, under right check sums, and perhaps compressed."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    i = rng.randrange(len(members))
    member, data = members[i]
    kind = rng.randrange(5)
    if kind == 0:
        odd = ("", ".", "..", "/", "a", ".cls", "../../x.jpg", "/etc/x.cls", "é\n\x1b.jpg", "\udcff.cls", "y" * 5000)
        member.name = rng.choice((*odd, *(other.name for other, _ in members)))
    elif kind == 1:
        member.type, member.linkname = rng.choice((b"1", b"2", b"3", b"5", b"6", b"L", b"S", b"x", b"g", b"Z")), "a"
    elif kind == 2:
        name = rng.choice(("size", "path", "GNU.sparse.map", "x"))
        member.pax_headers = {name: rng.choice(("-1", "", "9" * 30, "a"))}
    elif kind == 3:
        data = rng.choice((b"", b"-1", b"2", b" 1 ", b"1_0", b"9" * 5000, "١".encode(), b"\xff", flipped(data, rng)))
        member.size = len(data)
    else:
        member.size = rng.choice((0, 1, 2**20, 2**33, 2**60))
    members[i] = (member, data)
    for member, data in members:
        target.write(member.tobuf(rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)), errors="surrogateescape"))
        target.write(data.ljust(-(-len(data) // 512) * 512, b"\0"))
    return rng.choice((bytes, bytes, gzip.compress, bz2.compress))(target.getvalue() + bytes(1024))


def code(content: bytes, rng: random.Random) -> bytes:
    text = content.decode()
    at = rng.randrange(len(text) + 1)
    more = rng.choice(
        ("", "-", "|", "é", "\0", "\n", "(", "[" * 3000, "'", "1e400", "9" * 5000, "none~0", "range(9**99)")
    )
    return (text[:at] + more + text[at + rng.choice((0, 1, 5)) :]).encode()


@dataclass(frozen=True)
class Format:
    """`seed` writes a valid file, or files, into an empty folder and names the one to change; `load` reads it."""

    seed: Callable[[Path], Path]
    load: Callable[[Path], object]
    mutations: tuple[Mutate, ...]


@cache
def _problem() -> Problem:
    """The tiny one, with fewer images still."""
    problem = tiny_problem()
    few = [problem.training.batch(torch.arange(4))]
    evaluate = SupernetEvaluator(problem.network, few, few, problem.prepare)
    return replace(problem, training=Images(torch.arange(16)), evaluate=evaluate)


def _search(of: str) -> OneShot:
    """Four steps; the last stage by generations, or else by rounds of the surrogate's."""
    return tiny_search(
        _problem(), lambda space, rng: VAESampler(space, rng, VAESettings(2, 8, 4, iterations=2)),
        supernet=SupernetTraining(epochs=1, batch_size=4), training=SamplerTraining(0.5, ranking_size=4),
        surrogate=SurrogateSettings("none" if of == "generation" else "ridge"), evolution=EvolutionSettings(3, 2, 2),
    )  # fmt: skip


@cache
def _checkpoint_of(of: str) -> bytes:
    """The first of a search at a boundary of that kind."""
    search = _search(of)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        next(record for record in one_shot.run(search) if record.kind == of)
        directory.save_checkpoint(Plan(), {}, 1.0, search)
        return directory.checkpoint_file.read_bytes()


@dataclass(frozen=True)
class Saved:
    """A state that is what it is."""

    state: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


def _state(of: str) -> Format:
    """A checkpoint from which a search goes on up to its next record."""

    def write(folder: Path) -> Path:
        (folder / "checkpoint").write_bytes(_checkpoint_of(of))
        return folder / "checkpoint"

    def go_on(path: Path) -> None:
        directory, search = RunDirectory(path.parent), _search(of)
        checkpoint = directory.load_checkpoint()
        assert checkpoint is not None
        directory.restore(checkpoint, search)
        next(one_shot.run(search), None)

    return Format(write, go_on, (torch_file,))


def _scorer(path: Path) -> SavedScores:
    saved = SavedScores(lambda population: population.sum(-1) / 7, _search("surrogate").trainer)
    saved.open(path)
    return saved


def _saved_scores(folder: Path) -> Path:
    saved = _scorer(folder / "scores")
    for population in _problem().space.uniform(6, torch.Generator().manual_seed(0)).split(2):
        saved(population)
    return folder / "scores"


def _scored_again(path: Path) -> None:
    """Whatever the file holds, scores are what they were."""
    population = _problem().space.uniform(6, torch.Generator().manual_seed(0))
    assert torch.equal(_scorer(path)(population), population.sum(-1) / 7)


def _table(folder: Path) -> Path:
    space = SearchSpace("toy", ("abc", "ab"), (2,))
    values = torch.tensor([[0.5, torch.nan], [0.25, 1.0], [0.0, 0.75]])[:, :, None]
    path = folder / "table.safetensors"
    TabularBenchmark.of(
        space, torch.tensor([[0, 1], [2, 0], [1, 1]]), (4, 12), values, source="toy", measured="accuracy", test=values,
        seconds=100 * values, params=torch.tensor([5, 6, 7]), slots={"a": ["x", "y", "z"], "b": ["u", "v"]},
    ).save(path)  # fmt: skip
    return path


def _ask(path: Path) -> None:
    table = TabularBenchmark.open(path)
    population = table.labelled()
    for answer in (table.validation(population), *([table.test(population)] if table.has_test else [])):
        assert not ((answer < 0) | (answer > 1)).any()
    assert (table.rows(table.population) == torch.arange(len(table))).all()


def _weights(folder: Path) -> Path:
    info = NetworkInfo("shufflenet", "3-5-7x-3", 28, 1, 0.125, 5, ("a", "b", "c"), (0.5,), (0.25,))
    save_weights(folder / "weights.safetensors", info.build(), info)
    return folder / "weights.safetensors"


def _checkpoint(folder: Path) -> Path:
    directory = RunDirectory(folder)
    directory.metrics_file.write_text('{"kind": "train"}\n')
    rng = torch.Generator().get_state()
    state = {"step": 3, "rng": rng, "weights": {"a": torch.ones(4)}}
    directory.save_checkpoint(Plan(), {"x": "y"}, 1.0, Saved(state))
    return directory.checkpoint_file


def _cells(n: int) -> list[dict[str, Any]]:
    population = NASBench101Space().uniform(n, torch.Generator().manual_seed(0))
    rows = []
    for cell, name in zip(population.tolist(), module_hash(population), strict=True):
        bits = sum(bit << i for i, bit in enumerate(cell[:21]))
        rows.append({"hash": name, "vertices": 7, "edge_bits": bits, "ops": "".join(map(str, cell[21:])), "params": 9})
    return rows


def _parquet(folder: Path) -> Path:
    measured = dict.fromkeys((*(f"val_acc_{e}ep" for e in (4, 12, 36, 108)), "train_seconds_108ep"), 0.5)
    parquet.write_table(pyarrow.Table.from_pylist([row | measured for row in _cells(5)]), folder / "a.parquet")
    return folder / "a.parquet"


def _tfrecord(folder: Path) -> Path:
    runs = [official.Run(**row, epochs=e, validation=0.5, test=0.5, seconds=9.0) for row in _cells(3) for e in (4, 108)]
    return official.write(folder / "a.tfrecord", map(official.data, runs))


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def _nasbench201() -> str:
    cells = list(map(NASBench201Space().own_text, NASBench201Space().uniform(5, torch.Generator().manual_seed(0))))
    lines = [f"{cell},{1000 + i},50.5,60.25,," for i, cell in enumerate(cells)]
    return "\n".join(["cell,params,cifar10_val_12ep,cifar10_test_12ep,cifar10_val_200ep,cifar10_test_200ep", *lines])


def _macro() -> str:
    codes = macro_space().encode(macro_space().uniform(4, torch.Generator().manual_seed(0)))
    return json.dumps({text: {"test_acc": [90.5, 91.0, 90.0], "mean_acc": 90.5, "params": 12345} for text in codes})


def _run(name: str) -> Callable[[Path], Path]:
    """A small run's folder, of which the file `name` is changed."""

    def write(folder: Path) -> Path:
        best = {"code": "3-5", "architecture": [0, 1], "score": 0.5, "predicted_score": 0.5, "flops": 9, "params": 9}
        sizes = {"image_size": 8, "image_channels": 1, "classes": 2, "width": 0.25, "layers": 5}
        result = {
            "space": "shufflenet", "ranking_metric": "accuracy", "network": sizes, "truth": None, "best": best,
            "pareto": [best], "evaluated": 2, "draws": None, "seconds": 1.5, "version": "0.1.0", "kind": "search",
            "method": "one-shot", "sampler": "vae", "seed": 0, "latency": None, "environment": {"threads": 1},
            "images": {"training": 9, "ranking": 3, "test_split": None, "skipped": [], "notes": []},
            "evaluations": [{"score": s, "predicted_score": s, "flops": f} for s, f in ((0.5, 9), (0.25, 8))],
        }  # fmt: skip
        update = {"kind": "update", "step": 2, "epoch": 0.5, "scores": [0.5, 0.25], "learned": [True, False], "kl": 1.0}
        records = [
            {"kind": "train", "step": 1, "epoch": 0.25, "loss": 2.0, "accuracy": 0.25, "epsilon": 0.1},
            {**update, "entropy": 1.0, "active_units": 1, "reconstruction": 0.5, "probabilities": [[0.5, 0.5]] * 2},
            {"kind": "generation", "step": 3, "generation": 0, "best": 0.5, "mean": 0.25},
        ]
        drawing = {
            "title": "t", "input": "1 x 8 x 8", "before": ["a"], "after": ["b"],
            "operations": [{"symbol": "3", "name": "three"}, {"symbol": "5", "name": "five"}],
            "groups": [{"name": "g", "output": "o", "slots": [{"slot": i, "operation": i} for i in (0, 1)]}],
        }  # fmt: skip
        (folder / "config.yaml").write_text(
            "# vaenas 0.1.0\nspace: shufflenet\nsampler: vae\nconstraints:\n  max_flops: null\nseed: 0\n"
        )
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "drawing.json").write_text(json.dumps(drawing))
        return folder / name

    return write


def _report(path: Path) -> None:
    """Read by the report, and of one in ten written, which takes a second."""
    read_run(path.parent)
    if sum(path.read_bytes()) % 10 == 0:
        write_report(path.parent)


def _settings(path: Path) -> None:
    """As the report and as `vaenas train RUN` read them."""
    _report(path)
    make(TrainConfig, found_by(str(path.parent)))


def _plan(path: Path) -> None:
    _, plan = open_run(path.parent)  # whose lock ends with this function
    plan.checked_for(make(SearchConfig, {}))


def _latencies(path: Path) -> LatencyTable:
    with _refusing():
        return LatencyTable.from_json(path.read_bytes(), space_class("nasbench201")(NetworkConfig(16, 1, 2, 8, 1)))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """As those do that call what raises `ValueError`."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


def _runs(path: Path, *more: Run) -> None:
    with Finished(path, {"table": "a", "queries": 20, "version": 3}, Run, attrgetter("method", "seed")) as finished:
        for run in more:
            finished.add(run)


def _runs_seed(folder: Path) -> Path:
    _runs(folder / "runs.jsonl", *(Run(method="random", seed=i, curve={10: 0.5, 20: 0.75}) for i in (0, 1)))
    return folder / "runs.jsonl"


def _index(folder: Path) -> Path:
    """A shard and its index."""
    image, pixels = Image.effect_noise((20, 20), 60), io.BytesIO()
    image.save(pixels, "jpeg")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in "01":
            for name, data in ((f"{number}.jpg", pixels.getvalue()), (f"{number}.cls", number.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    index = {"__kind__": "wids-shard-index-v1", "shardlist": [{"url": "a.tar", "nsamples": 2}]}
    return _text("index.json", json.dumps(index))(folder)


def _open(index: Path) -> ShardSet:
    return open_shards(index, ("a", "b"), 16, 1, Findings())


def _shard(path: Path) -> None:
    """What a worker does, in this process."""
    shards = _open(path.parent / "index.json")
    stream = _Stream([str(path)], len(shards.classes), Decoder(shards.image_size, "white"))
    with _refusing():
        for sample in map(stream._decoded, _samples(str(path))):
            if isinstance(sample, str):  # why it cannot be read
                raise ValueError(sample)


def _teacher(ending: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        state, path = timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict(), folder / f"a.{ending}"
        save_file(state, path) if ending == "safetensors" else torch.save(state, path)
        return path

    return write


def _image(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image = Image.effect_noise((20, 20), 60).convert("RGB")
        for name in ("a", "b"):
            (folder / "train" / name).mkdir(parents=True)
            image.save(folder / "train" / name / f"0.{kind}")
        return folder / "train" / "a" / f"0.{kind}"

    return write


def _folder(path: Path) -> object:
    with tempfile.TemporaryDirectory() as cache:
        return load_folder(DataSettings(str(path.parents[2]), image_size=16), Path(cache))


def _chosen(path: Path, genotype: bool = False) -> object:
    text = path.read_text(errors="surrogateescape")  # as the command line has it
    return choose(None if genotype else text, None, text if genotype else None)


def _formats() -> dict[str, Format]:
    config = (
        "# vaenas 0.1.0\nspace: shufflenet\nseed: 3\nconstraints:\n  max_flops: 300M\nsupernet:\n"
        "  weight_decay: 3.0e-05\ntable:\n  path: null\n"
    )
    own = "depth, kernel, act, score\n3, 5, relu, 0.5\n3, 3, relu, 0.75\n4, 5, gelu, 0.25\n"
    environment = {"format": FORMAT, "kind": "search", "environment": machine.environment(torch.device("cpu"))}
    latency = {"table": [[7] * 5] * 6, "constant": 9, "error": 0.5, "device": "x"}
    sizes = {"image_size": 8, "image_channels": 1, "classes": 2, "width": 0.25, "layers": 5}
    trained = {"kind": "training", "accuracy": 0.5, "top5": 1, "params": 7, "flops": 9, "space": "shufflenet"}
    trained |= {"code": "3-5", "recipe": "quick", "epochs": 2, "search": None, "seed": 0, "network": sizes}
    trained |= {"images": {"training": 9, "test": 2, "test_split": {"seed": 7}, "skipped": ["x"], "notes": []}}
    trained |= {"environment": {"python": "3.12", "threads": 1}, "seconds": 1.5, "version": "0.1.0"}
    pairs = [("sep_conv_3x3", 0), ("sep_conv_5x5", 1)] * 4
    genotype = f"Genotype(normal={pairs}, normal_concat=range(2, 6), reduce={pairs}, reduce_concat=range(2, 6))"
    matrix = '{"matrix": [[0, 1, 1], [0, 0, 1], [0, 0, 0]], "ops": ["input", "maxpool3x3", "output"]}'
    codes = {"nasnet": NASNetSpace().encode(NASNetSpace().uniform(1, torch.Generator().manual_seed(0)))[0]}
    codes |= {"shufflenet": "3-5-7x-3", "macro": "02012100", "string": _nasbench201().split("\n")[1].split(",")[0]}
    reports = {
        f"report of {name}": Format(_run(name), _report, (kind, flipped))
        for name, kind in (("result.json", json_text), ("metrics.jsonl", json_lines), ("drawing.json", json_text))
    }
    states = {f"checkpoint of {of}": _state(of) for of in BOUNDARIES}
    teachers = {
        f"teacher {ending}": Format(_teacher(ending), lambda p: load_teacher("test_resnet", p, 10, (0.3,), (0.4,)), how)
        for ending, how in (("safetensors", (flipped,)), ("pth", (torch_file, torch_file, flipped)))
    }
    return {
        "table": Format(_table, _ask, (tensor_file, tensor_file, flipped)),
        "weights": Format(_weights, load_weights, (tensor_file, tensor_file, flipped)),
        "checkpoint": Format(_checkpoint, lambda p: RunDirectory(p.parent).load_checkpoint(), (torch_file, flipped)),
        **states,
        "saved scores": Format(_saved_scores, _scored_again, (flipped, signed_lines)),
        "environment": Format(
            _text("environment.json", json.dumps(environment)),
            lambda p: RunDirectory(p.parent).begun,
            (json_text, flipped),
        ),
        "plan": Format(_text("run.yaml", yaml.safe_dump(Plan().model_dump())), _plan, (yaml_text, yaml_text, flipped)),
        "latencies": Format(_text("latency.json", json.dumps(latency)), _latencies, (json_text, flipped)),
        "bench runs": Format(_runs_seed, _runs, (json_lines, flipped)),
        "settings of a run": Format(_run("config.yaml"), _settings, (yaml_text, yaml_text, flipped)),
        "training result": Format(
            _text("result.json", json.dumps(trained)), lambda p: read_json(TrainingResult, p), (json_text, flipped)
        ),
        "parquet": Format(_parquet, import_table, (table_of_parquet, flipped)),
        "tfrecord": Format(_tfrecord, import_table, (record, record, flipped)),
        "nasbench201 csv": Format(_text("a.csv", _nasbench201()), import_table, (cells_of_csv, flipped)),
        "own csv": Format(
            _text("a.csv", own),
            lambda p: import_table(p, slots=["depth", "kernel", "act"], score="score"),
            (cells_of_csv, flipped),
        ),
        "macro json": Format(_text("a.json", _macro()), import_table, (json_text, flipped)),
        "search config": Format(
            _text("a.yaml", config), lambda p: make(SearchConfig, {}, p), (yaml_text, yaml_text, flipped)
        ),
        "train config": Format(
            _text("a.yaml", "recipe: quick\ncode: 3-5-7x-3\nnetwork:\n  layers: 5\nseed: 3\ntraining:\n  ema: 0.5\n"),
            lambda p: make(TrainConfig, {}, p),
            (yaml_text, yaml_text, flipped),
        ),
        **reports,
        **{f"image {kind}": Format(_image(kind), _folder, (flipped,)) for kind in IMAGES},
        "shard index": Format(_index, _open, (json_text, flipped)),
        "shard": Format(lambda folder: _index(folder).with_name("a.tar"), _shard, (tar_members, tar_members, flipped)),
        **teachers,
        "genotype": Format(_text("code", genotype), lambda p: _chosen(p, True), (code, flipped)),
        "matrix": Format(_text("code", matrix), _chosen, (code, json_text)),
        **{f"code {name}": Format(_text("code", text), _chosen, (code,)) for name, text in codes.items()},
    }


FORMATS = _formats()


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Interrupts the block after `SECONDS`, and gives it `BYTES` of memory more than the process has."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handlers = [(number, signal.signal(number, late)) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)  # what waits and does not compute; a machine may be busy
    resource.setrlimit(resource.RLIMIT_AS, (has + BYTES, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in handlers:
            signal.signal(number, handler)


def outcome(name: str, number: int, folder: Path) -> tuple[str, str]:
    """ "read", "refused" or "failed" of one input, made in an empty folder and left there, and the message."""
    form, rng = FORMATS[name], random.Random(f"{name} {number}")
    path = form.seed(folder)
    path.write_bytes(rng.choice(form.mutations)(path.read_bytes(), rng))
    try:
        with bounded(), contextlib.redirect_stderr(io.StringIO()):
            form.load(path)
    except UserError as error:
        message = str(error)
        good = len(message) < CHARACTERS and message.isprintable()
        return ("refused" if good else "failed"), message
    except BaseException as error:  # whatever it is, a user would see a traceback
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return "failed", f"{type(error).__name__}: {error}"
    return "read", ""


def part(first: int, inputs: int, step: int, failures: Path) -> dict[str, Counter[str]]:
    """The outcomes of the inputs `first`, `first + step`, ... by format."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    names = [*FORMATS]
    for i in range(first, inputs, step):
        name = names[i % len(names)]
        with tempfile.TemporaryDirectory() as folder:
            found, message = outcome(name, i, Path(folder))
            counts[name][found] += 1
            if found == "failed":
                print(f"{name} {i}: {message[:500]}", file=sys.stderr, flush=True)
                shutil.copytree(folder, failures / f"{name} {i}", dirs_exist_ok=True)
        if i // step % 1000 == 0:
            print(f"{i} of {inputs}", file=sys.stderr, flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)  # of a process's share
    given = parser.parse_args()
    torch.set_num_threads(1)
    failures = given.output.with_suffix(".failures")
    if given.first is not None:
        print(json.dumps(part(given.first, given.inputs, given.processes, failures)))
        return
    words = [
        sys.executable,
        "-m",
        "tests.robustness.fuzz",
        "--inputs",
        str(given.inputs),
        "--output",
        str(given.output),
    ]
    words += ["--processes", str(given.processes), "--first"]
    started = [subprocess.Popen([*words, str(i)], stdout=subprocess.PIPE, text=True) for i in range(given.processes)]
    total: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    for process in started:
        for name, counts in json.loads(process.communicate()[0]).items():
            total[name].update(counts)
    every = sum(total.values(), Counter())
    report = {
        "date": datetime.date.today().isoformat(), "inputs": given.inputs, "numbers": [0, given.inputs - 1],
        "limits": {"seconds": SECONDS, "bytes": BYTES, "characters": CHARACTERS}, "outcomes": every, "formats": total,
    }  # fmt: skip
    given.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(every))
    sys.exit(every["failed"] > 0)


if __name__ == "__main__":
    main()
