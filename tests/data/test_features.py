"""Feature files: order of rows, missing rows, and every fault of `.npy` and `.ids`."""

from collections import Counter

import numpy as np
import pytest

from recbole_slif.data.features import choose_modalities, load_features
from recbole_slif.data.locate import feature_files
from recbole_slif.errors import ConfigError, DataError

TOKENS = np.array(["[PAD]", "a", "b", "c"], dtype=object)
ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)


def write(tmp_path, matrix=ROWS, ids=("a", "b", "c")):
    path = tmp_path / "toy.visual.npy"
    np.save(path, matrix, allow_pickle=True)
    if ids is not None:
        path.with_suffix(".ids").write_text("".join(f"{token}\n" for token in ids))
    return path


def load(path, missing="mask", tokens=TOKENS):
    notes = Counter()
    return load_features(path, tokens, missing, notes), notes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_follow_tokens_not_file_order(tmp_path, dtype):
    shuffled, _ = load(write(tmp_path, ROWS[[2, 0, 1]].astype(dtype), ["c", "a", "b"]))
    assert shuffled.matrix.dtype == np.float32
    np.testing.assert_array_equal(shuffled.matrix, np.vstack([np.zeros(2), ROWS]))
    assert shuffled.presence.tolist() == [False, True, True, True]


def test_absent_token_and_row_of_nan_are_missing(tmp_path):
    matrix = np.array([[np.nan, np.nan], [3.0, 4.0]], dtype=np.float32)
    features, notes = load(write(tmp_path, matrix, ["a", "b"]))
    assert features.presence.tolist() == [False, False, True, False]
    assert features.n_observed == 1
    assert not features.matrix[[0, 1, 3]].any()
    assert notes["rows of NaN read as missing"] == 1


def test_missing_can_be_filled_with_zero_or_mean(tmp_path):
    path = write(tmp_path, ROWS[:2], ["a", "b"])
    zero, _ = load(path, "zero")
    mean, _ = load(path, "mean")
    for filled in (zero, mean):
        assert filled.presence.tolist() == [False, True, True, True]
        assert filled.n_observed == 2
    assert not zero.matrix[3].any()
    np.testing.assert_allclose(mean.matrix[3], [2.0, 3.0])
    assert not mean.matrix[0].any()


def test_unknown_tokens_and_zero_rows_are_counted(tmp_path):
    matrix = np.array([[0.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    features, notes = load(write(tmp_path, matrix, ["a", "stranger"]))
    assert features.presence.tolist() == [False, True, False, False]
    assert notes["rows of zeros kept"] == 1
    assert notes["rows of items that the data set does not have"] == 1


def test_without_ids_integer_tokens_index_rows(tmp_path):
    tokens = np.array(["[PAD]", "2", "0"], dtype=object)
    features, _ = load(write(tmp_path, ids=None), tokens=tokens)
    np.testing.assert_array_equal(features.matrix[1:], ROWS[[2, 0]])


@pytest.mark.parametrize("token", ["3", "a", "01", "-1", "1.0", "9" * 5000])
def test_without_ids_other_tokens_are_refused(tmp_path, token):
    tokens = np.array(["[PAD]", "0", token], dtype=object)
    with pytest.raises(DataError, match=r"toy.visual.ids"):
        load(write(tmp_path, ids=None), tokens=tokens)


BROKEN = np.array([[1.0, 2.0], [np.nan, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (ROWS[0], "shape"),
        (ROWS[None], "shape"),
        (ROWS[:, :0], "shape"),
        (ROWS.astype(np.int64), "dtype int64"),
        (ROWS.astype(object), "never unpickled"),
        (np.array([["x", "y"]] * 3), "dtype"),
        (BROKEN, r"row 1 \(item 'b'\)"),
        (np.where(np.isnan(BROKEN), np.inf, BROKEN), r"row 1 \(item 'b'\)"),
        (np.where(np.isnan(BROKEN), 1e300, BROKEN), r"row 1 \(item 'b'\)"),
        (np.full((3, 2), np.nan), "modalities"),
    ],
)
def test_bad_matrices_are_refused(tmp_path, matrix, words):
    with pytest.raises(DataError, match=words) as failure:
        load(write(tmp_path, matrix))
    assert "toy.visual.npy" in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b"], "2 tokens for 3 rows"),
        (["a", "b", "c", "d"], "4 tokens for 3 rows"),
        (["a", "b", "a"], "line 3: token 'a' was already on line 1"),
        (["a", "", "c"], "line 2"),
        (["x", "y", "z"], "none of its 3 tokens"),
    ],
)
def test_bad_ids_are_refused(tmp_path, ids, words):
    with pytest.raises(DataError, match=words) as failure:
        load(write(tmp_path, ids=ids))
    assert "toy.visual.ids" in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array", b"PK\x03\x04 no"])
def test_torn_or_foreign_files_are_refused(tmp_path, content):
    path = write(tmp_path)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"toy.visual.npy"):
        load(path)


def test_half_written_matrix_is_refused(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="not a complete"):
        load(path)


def test_archive_is_refused(tmp_path):
    path = write(tmp_path)
    with path.open("wb") as file:
        np.savez(file, ROWS)
    with pytest.raises(DataError, match="archive"):
        load(path)


def test_unknown_filling_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="median"):
        load(write(tmp_path), "median")


def test_feature_path_comes_before_the_folder(tmp_path):
    own, extra = tmp_path / "own", tmp_path / "extra"
    for folder, names in ((own, ["toy.visual", "toy.text"]), (extra, ["visual", "other.visual"])):
        folder.mkdir()
        for name in names:
            np.save(folder / f"{name}.npy", ROWS)
    found = feature_files([own], "toy", extra)
    assert found == {"visual": extra / "visual.npy", "text": own / "toy.text.npy"}
    single = feature_files([own], "toy", own / "toy.text.npy")
    assert single["text"] == own / "toy.text.npy"
    with pytest.raises(DataError, match="feature_path"):
        feature_files([own], "toy", tmp_path / "nowhere")


def test_modalities_are_chosen_in_order(tmp_path):
    found = {"visual": tmp_path / "v", "audio": tmp_path / "a"}
    assert list(choose_modalities(found, None, "toy", tmp_path)) == ["audio", "visual"]
    assert list(choose_modalities(found, ["visual", "audio"], "toy", tmp_path)) == [
        "visual",
        "audio",
    ]
    assert choose_modalities(found, [], "toy", tmp_path) == {}
    with pytest.raises(DataError, match=r"toy\.text\.npy"):
        choose_modalities(found, ["text"], "toy", tmp_path)
    with pytest.raises(ConfigError, match="modalities"):
        choose_modalities(found, ["visual", "visual"], "toy", tmp_path)
