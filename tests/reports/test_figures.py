"""Figures: their numbers against hand-computed ones, and what of them is seen."""

import re

import numpy as np
import pytest
from PIL import Image

import data_loader
from config import find_dataset
from evaluation import metrics
from evaluation.codes import checked_codes
from methods.table import resolve
from reports import figures, pictures, ranking, style
from runtime.run_folder import RunFolder

# Distances of the first query to the gallery: 0, 1, 2, 1; of the second: 2, 1, 0, 1.
CODES = checked_codes(
    np.array([[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, 1]]), np.array([0, 0, 1, 1]),
    np.array([[1, 1, 1], [1, -1, -1], [1, 1, 1]]), np.array([0, 1, 1]))
EVALUATION = metrics.evaluate_codes(CODES)
CURVE = ranking.Ranking(np.arange(1, 5), np.array([1, .8, .6, .5]), np.array([.2, .4, .8, 1]))


def random_codes(gallery=60, queries=11, bits=7, people=5, seed=0):
    rng = np.random.RandomState(seed)
    return checked_codes(rng.choice([-1, 1], (gallery, bits)), rng.randint(0, people, gallery),
                         rng.choice([-1, 1], (queries, bits)), rng.randint(0, people + 1, queries))


# Bounds


def test_ranking_bounds_by_hand():
    one = ranking.ranking(EVALUATION, CODES)  # each query has 2 of 4
    np.testing.assert_allclose(one.precision_ceiling, [1, 1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(one.recall_ceiling, [1 / 2, 1, 1, 1])
    assert one.chance == 0.5 and one.gallery == 4
    np.testing.assert_allclose(one.precision, EVALUATION.precision_at)


def test_ranking_goes_on_to_the_last_rank(monkeypatch):
    codes = random_codes()
    whole = metrics.evaluate_codes(codes)
    monkeypatch.setattr(metrics, "CURVE_RANKS", 10)
    one = ranking.ranking(metrics.evaluate_codes(codes), codes)
    assert one.ranks[:10].tolist() == list(range(1, 11)) and one.ranks[-1] == 60
    np.testing.assert_allclose(one.precision, whole.precision_at[one.ranks - 1])
    np.testing.assert_allclose(one.recall, whole.recall_at[one.ranks - 1])
    assert np.all(one.precision <= one.precision_ceiling + 1e-12)
    assert np.all(one.recall <= one.recall_ceiling + 1e-12)


def test_relevant_items_of_text_labels_and_strangers():
    codes = CODES._replace(gallery_labels=np.array(["b", "b", "b", "d"]),
                           query_labels=np.array(["a", "b", "z"]))
    assert ranking.relevant_items(codes).tolist() == [0, 3, 0]


def test_chance_is_the_map_of_a_random_order():
    codes = random_codes()
    rng = np.random.RandomState(1)
    values = []
    for _ in range(2000):
        query = rng.randint(len(codes.query_labels))
        relevant = rng.permutation(codes.gallery_labels) == codes.query_labels[query]
        precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        values.append(precision[relevant].mean() if relevant.any() else 0.0)
    assert abs(ranking.chance_map(codes) - np.mean(values)) < 4 * np.std(values) / 2000 ** 0.5


def test_closer_share_counts_pairs():
    same, different = np.array([2, 0, 1]), np.array([1, 1, 3])
    pairs = [(a, b) for a, times in enumerate(same) for _ in range(times)
             for b, others in enumerate(different) for _ in range(others)]
    expected = np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert figures.closer_share(same, different) == pytest.approx(expected)


@pytest.mark.parametrize("precision, recall, best", [
    ([0.9, 0.8, 0.1], [0.1, 0.5, 1.0], 1), ([0, 0, 0], [0, 0, 0], 0), ([.5, .5], [1, 1], 0)])
def test_best_radius(precision, recall, best):
    assert figures.best_radius(np.array(precision), np.array(recall)) == best


@pytest.mark.parametrize("numbers, text", [
    ([], ""), ([3], "3"), ([1, 2], "1, 2"), ([1, 2, 3, 7, 9, 10, 11], "1 to 3, 7, 9 to 11")])
def test_ranges(numbers, text):
    assert figures.ranges(numbers) == text


# What is drawn


def test_constant_bits_are_hatched_and_named():
    assert figures.constant_bits(CODES) == [1]
    balance = figures.bit_balance(CODES)
    assert [bool(bar.get_hatch()) for bar in balance.figure.axes[0].patches].count(True) == 1
    matrix = figures.bit_correlation_matrix(CODES)
    # its row over the whole width, and its column over the whole height
    hatched = [patch for patch in matrix.figure.axes[0].patches if patch.get_hatch()]
    assert sorted((patch.get_width(), patch.get_height()) for patch in hatched) == [(1, 3), (3, 1)]
    varied = checked_codes(-CODES.query_codes, CODES.query_labels, CODES.query_codes,
                           CODES.query_labels)
    assert figures.constant_bits(varied) == [1]
    alike = CODES._replace(gallery_codes=np.ones((4, 3), np.int8))
    assert len(figures.bit_correlation_matrix(alike).figure.axes[0].patches) == 2


def test_constant_bits_of_long_codes_need_few_patches():
    codes = np.ones((4, 400), np.int8)
    codes[:2, ::2] = -1  # every other bit is constant
    long = CODES._replace(gallery_codes=codes)
    assert len(figures.bit_correlation_matrix(long).figure.axes[0].patches) == 400


def test_one_epoch_shows_a_mark():
    drawings = figures.history([dict(epoch=1.0, total=2.0, quantization=0.0, accuracy=0.5,
                                          seconds=1.0, images_per_second=9.0)])
    assert [drawing.name for drawing in drawings] == ["losses", "accuracy"]
    for drawing in drawings:
        line, = drawing.figure.axes[0].lines
        assert line.get_marker() not in (None, "None", "") and len(line.get_xdata()) == 1
        assert drawing.figure.axes[0].get_xlim()[0] < 1 < drawing.figure.axes[0].get_xlim()[1]


def test_map_over_epochs_skips_epochs_without_evaluation():
    rows = [dict(epoch=float(epoch), total=3.0 / epoch, accuracy=0.1 * epoch,
                 mAP=0.2 * epoch if epoch % 2 == 0 else None) for epoch in range(1, 6)]
    drawing = figures.history(rows)[-1]
    assert drawing.name == "map_over_epochs"
    line, = drawing.figure.axes[0].lines
    assert line.get_xdata().tolist() == [2, 4]
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.8])
    assert "0.8000" in drawing.caption


