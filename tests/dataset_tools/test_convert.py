"""`convert`: MMRec's folders and RecBole's vectors, there and back."""

import numpy as np
import pytest
from recbole.config import Config
from recbole.data import create_dataset

from dataset_tools.__main__ import main
from dataset_tools.tokens import canonical
from recbole_slif.config import SlifConfig
from recbole_slif.data.loaders import prepare_data
from recbole_slif.data.tables import read_pieces
from tests.toy import edit_lines, write_table


def called(source, target, folder, out, *words):
    base = ["convert", str(folder), "--from", source, "--to", target, "--name", "toy"]
    return main([*base, "--out", str(out), *words])


def read(folder, **settings):
    settings = {"data_path": str(folder), "use_gpu": False, "valid_ratio": 0, **settings}
    return prepare_data(SlifConfig("BPR", "toy", None, settings))


@pytest.fixture
def mmrec(tmp_path):
    """What MMRec's notebooks write, two items of six without interactions at the end."""
    folder = tmp_path / "mmrec" / "toy"
    folder.mkdir(parents=True)
    rows = [(0, 0, 5.0, 9, 0), (0, 2, 4.0, 8, 0), (1, 1, 1.0, 7, 0), (1, 3, 2.0, 7, 2)]
    rows += [(0, 3, 1.0, 1, 1), (2, 0, 1.0, 1, 0), (2, 0, 1.0, 1, 0)]
    write_table(folder / "toy.inter", ["userID", "itemID", "rating", "timestamp", "x_label"], rows)
    rng = np.random.default_rng(0)
    np.save(folder / "image_feat.npy", rng.random((6, 4)))
    np.save(folder / "text_feat.npy", rng.random((6, 3)).astype(np.float32))
    write_table(folder / "u_id_mapping.csv", ["user_id", "userID"], [("A", 0), ("C", 1), ("B", 2)])
    items = [("b1", 0), ("b0", 1), ("b3", 2), ("b2", 3), ("b5", 4), ("b4", 5)]
    write_table(folder / "i_id_mapping.csv", ["asin", "itemID"], items)
    return folder


def test_mmrec_becomes_ours(tmp_path, mmrec):
    out = tmp_path / "ours" / "toy"
    assert called("mmrec", "ours", mmrec, out) == 0
    assert (out / "toy.train.inter").read_text().splitlines()[1:] == [
        "0\t0",
        "0\t2",
        "1\t1",
        "2\t0",
    ]
    assert (out / "toy.valid.inter").read_text().splitlines()[1:] == ["0\t3"]
    bundle = read(tmp_path / "ours")
    assert bundle.statistics["split"] == [4, 1, 1]
    features = bundle.dataset.features["visual"]
    stored = np.load(mmrec / "image_feat.npy")
    assert np.array_equal(features.matrix[1:], stored[:4].astype(np.float32))


def test_parts_of_another_split_are_refused(tmp_path, mmrec, capsys):
    out = tmp_path / "ours" / "toy"
    assert called("mmrec", "ours", mmrec, out) == 0
    lines = (mmrec / "toy.inter").read_text().splitlines()
    kept = [line for line in lines if not line.endswith("\t1")]
    (mmrec / "toy.inter").write_text("\n".join(kept) + "\n")
    assert called("mmrec", "ours", mmrec, out) == 2
    assert f"{out / 'toy.valid.inter'}: is there from another split" in capsys.readouterr().err


def test_original_ids_come_from_the_mappings(tmp_path, mmrec, capsys):
    out = tmp_path / "ours" / "toy"
    assert called("mmrec", "ours", mmrec, out, "--original-ids") == 0
    assert "C\tb0" in (out / "toy.train.inter").read_text().splitlines()
    assert (out / "toy.text.ids").read_text().split() == ["b1", "b0", "b3", "b2"]
    (mmrec / "u_id_mapping.csv").write_text("user_id\tuserID\nA\t0\n")
    assert called("mmrec", "ours", mmrec, tmp_path / "b", "--original-ids") == 2
    assert "no line for userID 1" in capsys.readouterr().err


