"""WebDataset shards of real JPEGs: every image once an epoch, the same order for one seed, resumed where it was."""

import http.server
import json
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.runs.command import call
from vaenas.data.decode import ENDINGS, Findings
from vaenas.data.shards import ShardSet, open_shards
from vaenas.errors import UserError


@pytest.fixture(scope="module")
def index(imagenet_mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of six images, the class of each its place in the folder."""
    root = tmp_path_factory.mktemp("shards")
    files = sorted((imagenet_mini / "imagenet-native" / "train").rglob("*.JPEG"))[:24]
    shards = []
    for number in range(4):
        name = f"train-{number}.tar"
        with tarfile.open(root / name, "w") as tar:
            for row in range(6 * number, 6 * number + 6):
                for ending, content in (("jpg", files[row].read_bytes()), ("cls", str(row).encode())):
                    info = tarfile.TarInfo(f"{row:05}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
        shards.append({"url": name, "nsamples": 6})
    (root / "index.json").write_text(json.dumps({"__kind__": "wids-shard-index-v1", "shardlist": shards}))
    return root / "index.json"


def opened(index: Path, workers: int = 2) -> ShardSet:
    return open_shards(index, tuple(map(str, range(24))), 24, workers, Findings())


def epoch(shards: ShardSet, seed: int, done: int = 0) -> tuple[torch.Tensor, list[int]]:
    images, labels = zip(*shards.stream(torch.arange(24).split(4)[done:], None, seed), strict=True)
    return torch.cat(images), torch.cat(labels).tolist()


def test_every_image_once_an_epoch(index: Path) -> None:
    shards = opened(index)
    assert len(shards) == 24
    images, order = epoch(shards, seed=0)
    assert sorted(order) == list(range(24))
    again, same = epoch(shards, seed=0)
    assert same == order != sorted(order)
    assert torch.equal(images, again)
    assert epoch(shards, seed=1)[1] != order
    rest, left = epoch(shards, seed=0, done=4)
    assert left == order[16:]
    assert torch.equal(rest, images[16:])


def test_what_is_no_index(index: Path, tmp_path: Path, imagenet_mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.json").write_text('{"shardlist": []}')
    (tmp_path / "bad.json").write_text("{}")
    for name, said in (("empty", "at least 1 item"), ("bad", "Field required"), ("none", "no such file")):
        with pytest.raises(UserError, match=f"{name}.json: .*{said}"):
            opened(tmp_path / f"{name}.json")
    few = open_shards(index, ("a", "b"), 24, 1, Findings())
    with pytest.raises(UserError, match=r"no \.cls from 0 to 1 beside the image"):
        list(few.stream(torch.arange(24).split(12), None, 0))
    words = ["--data", imagenet_mini / "imagenet-mini", "--shards", index, "--train-images", 5]
    assert call("train", "3-5-7x-3", "--layers", 5, *words, "--output", tmp_path / "run") == 2
    assert "--train-images: 5 does not go with shards" in capsys.readouterr().err


def test_a_training_reads_them(
    index: Path, imagenet_mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder gives ten classes and the test images; the shards' first ten classes alone would do, so two shards."""
    monkeypatch.setenv("VAENAS_CACHE", str(tmp_path / "cache"))
    listed = json.loads(index.read_text())
    short = index.with_name("short.json")
    short.write_text(json.dumps({**listed, "shardlist": listed["shardlist"][:1]}))  # classes 0 to 5
    words = ["--data", imagenet_mini / "imagenet-mini", "--shards", short, "--image-size", 32, "--workers", 1]
    words += ["--epochs", 2, "--batch-size", 3, "--width", 0.125, "--layers", 5, "--recipe", "imagenet-shufflenet"]
    assert call("train", "3-5-7x-3", *words, "--learning-rate", 0.01, "--output", tmp_path / "run") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["images"]["training"] == 6
    assert 0 <= result["accuracy"] <= 1


def listing(root: Path, *urls: str, nsamples: object = 2) -> Path:
    (root / "index.json").write_text(json.dumps({"shardlist": [{"url": url, "nsamples": nsamples} for url in urls]}))
    return root / "index.json"


def packed(path: Path, members: dict[str, bytes | Image.Image]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, Image.Image):
                encoded = BytesIO()
                content.save(encoded, Image.registered_extensions()[f".{name.rpartition('.')[2].lower()}"])
                content = encoded.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


@pytest.mark.parametrize(
    "url",
    [
        "pipe:touch pwned; false", "PIPE:touch pwned", " pipe:touch pwned", "http://localhost/0.tar", "ftp://a/0.tar",
        "gs://a/0.tar", "hf://a/0.tar", "data:,x", "file://host/0.tar", "//host/0.tar", "https:///0.tar", "https:0.tar",
        "https://[/0.tar", "ssh://a", "htgs://a/b",
    ],
)  # fmt: skip
def test_other_urls_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="choose a path or https; nothing else is opened") as caught:
        opened(listing(tmp_path, url))
    assert url in str(caught.value)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("url", ["HTTPS://host/0.tar", " https://host/0.tar", "htt\nps://host/0.tar"])
