"""`images`: whose picture is whose, broken ones, kills, and ResNet50 if there."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_tools.__main__ import main
from dataset_tools.backbones import load_backbone
from dataset_tools.images import one_row_per_item
from dataset_tools.journal import hold
from dataset_tools.pictures import Picture, open_picture
from recbole_slif.errors import DataError
from tests.toy import write_table

Image = pytest.importorskip("PIL.Image", reason="needs pillow")
ROOT = Path(__file__).parents[2]


class MeanColour:
    """A stand-in for a network: the mean of each colour, and the number of pixels."""

    def prepare(self, picture):
        assert picture.mode == "RGB"
        return torch.from_numpy(np.asarray(picture.resize((4, 4)), dtype=np.float32).copy())

    def encode(self, batch):
        return batch.mean(dim=(1, 2)).numpy()


@pytest.fixture
def backbone(monkeypatch):
    package = types.ModuleType("mean_colour")
    package.load_backbone = lambda weights, device: MeanColour()
    monkeypatch.setitem(sys.modules, "mean_colour", package)
    return "mean-colour"


def paint(path, colour, mode="RGB", size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    paint(place / "10.png", (10, 0, 0))
    paint(place / "9.png", (200, 0, 0))
    paint(place / "10_2.png", (30, 40, 0))
    paint(place / "7" / "left.png", (0, 0, 80))
    paint(place / "7" / "right.png", (0, 0, 100), "RGBA")
    paint(place / "8.png", (5, 5, 5), "L")
    (place / "11.jpg").write_bytes(b"no picture")
    (place / "12.png").write_bytes((place / "10.png").read_bytes()[:45])
    (place / "notes.txt").write_text("x")
    write_table(
        tmp_path / "shop.inter",
        ["user_id:token", "item_id:token"],
        [("u", item) for item in ("7", "9", "10", "11", "12", "13")],
    )
    return place


def images(tmp_path, *words):
    return main(["images", "--name", "shop", "--out", str(tmp_path / "out"), *map(str, words)])


def written(tmp_path):
    matrix = np.load(tmp_path / "out" / "shop.visual.npy", allow_pickle=False)
    return matrix, (tmp_path / "out" / "shop.visual.ids").read_text().split()


def test_pictures_go_to_their_items(tmp_path, folder, backbone, capsys):
    words = ["--folder", folder, "--backbone", backbone, "--items", tmp_path / "shop.inter"]
    assert images(tmp_path, *words) == 0
    matrix, tokens = written(tmp_path)
    assert tokens == ["7", "9", "10"] and matrix.dtype == np.float16
    assert matrix.tolist() == [[0, 0, 90], [200, 0, 0], [20, 20, 0]]
    shown = capsys.readouterr()
    assert "2 broken pictures (first: 11.jpg, 12.png)" in shown.err
    counts = " ".join(shown.out.split())
    assert "pictures of no item of the data set 1" in counts
    assert "items of the data set without features 3" in counts
    assert sorted(os.listdir(tmp_path / "out")) == ["shop.visual.ids", "shop.visual.npy"]
    assert images(tmp_path, *words, "--several", "first") == 0
    assert written(tmp_path)[0][2].tolist() == [10, 0, 0]
    assert images(tmp_path, *words, "--several", "max") == 0
    assert written(tmp_path)[0][2].tolist() == [30, 40, 0]
    before = (tmp_path / "out" / "shop.visual.npy").read_bytes()
    assert images(tmp_path, *words, "--strict") == 2
    assert (tmp_path / "out" / "shop.visual.npy").read_bytes() == before


def test_without_items_names_are_tokens(tmp_path, folder, backbone):
    assert images(tmp_path, "--folder", folder, "--backbone", backbone) == 0
    assert written(tmp_path)[1] == ["7", "8", "9", "10", "10_2"]


def test_a_folder_of_an_item_comes_before_the_names_in_it(tmp_path, folder, backbone, capsys):
    paint(folder / "7" / "9.png", (0, 0, 60))
    words = ["--folder", folder, "--backbone", backbone, "--items", tmp_path / "shop.inter"]
    assert images(tmp_path, *words) == 0
    matrix, tokens = written(tmp_path)
    assert tokens == ["7", "9", "10"] and matrix[:2].tolist() == [[0, 0, 80], [200, 0, 0]]
    counts = " ".join(capsys.readouterr().out.split())
    assert "pictures named after an item in the folder of another, which they show 1" in counts


def test_grey_pictures_of_16_bits_keep_their_greys(tmp_path):
    deep = np.array([[0, 255, 30_000, 65_535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        shown = np.asarray(open_picture(tmp_path / name))
        assert shown[0].tolist() == [[0] * 3, [0] * 3, [117] * 3, [255] * 3]


def test_an_index_says_whose_picture_it_is(tmp_path, folder, backbone):
    rows = [("10", "b"), ("9.png", "a"), ("left", "a"), ("nowhere", "c")]
    lines = [json.dumps({"photo_id": photo, "business_id": item}) for photo, item in rows]
    (tmp_path / "photos.json").write_text("\n".join([*lines, "{"]))
    words = ["--folder", folder, "--backbone", backbone, "--index", tmp_path / "photos.json"]
    assert images(tmp_path, *words) == 0
    matrix, tokens = written(tmp_path)
    assert tokens == ["a", "b"] and matrix.tolist() == [[100, 0, 40], [10, 0, 0]]


def test_of_two_items_of_a_picture_the_first_by_alphabet_has_it(tmp_path, folder, backbone, capsys):
    lines = [json.dumps({"photo_id": "10", "business_id": item}) for item in ("d", "b", "c")]
    words = ["--folder", folder, "--backbone", backbone, "--index", tmp_path / "photos.json"]
    for order in (lines, lines[::-1]):
        (tmp_path / "photos.json").write_text("\n".join(order))
        assert images(tmp_path, *words) == 0
        assert written(tmp_path)[1] == ["b"]
        said = "2 pictures that two lines give to two items (line 2, 3)"
        assert said in capsys.readouterr().err


def test_capital_suffixes_are_seen_and_pictures_stand_upright(tmp_path, backbone):
    camera = Image.Exif()
    camera[274] = 6  # the camera lay on its side
    picture = Image.new("RGB", (8, 4))
    picture.paste((200, 0, 0), (0, 0, 4, 4))
    (tmp_path / "p").mkdir()
    picture.save(tmp_path / "p" / "7.JPG", exif=camera)
    assert images(tmp_path, "--folder", tmp_path / "p", "--backbone", backbone) == 0
    assert written(tmp_path)[1] == ["7"]
    upright = open_picture(tmp_path / "p" / "7.JPG")
    assert upright.size == (4, 8) and upright.getpixel((2, 1))[0] > 150 > 50
    assert upright.getpixel((2, 6))[0] < 50


def test_vectors_do_not_depend_on_batches(tmp_path, folder, backbone, monkeypatch):
    words = ["--folder", folder, "--backbone", backbone, "--items", tmp_path / "shop.inter"]
    found = []
    for size in (1, 2, 50):
        # Items are written in pieces as well, of whole items.
        monkeypatch.setattr("dataset_tools.images._AT_ONCE", size)
        monkeypatch.setattr("dataset_tools.batches._PIECE_BYTES", 12 * size)
        assert images(tmp_path, *words, "--batch-size", size) == 0
        found.append((tmp_path / "out" / "shop.visual.npy").read_bytes())
    assert found[0] == found[1] == found[2]


def test_batches_of_other_weights_are_not_gone_on_with(tmp_path, folder, monkeypatch):
    encoded = []

    class Counting(MeanColour):
        def encode(self, batch):
            encoded.append(len(batch))
            return super().encode(batch)

    def stop(*_):
        raise KeyboardInterrupt

    package = types.ModuleType("mean_colour")
    package.load_backbone = lambda weights, device: Counting()
    monkeypatch.setitem(sys.modules, "mean_colour", package)
    monkeypatch.setattr("dataset_tools.images.save_pieces", stop)
    weights = tmp_path / "weights.pt"
    words = ["--folder", folder, "--backbone", "mean-colour", "--weights", weights]
    counts = []
    for content in (b"1", b"1", b"22"):
        if not weights.exists() or weights.read_bytes() != content:
            weights.write_bytes(content)
        assert images(tmp_path, *words) == 130
        counts.append(sum(encoded))
    assert counts[0] == counts[1] and counts[2] == 2 * counts[0]


def test_too_large_pictures_are_broken(tmp_path, folder, backbone, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    paint(folder / "13.png", (1, 1, 1), size=(10, 9))
    assert images(tmp_path, "--folder", folder, "--backbone", backbone) == 0
    assert "13.png" in capsys.readouterr().err
    assert "13" not in written(tmp_path)[1]


def test_all_broken_or_none_is_an_error(tmp_path, folder, backbone, capsys):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir(), broken.mkdir()
    (broken / "1.jpg").write_bytes(b"x")
    for place, words in ((empty, "no picture"), (broken, "all 1 pictures are broken")):
        assert images(tmp_path, "--folder", place, "--backbone", backbone) == 2
        assert words in capsys.readouterr().err


def test_rows_of_one_item_are_averaged_exactly():
    pictures = [Picture(item, item) for item in ("a", "b", "b", "b", "c")]
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    tokens, matrix = one_row_per_item(pictures, vectors, "mean")
    assert tokens == ["a", "b", "c"] and matrix.tolist() == [[0, 1], [4, 5], [8, 9]]


KILLED = """
import sys, time, types
import numpy as np, torch
package = types.ModuleType("slow_colour")
class Slow:
    def prepare(self, picture):
        return torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())
    def encode(self, batch):
        print("batch", flush=True)
        time.sleep(0.05)
        return (batch.mean(dim=(1, 2)) / 7).numpy()
