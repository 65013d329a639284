"""What a run's page says of people never seen in training."""

from typing import NamedTuple

from evaluation.vectors import load_unseen
from reports.columns import shown
from reports.ranking import chance_map
from reports.verdict import counted

COMPARED = ("mAP", "mAP_worst_case", "mAP_best_case", "top_1_accuracy", "r_precision")
TITLES = {"mAP": "mAP", "mAP_worst_case": "worst order of ties",
          "mAP_best_case": "best order of ties", "top_1_accuracy": "nearest right",
          "r_precision": "R-precision"}
UNKNOWN = (("o1", "known unknown"), ("o2", "unknown unknown"), ("o3", "both"))
LIMITS = (("1_percent", "1 %"), ("10_percent", "10 %"))


class UnseenPart(NamedTuple):
    """The part of a page.

    Attributes:
        sentence: the numbers that count.
        heads, rows: table of seen and unseen people beside one another; texts.
        open_set: what the second table is about, one sentence; "" where there is none.
        open_heads, open_rows: table of detection and identification rates; texts.
    """

    sentence: str
    heads: list
    rows: list
    open_set: str
    open_heads: list
    open_rows: list


def unseen_part(folder, results, codes):
    """The UnseenPart of an evaluated folder, or None where nobody was left out of training.

    Args:
        folder: an OutputFolder with unseen_codes.npz or unseen_floats.npz, if the results are of
            such a run.
        results: its results.json.
        codes: Codes or Floats of the seen people.
    """
    if "unseen_mAP" not in results:
        return None
    others = load_unseen(folder)
    chances = [chance_map(split) for split in (codes, others)]
    people = len(set(codes.gallery_labels.tolist())), results["unseen_num_identities"]
    queries = results["unseen_num_queries"]
    sentence = (
        "For %s never seen in training mAP is %.4f (a random order: %.4f) and the nearest image is "
        "right for %.1f %% of %s; for the %d who were, mAP is %.4f (a random order: %.4f)." % (
            counted(people[1], "person", "people"), results["unseen_mAP"], chances[1],
            100 * results["unseen_top_1_accuracy"], counted(queries, "query", "queries"),
            people[0], results["mAP"], chances[0]))
    rows = [["people"] + ["{:,}".format(count) for count in people]]
    rows += [[title] + [shown(name, results[prefix + name]) for prefix in ("", "unseen_")]
             for title, name in (("gallery images", "num_gallery"), ("queries", "num_queries"))]
    rows.append(["mAP of a random order"] + ["%.4f" % chance for chance in chances])
    rows += [[TITLES[name]] + [shown(name, results[prefix + name]) for prefix in ("", "unseen_")]
             for name in COMPARED]
    return UnseenPart(sentence, ["", "seen", "never seen"], rows, *_open_set(results))


def _open_set(results):
    """(sentence, heads, rows) of open-set identification."""
    if "open_set_o3_dir_at_1_percent" not in results:
        return "", [], []
    known, others = [results["open_set_num_" + kind] for kind in ("known", "known_unknown")]
    sentence = (
        "Open-set identification: the training images of %s are enrolled; %s trained but are not "
        "enrolled (known unknown), %s never seen (unknown unknown). A query is taken for the "
        "person of the nearest enrolled image if that lies within a distance, the largest one at "
        "which at most 1 or 10 %% of the unknown people's queries are accepted." % (
            counted(known, "person", "people"), counted(others, "person", "people"),
            counted(results["unseen_num_identities"], "person was", "people were")))
    heads = ["unknown people", "known queries", "unknown"]
    for _, limit in LIMITS:
        heads += ["identified at %s" % limit, "false accepts", "distance"]
    counts = {"o1": results["open_set_num_known_unknown_queries"],
              "o2": results["unseen_num_queries"]}
    counts["o3"] = counts["o1"] + counts["o2"]
    rows = []
    for name, title in UNKNOWN:
        row = [title, shown("num_queries", results["open_set_num_known_queries"]),
               shown("num_queries", counts[name])]
        for limit, _ in LIMITS:
            detection, accepts, threshold = [
                results.get("open_set_%s_%s_at_%s" % (name, part, limit))
                for part in ("dir", "far", "threshold")]
            row += ["-" if detection is None else "%.4f" % detection,
                    "-" if accepts is None else "%.4f" % accepts,
                    "none" if threshold is None else "%.4g" % threshold]
        rows.append(row)
    return sentence, heads, rows