def test_https_is_opened_however_it_is_written(tmp_path: Path, url: str) -> None:
    assert opened(listing(tmp_path, url)).urls == ("https://host/0.tar",)


@pytest.mark.parametrize(
    ("url", "why"), [("none.tar", "No such file"), ("-", "No such file"), ("a\0b", "null byte"), (".", "not a regular")]
)
def test_missing_shards_are_found_at_once(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(UserError, match=f"index.json: .*: cannot read the shard: .*{why}"):
        opened(listing(tmp_path, url))


@pytest.mark.parametrize("nsamples", [-1, "x", None, 1.5, 10**9 + 1, 9e18, 2**63, [1]])
def test_numbers_of_samples(tmp_path: Path, nsamples: object) -> None:
    with pytest.raises(UserError, match=r"index.json: shardlist\.0\.nsamples: must be .* \("):
        opened(listing(tmp_path, "0.tar", nsamples=nsamples))


def test_the_sum_of_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"index\.json: 1000000002 samples are more"):
        opened(listing(tmp_path, "0.tar", "1.tar", nsamples=10**9 // 2 + 1))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "not a regular one"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular one"),
        (Path.mkdir, "not a regular one"),
        (lambda path: path.write_bytes(bytes(2**23 + 1)), "more than 8 MiB of JSON"),
    ],
)
def test_an_index_is_a_file_and_bounded(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "index.json")
    with pytest.raises(UserError, match=f"index.json: .*{why}"):
        opened(tmp_path / "index.json")


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_paths(tmp_path: Path, scheme: str) -> None:
    path = packed(tmp_path / "0.tar", {"../../a.png": Image.new("L", (8, 8)), "../../a.cls": b"3"})
    shards = opened(listing(tmp_path, f"{scheme}{path}", nsamples=1))
    ((_, labels),) = shards.stream([torch.arange(1)], None, 0)
    assert labels.tolist() == [3]


@pytest.mark.parametrize("ending", [*(ending[1:] for ending in ENDINGS), "JPG"])
def test_the_formats_of_folders(tmp_path: Path, ending: str) -> None:
    picture = Image.new("L" if ending == "pgm" else "RGB", (8, 8), 250 if ending == "pgm" else (250, 250, 250))
    packed(tmp_path / "0.tar", {f"a.{ending}": picture, "a.cls": b"0"})
    ((pixels, _),) = opened(listing(tmp_path, "0.tar", nsamples=1)).stream([torch.arange(1)], None, 0)
    assert abs(float(pixels.float().mean()) - 250) < 1


def test_transparent_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed(
        tmp_path / "0.tar",
        {f"{n}.{e}": c for n in "ab" for e, c in (("png", Image.new("RGBA", (8, 8))), ("cls", b"0"))},
    )
    shards = open_shards(listing(tmp_path, "0.tar"), ("x",), 8, 1, Findings(background="grey"))
    ((pixels, _),) = shards.stream([torch.arange(2)], None, 0)
    assert pixels.unique().tolist() == [128]
    assert len(shards.findings.transparent) == 2
    assert capsys.readouterr().err.count("transparent, put on grey") == 1