def test_bad_lines_of_mmrec_leave_the_others(tmp_path, mmrec, capsys):
    called("mmrec", "ours", mmrec, tmp_path / "a")
    path = mmrec / "toy.inter"
    path.write_text(path.read_text() + "x\t1\t1\t1\t0\n1\t1\t1\t1\t3\n1\t2\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\u00b2\t1\t1\t1\t0\n")  # a digit to Python's texts, no number to `int`
    assert called("mmrec", "ours", mmrec, tmp_path / "b") == 0
    error = capsys.readouterr().err
    assert "2 lines whose user, item or x_label is no whole number (line 9, 12)" in error
    assert "(line 10)" in error and "(line 11)" in error
    for name in ("toy.train.inter", "toy.test.inter", "toy.visual.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    np.save(mmrec / "image_feat.npy", np.ones((3, 2)))
    assert called("mmrec", "ours", mmrec, tmp_path / "c") == 2
    assert "3 rows, but item 3" in capsys.readouterr().err


def test_features_follow_the_item_and_not_its_place(tmp_path, mmrec):
    path = mmrec / "toy.inter"
    lines = [line for line in path.read_text().splitlines() if line.split("\t")[1] != "1"]
    path.write_text("\n".join(lines) + "\n")
    assert called("mmrec", "ours", mmrec, tmp_path / "a") == 0
    assert (tmp_path / "a" / "toy.visual.ids").read_text().split() == ["0", "2", "3"]
    stored = np.load(mmrec / "image_feat.npy")
    assert np.array_equal(np.load(tmp_path / "a" / "toy.visual.npy"), stored[[0, 2, 3]])


def test_two_ids_of_one_original_id_are_refused(tmp_path, mmrec, capsys):
    path = mmrec / "i_id_mapping.csv"
    path.write_text(path.read_text().replace("b2", "b3"))
    assert called("mmrec", "ours", mmrec, tmp_path / "a", "--original-ids") == 2
    assert "two ids have one original id" in capsys.readouterr().err


def test_of_two_lines_of_an_id_the_order_decides_nothing(tmp_path, mmrec, capsys):
    path = mmrec / "i_id_mapping.csv"
    head, *lines = path.read_text().splitlines()
    for out, more in (("a", [*lines, "b9\t2", "x\t"]), ("b", ["b9\t2", "x\t", *lines])):
        path.write_text("\n".join([head, *more]) + "\n")
        assert called("mmrec", "ours", mmrec, tmp_path / out, "--original-ids") == 0
        assert (tmp_path / out / "toy.text.ids").read_text().split() == ["b1", "b0", "b3", "b2"]
        said = capsys.readouterr().err
        assert "1 line of an id that already has a line" in said
        assert "1 line without an id and what it was" in said


def test_mmrec_gets_sorted_lines_and_each_pair_in_its_first_part(tmp_path, make_dataset):
    folder = make_dataset(benchmark=True)
    train, test = folder / "toy.train.inter", folder / "toy.test.inter"
    edit_lines(test, lambda lines: [*lines, train.read_text().splitlines()[1]])
    found = []
    for seed in (1, 2):
        assert called("ours", "mmrec", folder, tmp_path / str(seed)) == 0
        written = sorted((tmp_path / str(seed)).iterdir())
        found.append({path.name: path.read_bytes() for path in written})
        for path in (train, test):
            edit_lines(path, lambda lines: [lines[0], *reversed(lines[1:])])
    assert found[0] == found[1]
    rows = np.loadtxt(tmp_path / "1" / "toy.inter", skiprows=1, dtype=int)
    assert len(np.unique(rows[:, :2], axis=0)) == len(rows)
    assert rows[:, [2, 0, 1]].tolist() == sorted(rows[:, [2, 0, 1]].tolist())
    users = (tmp_path / "1" / "u_id_mapping.csv").read_text().splitlines()[1:]
    assert users == [f"u{number}\t{number}" for number in range(12)]


def test_of_two_vectors_the_order_of_lines_decides_nothing(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    lines = ["b\t9 9", "a\t1 2", "b\t3 4"]
    for out in ("a", "b"):
        text = "\n".join(["iid:token\temb:float_seq", *lines]) + "\n"
        (folder / "toy.itememb").write_text(text)
        assert called("recbole", "ours", folder, tmp_path / out) == 0
        assert np.load(tmp_path / out / "toy.text.npy").tolist() == [[1, 2], [3, 4]]
        lines.reverse()


def test_a_short_line_of_an_item_does_not_cost_it_its_vector(tmp_path, capsys):
    folder = tmp_path / "r"
    folder.mkdir()
    lines = ["iid:token\temb:float_seq", "a\t0 0", "a\t1 2 3", "b\t4 5 6", "c\t7 8 9"]
    (folder / "toy.itememb").write_text("\n".join(lines) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "o") == 0
    assert np.load(tmp_path / "o" / "toy.text.npy").tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert "1 line whose vector has another length (line 2)" in capsys.readouterr().err


def test_quotes_are_part_of_a_token(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    lines = ["iid:token\temb:float_seq", '"Heroes"\t1 2', '"Weird" Al\t3 4']
    (folder / "toy.itememb").write_text("\n".join(lines) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "o") == 0
    assert (tmp_path / "o" / "toy.text.ids").read_text() == '"Heroes"\n"Weird" Al\n'


def test_of_two_equally_frequent_lengths_the_longer_is_the_dimension(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "toy.itememb").write_text("iid:token\temb:float_seq\na\t1 2\nb\t3 4 5\n")
    assert called("recbole", "ours", folder, tmp_path / "o") == 0
    assert np.load(tmp_path / "o" / "toy.text.npy").tolist() == [[3, 4, 5]]


def test_a_row_of_nan_has_no_line(tmp_path, make_dataset):
    folder = make_dataset(modalities={"text": 4}, missing={"text": 1})
    matrix, ids = np.load(folder / "toy.text.npy"), (folder / "toy.text.ids").read_text().split()
    matrix[3] = np.nan
    np.save(folder / "toy.text.npy", matrix)
    assert called("ours", "recbole", folder, tmp_path / "r") == 0
    lines = (tmp_path / "r" / "toy.itememb").read_text().splitlines()[1:]
    tokens = canonical([*ids[:3], *ids[4:]])
    assert [line.split("\t")[0] for line in lines] == tokens
    for line, token in zip(lines, tokens, strict=True):
        vector = [float(number) for number in line.split("\t")[1].split()]
        assert np.array_equal(np.array(vector, dtype=np.float32), matrix[ids.index(token)])


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_ours_goes_to_mmrec_and_comes_back(tmp_path, make_dataset, missing):
    folder = make_dataset(benchmark=True)
    assert called("ours", "mmrec", folder, tmp_path / "m", "--missing", missing) == 0
    assert called("mmrec", "ours", tmp_path / "m", tmp_path / "b" / "toy", "--original-ids") == 0
    before = read(tmp_path, missing=missing, unlinked_items="keep")
    after = read(tmp_path / "b")
    assert after.fingerprint == before.fingerprint
    for name, part in before.dataset.features.items():
        assert np.array_equal(part.matrix, after.dataset.features[name].matrix)
    stored = np.load(tmp_path / "m" / "image_feat.npy")
    assert len(stored) == before.statistics["items"] and np.isfinite(stored).all()


def test_mmrec_needs_a_split(tmp_path, make_dataset, capsys):
    folder = make_dataset()
    assert called("ours", "mmrec", folder, tmp_path / "m") == 2
    assert "MMRec needs a split" in capsys.readouterr().err


def test_vectors_of_recbole_become_ours_and_go_back(tmp_path, make_dataset):
    folder = make_dataset(modalities={"text": 4}, missing={"text": 1})
    assert called("ours", "recbole", folder, tmp_path / "r") == 0
    lines = (tmp_path / "r" / "toy.itememb").read_text().splitlines()
    assert lines[0] == "text_iid:token\ttext_emb:float_seq" and len(lines) == 15
    assert called("recbole", "ours", tmp_path / "r", tmp_path / "b" / "toy") == 0
    read_before, read_after = (read(place).dataset for place in (tmp_path, tmp_path / "b"))
    before, after = read_before.features["text"], read_after.features["text"]
    assert np.array_equal(before.matrix, after.matrix)
    assert np.array_equal(before.presence, after.presence)
    assert (tmp_path / "b/toy/toy.kg").read_bytes() == (folder / "toy.kg").read_bytes()


def test_recbole_itself_reads_what_we_write(tmp_path, make_dataset, capsys):
    folder = make_dataset()
    out = tmp_path / "r" / "toy"
    assert called("ours", "recbole", folder, out) == 0
    assert "additional_feat_suffix: [textemb, visualemb]" in capsys.readouterr().out
    settings = {
        "data_path": str(tmp_path / "r"),
        "additional_feat_suffix": ["textemb", "visualemb"],
        "load_col": {
            "inter": ["user_id", "item_id"],
            "textemb": ["text_iid", "text_emb"],
            "visualemb": ["visual_iid", "visual_emb"],
        },
        "alias_of_item_id": ["text_iid", "visual_iid"],
    }
    dataset = create_dataset(Config(model="BPR", dataset="toy", config_dict=settings))
    assert len(dataset.textemb_feat) == 14 and len(dataset.visualemb_feat) == 13
    ids = (folder / "toy.text.ids").read_text().split()
    stored = np.load(folder / "toy.text.npy")
    frame = dataset.textemb_feat
    for row, token in enumerate(dataset.id2token("text_iid", frame["text_iid"])):
        assert np.allclose(frame["text_emb"].iloc[row], stored[ids.index(token)])


def test_bad_vectors_leave_the_others(tmp_path, capsys):
    folder = tmp_path / "r"
    folder.mkdir()
    good = ["iid:token\temb:float_seq", "a\t1 2", "b\t3 4", "c\t5 6"]
    (folder / "toy.itememb").write_text("\n".join(good) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "a") == 0
    bad = [good[0], "z\t1 2 3 4", "d\t1 x", good[1], "e\t1 nan", "b\t9 9", *good[2:], "f\t1", "g"]
    (folder / "toy.itememb").write_text("\n".join(bad) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "b") == 0
    for name in ("toy.text.npy", "toy.text.ids"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    error = capsys.readouterr().err
    for lines in ("(line 3, 5)", "(line 7)", "(line 2, 9)", "(line 10)"):
        assert lines in error, lines


def test_items_without_numbers_do_not_decide_the_length_of_vectors(tmp_path, capsys):
    folder = tmp_path / "r"
    folder.mkdir()
    rows = ["iid:token\temb:float_seq", "a\t", "b\t ", "c\t", "d\t1 2"]
    (folder / "toy.itememb").write_text("\n".join(rows) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "o") == 0
    assert np.load(tmp_path / "o" / "toy.text.npy").tolist() == [[1, 2]]
    assert "3 lines whose vector is empty" in capsys.readouterr().err
    (folder / "toy.itememb").write_text("\n".join(rows[:-1]) + "\n")
    assert called("recbole", "ours", folder, tmp_path / "o") == 2
    assert "no vectors; each line is" in capsys.readouterr().err


def test_interactions_of_another_split_are_not_copied_beside(tmp_path, make_dataset, capsys):
    folder, out = make_dataset(benchmark=True), tmp_path / "o"
    out.mkdir()
    (out / "toy.valid.inter").write_text("user_id:token\titem_id:token\nu0\ti0\n")
    assert called("ours", "recbole", folder, out) == 2
    assert "toy.valid.inter: is there from another split" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["toy.valid.inter"]
    (out / "toy.valid.inter").unlink()
    assert called("ours", "recbole", folder, out) == called("ours", "recbole", folder, out) == 0
    assert {"toy.train.inter", "toy.test.inter"} < {path.name for path in out.iterdir()}


def test_sides_that_do_not_go_together_are_refused(tmp_path, make_dataset, capsys):
    folder = make_dataset()
    for words, said in (
        (("mmrec", "recbole", folder, tmp_path / "x"), "in two steps"),
        (("ours", "recbole", tmp_path / "none", tmp_path / "x"), "no such folder"),
        (("ours", "recbole", folder, folder), "is the folder that is read"),
        (("recbole", "ours", folder, tmp_path / "x"), "toy.itememb: cannot be read"),
    ):
        assert called(*words) == 2
        assert said in capsys.readouterr().err


def small_pieces(monkeypatch):
    """Have a few rows go through as many pieces as many millions do."""
    monkeypatch.setattr("dataset_tools.convert_mmrec._ROWS", 2)
    for name, size in (("_SORTED", 5), ("_MERGED", 4), ("_LEAST_PIECE", 1), ("CHUNK", 3)):
        monkeypatch.setattr(f"dataset_tools.number_file.{name}", size)
    monkeypatch.setattr(read_pieces, "__defaults__", (*read_pieces.__defaults__[:-1], 60))
    monkeypatch.setattr("dataset_tools.token_order.PIECE", 3)
    monkeypatch.setattr("dataset_tools.item_spool._AT_ONCE", 2)


@pytest.mark.parametrize("route", ["from mmrec", "to mmrec", "from recbole"])
def test_the_size_of_pieces_changes_no_byte(tmp_path, mmrec, make_dataset, monkeypatch, route):
    if route == "from mmrec":
        words = ("mmrec", "ours", mmrec)
    elif route == "to mmrec":
        words = ("ours", "mmrec", make_dataset(benchmark=True))
    else:
        assert called("ours", "recbole", make_dataset(modalities={"text": 4}), tmp_path / "r") == 0
        words = ("recbole", "ours", tmp_path / "r")
    more = ["--original-ids"] if route == "from mmrec" else []
    assert called(*words, tmp_path / "whole", *more) == 0
    small_pieces(monkeypatch)
    assert called(*words, tmp_path / "pieces", *more) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "pieces").iterdir()) and len(names) > 2
    for name in names:
        whole, pieces = (tmp_path / place / name for place in ("whole", "pieces"))
        assert whole.read_bytes() == pieces.read_bytes(), name


def test_absent_rows_get_the_mean_of_the_others(tmp_path, make_dataset, monkeypatch):
    folder = make_dataset(benchmark=True)
    small_pieces(monkeypatch)
    assert called("ours", "mmrec", folder, tmp_path / "m") == 0
    stored, ids = np.load(folder / "toy.visual.npy"), (folder / "toy.visual.ids").read_text()
    mean = stored.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = np.load(tmp_path / "m" / "image_feat.npy")
    lines = (tmp_path / "m" / "i_id_mapping.csv").read_text().splitlines()[1:]
    for line, row in zip(lines, rows, strict=True):
        token = line.split("\t")[0]
        place = ids.split().index(token) if token in ids.split() else None
        assert np.array_equal(row, mean if place is None else stored[place])
