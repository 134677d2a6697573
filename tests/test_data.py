"""The data are what they claim to be, checked against scikit-learn, geometry and recorded digests."""

import gzip
import hashlib
import importlib.util
import re
import socket
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from torch.nn.functional import one_hot

from nonlinearity import data

few = settings(max_examples=25, deadline=None, database=None, derandomize=True)
plane = pytest.mark.parametrize("make", [data.xor, data.moons, data.circles])


# --- in the plane ---------------------------------------------------------------------------------------


@plane
def test_plane_shapes_dtypes_and_labels(make):
    x, y = make(101)
    assert (x.shape, x.dtype) == ((101, 2), torch.float32)
    assert (y.shape, y.dtype) == ((101, 1), torch.float32)
    assert set(y.flatten().tolist()) == {0.0, 1.0}
    assert abs(y.sum().item() - 50.5) <= 0.5


@plane
def test_plane_repeats_by_seed_and_leaves_the_global_generators_alone(make):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(make(seed=3)[0], make(seed=3)[0])
    assert not torch.equal(make(seed=3)[0], make(seed=4)[0])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_xor_without_noise_is_the_truth_table():
    x, y = data.xor(4, noise=0)
    assert {(*point, *label) for point, label in zip(x.tolist(), y.tolist())} == {
        (-1, -1, 0), (-1, 1, 1), (1, -1, 1), (1, 1, 0),
    }  # fmt: skip


@given(st.integers(1, 60), st.floats(0, 0.15), st.integers(0, 2**31))
@few
def test_xor_is_balanced_over_corners_and_labelled_by_the_signs(n, noise, seed):
    x, y = data.xor(n, noise, seed)
    # At most six standard deviations from a corner: no point strays over an axis.
    assert torch.equal(y.flatten(), (x[:, 0].sign() != x[:, 1].sign()).float())
    counts = torch.bincount(((x > 0) * torch.tensor([2, 1])).sum(1), minlength=4)
    assert counts.max() - counts.min() <= 1


def test_xor_noise_has_its_standard_deviation():
    x, _ = data.xor(40_000, noise=0.2)
    deviation = (x - x.sign()).std(0)
    torch.testing.assert_close(deviation, torch.tensor([0.2, 0.2]), atol=0.003, rtol=0)


@pytest.mark.parametrize(
    ("make", "original"),
    [(data.moons, datasets.make_moons), (data.circles, partial(datasets.make_circles, factor=0.5))],
)
def test_moons_and_circles_are_scikit_learns_standardised(make, original):
    x, y = make(200, noise=0.05, seed=7)
    raw, labels = original(200, noise=0.05, random_state=7)
    assert y.flatten().tolist() == labels.tolist()
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(2))
    for axis in range(2):  # standardisation shifts and scales each axis, no more
        assert np.corrcoef(x[:, axis], raw[:, axis])[0, 1] == pytest.approx(1, abs=1e-6)


@plane
@pytest.mark.parametrize("noise", [-0.1, float("inf"), float("nan")])
def test_plane_refuses_noise(make, noise):
    with pytest.raises(ValueError, match=f"noise must be a finite number of at least 0, got {noise}"):
        make(noise=noise)


def test_plane_refuses_too_few_points():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        data.xor(0)
    for make in (data.moons, data.circles):
        with pytest.raises(ValueError, match="n must be at least 2, got 1"):
            make(1)


# --- digits ---------------------------------------------------------------------------------------------


def test_digits_hold_every_original_once_with_its_label():
    split = data.digits()
    assert (split.x_train.shape, split.x_test.shape) == ((1297, 64), (500, 64))
    assert (split.x_train.dtype, split.y_train.dtype) == (torch.float32, torch.int64)
    x, y = datasets.load_digits(return_X_y=True)
    original = sorted((*row, label) for row, label in zip(x.tolist(), y.tolist()))
    ours = torch.cat([split.x_train, split.x_test]) * 16
    labels = torch.cat([split.y_train, split.y_test])
    assert sorted((*row, label) for row, label in zip(ours.tolist(), labels.tolist())) == original


def test_digits_keep_each_class_share():
    split = data.digits()
    shares = split.y_train.bincount() / 1297, split.y_test.bincount() / 500
    torch.testing.assert_close(*shares, atol=0.002, rtol=0)