def test_many_lines_are_grey_but_the_named():
    names = [f"m{number}" for number in range(15)]
    styled = figures.line_styles(names, ["m3", "m9"])
    assert list(styled)[-2:] == ["m3", "m9"]  # over the grey ones
    assert {styled[name] for name in names if name not in ("m3", "m9")} == {style.OTHERS}
    few = figures.line_styles(names[:7])
    assert len(set(few.values())) == 7 and style.OTHERS not in few.values()
    assert [name for name, line in figures.line_styles(names).items()
            if line is not style.OTHERS] == names[:3]


def test_colours_differ_also_for_the_colour_blind():
    """Simulated deuteranopia and protanopia (Vienot, Brettel and Mollon 1999), distances in Lab."""
    lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                    [0.0299566, 0.184309, 1.46709]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    colours = [line.colour for line in style.LINES[:6]]
    rgb = np.array([[int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for seen in (np.eye(3), deutan, protan):
        seen_rgb = np.clip(np.linalg.solve(lms, seen.dot(lms).dot(linear.T)), 0, 1).T
        lab = lab_of(seen_rgb)
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(6, 1)]
        assert distances.min() > 10, distances.min()


def lab_of(linear):
    """CIE Lab of linear sRGB [n, 3]."""
    xyz = linear.dot(np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192],
                               [0.1805, 0.0722, 0.9505]])) / [0.9505, 1.0, 1.089]
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.column_stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]),
                            200 * (root[:, 1] - root[:, 2])])