package.load_backbone = lambda weights, device: Slow()
sys.modules["slow_colour"] = package
from dataset_tools.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_two_runs_do_not_write_into_one_file_of_vectors(tmp_path, folder, backbone, capsys):
    words = ["--folder", folder, "--backbone", backbone]
    assert images(tmp_path, *words) == 0
    before = written(tmp_path)[0].tolist()
    with (tmp_path / "out" / ".shop.visual.partial").open("wb") as file:
        hold(file, tmp_path)
        assert images(tmp_path, *words) == 2
        assert "another run is at work there" in capsys.readouterr().err
        assert not os.path.getsize(file.name)
    assert images(tmp_path, *words) == 0
    assert written(tmp_path)[0].tolist() == before


def test_killed_and_continued_gives_the_same_bytes(tmp_path):
    for number in range(60):
        paint(tmp_path / "p" / f"{number}.png", (number, 2 * number, 255 - number))
    for number in range(0, 60, 11):
        (tmp_path / "p" / f"{number}.png").write_bytes(b"broken")
    words = ["images", "--folder", str(tmp_path / "p"), "--backbone", "slow_colour"]
    words += ["--name", "shop", "--batch-size", "3", "--out"]
    command = [sys.executable, "-c", KILLED, *words]
    whole = subprocess.run([*command, str(tmp_path / "a")], cwd=ROOT, capture_output=True)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen([*command, str(tmp_path / "b")], cwd=ROOT, stdout=-1)
    for _ in range(8):
        process.stdout.readline()
    process.kill()
    process.communicate()
    last = subprocess.run([*command, str(tmp_path / "b")], cwd=ROOT, capture_output=True)
    assert last.returncode == 0, last.stderr
    assert last.stdout.count(b"batch") <= 13 < whole.stdout.count(b"batch")
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    warned = [done.stderr[done.stderr.index(b"warning") :] for done in (whole, last)]
    assert warned[0] == warned[1]