def gone(path: Path) -> None:
    path.unlink()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def text(path: Path) -> None:
    path.write_text("no tar")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def bad_image(path: Path) -> None:
    packed(path, {"sub/a.png": b"no image", "sub/a.cls": b"0"})


def no_image(path: Path) -> None:
    packed(path, {"sub/a.svg": b"", "sub/a.cls": b"0"})


def nothing(path: Path) -> None:
    packed(path, {})


def large(path: Path) -> None:
    with tarfile.open(path, "w") as tar, (path.parent / "zeros").open("wb") as zeros:
        zeros.truncate(2**28 + 1)
        tar.add(zeros.name, "sub/a.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (gone, "0.tar: cannot read the shard: .*no such file"),
        (fifo, "0.tar: cannot read the shard: .*not a regular one"),
        (text, "0.tar: cannot read the shard"),
        (half, "0.tar, a.png: cannot read the shard: unexpected end of data"),
        (bad_image, "0.tar, sub/a: cannot read the image: cannot identify it as one of BMP"),
        (no_image, "0.tar, sub/a: no image beside the .cls"),
        (nothing, "0.tar: no images in a worker's share"),
        (large, "0.tar, sub/a.png: cannot read the shard: 268435457 bytes are more than 268435456"),
    ],
)
def test_errors_name_shard_and_member(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    """That of a worker comes as one line, too; the shard was there when the run began."""
    path = packed(tmp_path / "0.tar", {"a.png": Image.effect_noise((99, 99), 9), "a.cls": b"0"})
    shards = opened(listing(tmp_path, "0.tar", nsamples=1))
    spoil(path)
    with pytest.raises(UserError, match=said) as caught:
        list(shards.stream([torch.arange(1)], None, 0))
    assert "\n" not in str(caught.value)


def test_the_content_tells_shards_apart(tmp_path: Path) -> None:
    one, two = (packed(tmp_path / f"{n}.tar", {"a.cls": b"0" * 9000 * n}).name for n in range(2))
    seen = [opened(listing(tmp_path, *urls, nsamples=n)).content for urls, n in (([one], 2), ([two], 2), ([one], 3))]
    assert len({*seen}) == 3
    assert opened(listing(tmp_path, one)).content == seen[0]


@pytest.fixture(scope="module")
def server(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of `index` by https; /to/URL leads to URL."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, for a certificate")
    here = tmp_path_factory.mktemp("tls")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2"
    words += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(words.split(), cwd=here, check=True, capture_output=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/to/"):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

        def translate_path(self, path: str) -> str:
            return str(index.parent / Path(path).name)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(here / "cert.pem", here / "key.pem")
    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as served, pytest.MonkeyPatch.context() as patch:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        patch.setenv("SSL_CERT_FILE", str(here / "cert.pem"))
        yield f"https://localhost:{served.server_port}"
        served.shutdown()


def test_https(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/train-0.tar", f"{server}/to/{server}/train-1.tar"]
    labels = [
        row
        for _, part in opened(listing(tmp_path, *urls, nsamples=6), 1).stream([*torch.arange(12).split(4)], None, 0)
        for row in part.tolist()
    ]
    assert sorted(labels) == list(range(12))


@pytest.mark.parametrize(
    "target", ["http://localhost:1/0.tar", "file:///etc/passwd", "ftp://localhost/0.tar", "pipe:x"]
)
def test_https_leads_nowhere_else(server: str, tmp_path: Path, target: str) -> None:
    shards = opened(listing(tmp_path, f"{server}/to/{target}"))
    said = f"/to/{target}: cannot read the shard: .*({target}, which is not https|url '{target}' is not allowed)"
    with pytest.raises(UserError, match=said):
        list(shards.stream([torch.arange(1)], None, 0))


def test_https_with_another_certificate(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match=r"train-0\.tar: cannot read the shard: .*CERTIFICATE_VERIFY_FAILED"):
        list(opened(listing(tmp_path, f"{server}/train-0.tar")).stream([torch.arange(1)], None, 0))