def test_far_outliers_do_not_squeeze_the_dots():
    values = [0.04, 0.95, 0.96, 0.97, 0.98, 0.99]
    low, high = figures.dot_range([(value, None) for value in values])
    assert 0.9 < low < 0.95 and 0.99 < high <= 1.02
    low, high = figures.dot_range([(0.5, 0.1), (0.52, 0.2)])  # a whole bar is on the axis
    assert low < 0.32 and 0.72 < high
    drawing = figures.dot_plot("dots", "mAP", [(f"m{number}", value, 0.01) for number, value
                                               in enumerate(values)] + [("none", None, None)], 0.03)
    assert "0.040" in [text.get_text() for text in drawing.figure.axes[0].texts]  # the arrow's


def test_names_are_no_formulas(tmp_path):
    names = [r"a$\x$", "_under", "$$", r"\$5^2$"]
    drawing = figures.precision_recall(
        {name: CURVE for name in names}, labels=dict(zip(names, "1234")))
    assert [text for _, text in drawing.legend] == [
        f"{number} {name}" for number, name in enumerate(names, 1)]
    dots = figures.dot_plot("dots", "x $y$", [(name, 0.5, None) for name in names])
    for one in (drawing, dots):
        style.save_png(one, tmp_path / "figure.png")  # a formula would be refused
        assert "<svg" in style.svg(one)


def test_svg_takes_the_pages_colours_and_has_ids_of_its_own():
    first, second = [style.svg(figures.at_n({"": CURVE}, which))
                     for which in ("precision", "recall")]
    assert "currentColor" in first and style.INK not in first
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for text, own in zip((first, second), ids):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= own


def test_direct_labels_stay_apart():
    x = np.linspace(0, 1, 30)
    _, axes = style.new_figure("t")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    style.label_lines(axes, [("1", x, 1 - x), ("2", x, 0.9 - 0.9 * x), ("3", x, 0.1 + 0 * x)])
    places = [text.xy for text in axes.texts]
    gaps = [np.abs(np.subtract(a, b)).max() for number, a in enumerate(places)
            for b in places[:number]]
    assert min(gaps) > 0.05


# Retrievals


def test_nearest_keeps_gallery_order_inside_ties():
    indices, distances = ranking.nearest(CODES, 0, 3)
    assert indices.tolist() == [0, 1, 3] and distances.tolist() == [0, 1, 1]


def test_example_queries():
    values = np.array([0.9, 0.1, 0.5, 0.6, 0.4, 1.0, 0.0, 0.55, 0.2])
    ap = metrics.AveragePrecision(values, values, values)
    # by AP: 5 0 3 7 2 4 8 1 6; the middle is 2
    two = {"best": 2, "typical": 2, "worst": 2}
    assert ranking.example_queries(ap, np.arange(9), two) == [
        ("best", 5), ("best", 0), ("typical", 2), ("typical", 7), ("worst", 6), ("worst", 1)]
    labels = np.array([1, 2, 3, 4, 5, 1, 2, 7, 8])  # 5 and 0 are one person, so are 6 and 1
    assert ranking.example_queries(ap, labels, two) == [
        ("best", 5), ("best", 3), ("typical", 2), ("typical", 7), ("worst", 6), ("worst", 8)]
    kinds = [kind for kind, _ in ranking.example_queries(ap, np.zeros(9), ranking.EXAMPLES)]
    assert len(kinds) == 9 and kinds.count("worst") > kinds.count("best")


# README's picture


def test_retrieval_strip(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("config.json", resolve(dict(dataset_flag=2, num_bits=12))[0].to_dict())
    train, test = data_loader.load_dataset(find_dataset(2, "data"))
    rng = np.random.RandomState(0)
    codes = dict(gallery_codes=rng.choice([-1, 1], (280, 12)), gallery_labels=train.labels,
                 query_codes=rng.choice([-1, 1], (120, 12)), query_labels=test.labels)
    np.savez(tmp_path / "codes.npz", **codes)
    out = tmp_path / "strip.png"
    pictures.main([str(tmp_path), str(out)])
    assert out.stat().st_size < 200000
    with Image.open(str(out)) as picture:
        assert picture.size[0] < 1000
        assert len(set(picture.convert("RGB").getdata())) > 50