def test_digits_split_by_seed():
    assert torch.equal(data.digits(1).x_test, data.digits(1).x_test)
    assert not torch.equal(data.digits(1).x_test, data.digits(2).x_test)


# --- Fashion-MNIST, the subset --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subset():
    return data.fashion_mnist()


def test_subset_has_the_promised_form(subset):
    for x, y, n in [(subset.x_train, subset.y_train, 10_000), (subset.x_test, subset.y_test, 5_000)]:
        assert (x.shape, x.dtype) == ((n, 784), torch.float32)
        assert (y.shape, y.dtype) == ((n,), torch.int64)
        assert (x.min(), x.max()) == (0, 1)
        assert y.bincount().tolist() == [n // 10] * 10
        assert y[:100].bincount().tolist() == [10] * 10


def test_subset_is_the_first_images_of_each_class_of_the_originals(subset):
    # SHA-256 of images[labels == label][:count].tobytes() from the four original files, label after label.
    recorded = {
        1000: "c0c6726b84344f71ed5f3f778113ef72d81c3e38038638a076d9f7b48ef3af3c",
        500: "37ed5c445dd5f082c478d82d7de9aed8c49fe967b3bcf55c2038a0b19904e8ab",
    }
    for x, y, count in [(subset.x_train, subset.y_train, 1000), (subset.x_test, subset.y_test, 500)]:
        pixels = (x * 255).round().to(torch.uint8)
        digest = hashlib.sha256()
        for label in range(10):
            digest.update(pixels[y == label].numpy().tobytes())
        assert digest.hexdigest() == recorded[count]


def test_subset_labels_belong_to_the_images(subset):
    """A linear classifier by least squares, no training loop of ours, must get most test images right."""
    ones = torch.ones(len(subset.x_train), 1)
    weights = torch.linalg.lstsq(
        torch.cat([subset.x_train, ones], 1).double(), one_hot(subset.y_train).double(), driver="gelsd"
    ).solution
    guess = (subset.x_test.double() @ weights[:-1] + weights[-1]).argmax(1)
    assert (guess == subset.y_test).double().mean() > 0.75


def test_class_names():
    assert len(data.FASHION_MNIST_CLASSES) == 10
    assert data.FASHION_MNIST_CLASSES[9] == "Ankle boot"


def test_subset_needs_no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(data.fashion_mnist().x_train) == 10_000
    with pytest.raises(ValueError, match="does not ship with the course: pass folder="):
        data.fashion_mnist(full=True)


@pytest.mark.parametrize("option", [{"folder": "."}, {"download": True}])
def test_options_of_the_full_set_need_full(option):
    with pytest.raises(ValueError, match="folder and download are for the full set: add full=True"):
        data.fashion_mnist(**option)


# --- Fashion-MNIST, the full set ------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The idx format, http://yann.lecun.com/exdb/mnist/."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """A folder with four small files in the place of the originals, and their arrays."""
    random = np.random.default_rng(0)
    arrays, checksums = [], {}
    folder = tmp_path / "originals"
    folder.mkdir()
    for name in data.FASHION_MNIST_FILES:
        n = 60 if name.startswith("train") else 30
        array = random.integers(0, 256, (n, 28, 28), np.uint8) if "images" in name else np.arange(n) % 10
        arrays.append(array.astype(np.uint8))
        content = idx(arrays[-1])
        (folder / name).write_bytes(gzip.compress(content))
        checksums[name] = data.Checksums(
            hashlib.sha256((folder / name).read_bytes()).hexdigest(), hashlib.sha256(content).hexdigest()
        )
    monkeypatch.setattr(data, "FASHION_MNIST_FILES", checksums)
    return folder, arrays


def assert_holds(split: data.Split, arrays: list[np.ndarray]) -> None:
    x_train, y_train, x_test, y_test = arrays
    for ours, original in [(split.x_train, x_train), (split.x_test, x_test)]:
        torch.testing.assert_close(ours, torch.from_numpy(original.reshape(-1, 784) / 255).float())
    assert (split.y_train.tolist(), split.y_test.tolist()) == (y_train.tolist(), y_test.tolist())
    assert split.y_train.dtype == torch.int64


def test_full_set_from_a_folder(originals):
    folder, arrays = originals
    assert_holds(data.fashion_mnist(full=True, folder=folder), arrays)
    assert_holds(data.fashion_mnist(full=True, folder=str(folder)), arrays)


def test_files_that_were_packed_anew_are_accepted(originals):
    folder, arrays = originals
    for path in folder.iterdir():
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=1))
    assert_holds(data.fashion_mnist(full=True, folder=folder), arrays)


