"""Codes from elsewhere: which values stand for bits, and what is said of others."""

import numpy as np
import pytest
from scipy import io

from evaluation.codes import Codes, distinct, load_codes, signs
from runtime.errors import UserError

BITS = np.random.RandomState(0).rand(7, 12) < 0.5
LABELS = np.arange(7) % 3
SIGNS = signs(BITS - 0.5)


def saved(path, codes, queries=None, labels=LABELS):
    """An .npz file of these codes as gallery, and some of them as queries."""
    queries = codes[:3] if queries is None else queries
    np.savez(path, gallery_codes=codes, gallery_labels=labels, query_codes=queries,
             query_labels=LABELS[:len(queries)])
    return path


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.float32, np.float64])
def test_signs_of_any_type(tmp_path, kind):
    notes = []
    codes = load_codes(saved(tmp_path / "codes.npz", SIGNS.astype(kind)), notes)
    np.testing.assert_array_equal(codes.gallery_codes, SIGNS)
    np.testing.assert_array_equal(codes.query_codes, SIGNS[:3])
    assert codes.gallery_codes.dtype == np.int8 and not notes


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.float32])
def test_zeros_and_ones_stand_for_minus_and_plus_one(tmp_path, kind):
    notes = []
    codes = load_codes(saved(tmp_path / "codes.npz", BITS.astype(kind)), notes)
    np.testing.assert_array_equal(codes.gallery_codes, SIGNS)
    assert len(notes) == 1


def test_queries_of_ones_alone_are_read_as_the_gallery_is(tmp_path):
    ones = np.ones((3, 12), np.uint8)
    codes = load_codes(saved(tmp_path / "codes.npz", BITS.astype(np.uint8), ones))
    np.testing.assert_array_equal(codes.gallery_codes, SIGNS)
    assert (codes.query_codes == 1).all()


@pytest.mark.parametrize("change, mends", [
    (lambda codes: np.packbits(codes > 0, axis=1), "np.unpackbits"),
    (lambda codes: np.where(np.arange(12) == 5, 0, codes), "np.where(codes >= 0, 1, -1)"),
    (lambda codes: np.where(np.arange(12) == 5, np.nan, codes), "np.isnan"),
    (lambda codes: codes * 0.7, "np.where(codes >= 0, 1, -1)"),
    (lambda codes: codes.astype(np.int64) * 3, "np.where(codes >= 0, 1, -1)"),
], ids=["packed", "sign of zero", "nan", "floats", "threes"])
def test_other_values_are_named_with_a_way_to_mend_them(tmp_path, change, mends):
    """Doing what the message says gives codes that are read."""
    codes = change(SIGNS)
    path = saved(tmp_path / "codes.npz", codes)
    with pytest.raises(UserError) as refusal:
        load_codes(path)
    assert mends in str(refusal.value) and str(path) in str(refusal.value)
    if "unpackbits" in mends:
        mended = np.unpackbits(codes, axis=1)[:, :12]
    elif "isnan" in mends:
        return  # no image of this one would be left
    else:
        mended = np.where(codes >= 0, 1, -1)
    load_codes(saved(path, mended))


@pytest.mark.parametrize("queries, labels", [
    (SIGNS[:3, :11], LABELS), (None, LABELS[:6]), (SIGNS[0], LABELS)])
def test_sizes_that_do_not_fit(tmp_path, queries, labels):
    with pytest.raises(UserError):
        load_codes(saved(tmp_path / "codes.npz", SIGNS, queries, labels))


def test_a_folder_of_arrays(tmp_path):
    arrays = Codes(SIGNS, LABELS, SIGNS[:3], LABELS[:3]).arrays()
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = load_codes(tmp_path)
    np.testing.assert_array_equal(found.query_codes, SIGNS[:3])
    (tmp_path / "query_labels.npy").unlink()
    with pytest.raises(UserError, match="query_labels.npy"):
        load_codes(tmp_path)


@pytest.mark.parametrize("labels", [LABELS.astype(float), np.array(["a", "bc", "d"])[LABELS],
                                    np.array(["a", "bc", "d"], object)[LABELS]])
def test_a_file_of_matlab(tmp_path, labels):
    path = tmp_path / "codes.mat"
    io.savemat(path, dict(gallery_codes=BITS, gallery_labels=labels, query_codes=BITS[:3],
                          query_labels=labels[:3], more=np.arange(3)))
    found = load_codes(path)
    np.testing.assert_array_equal(found.gallery_codes, SIGNS)
    assert found.gallery_labels.tolist() == labels.tolist()
    rows, counts, origin = distinct(found.gallery_codes)  # also where rows are not contiguous
    np.testing.assert_array_equal(rows[origin], SIGNS)
    assert counts.sum() == len(SIGNS)


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"MATLAB 7.3 MAT-file" + b"\0" * 500])
def test_damaged_files_of_matlab(tmp_path, content):
    path = tmp_path / "codes.mat"
    path.write_bytes(content)
    with pytest.raises(UserError, match="codes.mat"):
        load_codes(path)
    io.savemat(path, dict(gallery_codes=BITS))
    with pytest.raises(UserError, match="gallery_labels"):
        load_codes(path)


def test_a_truncated_file_of_matlab(tmp_path):
    path = tmp_path / "codes.mat"
    io.savemat(path, dict(gallery_codes=BITS, gallery_labels=LABELS, query_codes=BITS[:3],
                          query_labels=LABELS[:3]), do_compression=True)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="codes.mat"):
            load_codes(path)