# ---- Amazon's binary ---------------------------------------------------------------------------


def can_import(name):
    try:
        importlib.import_module(name)
    except Exception:  # torchvision beside another torch fails in its own ways
        return False
    return True


@pytest.mark.skipif(
    not can_import("torchvision"), reason="needs a torchvision that belongs to the installed torch"
)
def test_resnet50_with_weights_of_a_file(tmp_path, folder):
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    write = importlib.import_module("safetensors.torch").save_file
    body = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    write(body, tmp_path / "w.safetensors")
    found = []
    for name in ("w.pt", "w.safetensors"):
        assert images(tmp_path, "--folder", folder, "--weights", tmp_path / name) == 0
        found.append((tmp_path / "out" / "shop.visual.npy").read_bytes())
    assert found[0] == found[1]
    matrix, tokens = written(tmp_path)
    assert matrix.shape == (5, 2048) and len(set(map(tuple, matrix.tolist()))) == 5
    network.fc = torch.nn.Identity()
    backbone = load_backbone("resnet50", tmp_path / "w.pt", "cpu")
    picture = Image.open(folder / "10.png").convert("RGB")
    with torch.inference_mode():
        expected = network(backbone.prepare(picture)[None])[0].numpy()
    np.testing.assert_allclose(matrix[tokens.index("10")], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.skipif(can_import("torchvision"), reason="torchvision is there")
def test_a_missing_library_is_named(tmp_path, folder, capsys):
    assert images(tmp_path, "--folder", folder) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "torchvision" in text and text.count("\n") == 1


@pytest.mark.skipif(not can_import("timm"), reason="needs timm: pip install timm")
def test_timm_by_key(tmp_path, folder):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pt")
    words = ["--backbone", "timm:resnet10t", "--weights", tmp_path / "w.pt"]
    assert images(tmp_path, "--folder", folder, *words) == 0
    assert written(tmp_path)[0].shape == (5, 512)


class Hostile:
    def __reduce__(self):
        return (os.system, ("touch /tmp/recbole_slif_was_run",))


@pytest.mark.skipif(not can_import("torchvision"), reason="needs torchvision")
@pytest.mark.parametrize("content", ["pickle", "foreign", "text"])
def test_weights_are_never_run(tmp_path, content):
    path = tmp_path / "w.pt"
    if content == "pickle":
        torch.save({"x": Hostile()}, path)
    elif content == "foreign":
        torch.save({"conv1.weight": torch.zeros(1)}, path)
    else:
        path.write_text("hello")
    with pytest.raises(DataError, match="--weights"):
        load_backbone("resnet18", path, "cpu")
    assert not Path("/tmp/recbole_slif_was_run").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("key", "weights", "words"),
    [("other:net", None, "neither NAME"), ("resnet50", "absent.pt", "absent.pt does not exist")],
)
def test_unusable_keys(key, weights, words):
    with pytest.raises(DataError, match=words):
        load_backbone(key, Path(weights) if weights else None, "cpu")


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    def network(name, pretrained, num_classes):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))

    package = types.ModuleType("timm")
    package.create_model = network
    package.data = types.SimpleNamespace(
        resolve_model_data_config=lambda network: {}, create_transform=lambda: torch.as_tensor
    )
    monkeypatch.setitem(sys.modules, "timm", package)
    path, good = tmp_path / "w.pt", network("", False, 0).state_dict()
    # The classifier of another number of classes does not matter.
    torch.save({**good, "2.weight": torch.ones(9, 3)}, path)
    found = load_backbone("timm:net", path, "cpu")
    assert found.encode(torch.ones(2, 4)).shape == (2, 2)
    lacking = {name: value for name, value in good.items() if name != "1.bias"}
    for weights, said in (
        (lacking, "lacks '1.bias'"),
        ({**good, "3.bias": torch.ones(1)}, "has '3.bias', which the model lacks"),
    ):
        torch.save(weights, path)
        with pytest.raises(DataError, match=said):
            load_backbone("timm:net", path, "cpu")


def test_weights_files_are_read_without_running_them(tmp_path):
    from dataset_tools.backbones import _read_weights

    torch.save({"x": Hostile()}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="no file of weights alone"):
        _read_weights(tmp_path / "w.pt")
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, tmp_path / "w.pt")
    assert _read_weights(tmp_path / "w.pt")["a"].tolist() == [1, 1]
    assert not Path("/tmp/recbole_slif_was_run").exists()  # noqa: S108