def test_missing_files_are_named(originals):
    folder, _ = originals
    for name in ("t10k-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (folder / name).unlink()
    message = f"{folder} lacks train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz of the original"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        data.fashion_mnist(full=True, folder=folder)


def test_a_file_with_another_content_is_named(originals):
    folder, arrays = originals
    changed = arrays[0].copy()
    changed[0, 0, 0] ^= 1
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(changed)))
    with pytest.raises(ValueError, match=re.escape(f"{path} is not the original: its content has SHA-256")):
        data.fashion_mnist(full=True, folder=folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"not gzip", lambda b: b[:40] + b[50:]])
def test_a_damaged_file_is_named(originals, damage):
    folder, _ = originals
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path} is not a whole gzip file")):
        data.fashion_mnist(full=True, folder=folder)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def server(originals, monkeypatch):
    """The four small files on a local server, in the place of Zalando's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=originals[0])) as server:
        server.asked = []
        monkeypatch.setattr(data, "FASHION_MNIST_URL", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_fetches_what_is_missing_once(originals, server, tmp_path):
    _, arrays = originals
    target = tmp_path / "target"
    assert_holds(data.fashion_mnist(full=True, folder=target, download=True), arrays)
    assert len(server.asked) == 4
    (target / "t10k-labels-idx1-ubyte.gz").unlink()
    assert_holds(data.fashion_mnist(full=True, folder=target, download=True), arrays)
    assert len(server.asked) == 5
    assert_holds(data.fashion_mnist(full=True, folder=target), arrays)
    assert len(server.asked) == 5


def test_download_keeps_files_that_were_packed_anew(originals, server, tmp_path):
    folder, arrays = originals
    target = tmp_path / "target"
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=1))
    assert_holds(data.fashion_mnist(full=True, folder=target, download=True), arrays)
    assert server.asked == []


def test_download_goes_to_the_cache_by_default(originals, server, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    assert_holds(data.fashion_mnist(full=True, download=True), originals[1])
    assert len(list((tmp_path / "cache/nonlinearity/fashion-mnist").iterdir())) == 4


def test_a_download_with_another_checksum_is_refused(originals, server, tmp_path):
    (originals[0] / "train-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"hash of downloaded file.*train-labels"):
        data.fashion_mnist(full=True, folder=tmp_path / "target", download=True)
    assert not (tmp_path / "target/train-labels-idx1-ubyte.gz").exists()


def test_a_server_that_cannot_be_reached_is_named(tmp_path, monkeypatch):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setattr(data, "FASHION_MNIST_URL", url)
        with pytest.raises(ConnectionError, match=f"{url}train-images-idx3-ubyte.gz cannot be fetched"):
            data.fashion_mnist(full=True, folder=tmp_path, download=True)


# --- the script that made the subset --------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[1] / "code/make_fashion_mnist.py"
    spec = importlib.util.spec_from_file_location("make_fashion_mnist", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_takes_the_first_of_each_class_and_repeats_its_bytes(originals, script, tmp_path, monkeypatch):
    folder, (x_train, y_train, x_test, y_test) = originals
    monkeypatch.setattr(script, "TRAIN", 4)
    monkeypatch.setattr(script, "TEST", 2)
    script.make(folder, tmp_path / "a.png")
    script.make(folder, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    sheet = np.asarray(script.Image.open(tmp_path / "a.png"))
    assert sheet.shape == (280, 6 * 28)
    for label in range(10):
        row = sheet[28 * label : 28 * label + 28]
        expected = [*x_train[y_train == label][:4], *x_test[y_test == label][:2]]
        assert np.array_equal(row, np.concatenate(expected, axis=1))


def test_script_writes_the_layout_that_the_package_reads(script):
    assert script.TARGET.is_file()
    assert script.TRAIN == data._SUBSET_TRAIN
    assert np.asarray(script.Image.open(script.TARGET)).shape == (280, (script.TRAIN + script.TEST) * 28)
