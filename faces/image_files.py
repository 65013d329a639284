"""Which photograph each image of a prepared data set comes from: images.csv, read back."""

import csv


def printable(text):
    """Text that can be written as UTF-8, whatever bytes a file's name has."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def image_files(dataset):
    """Which photograph each image of a prepared data set comes from.

    Args:
        dataset: a config.Dataset.

    Returns:
        {"train": {row: file}, "test": {row: file}}; empty where images.csv does not say it.
    """
    found = {"train": {}, "test": {}}
    if dataset.source != "prepared":
        return found
    try:
        with open(str(dataset.labels_file.with_name("images.csv")), encoding="utf-8",
                  errors="surrogateescape", newline="") as stream:
            for row in csv.DictReader(stream):
                number = row.get("row") or ""
                if row.get("status") in found and number.isdecimal() and len(number) < 10:
                    found[row["status"]][int(number)] = row.get("file") or ""
    except (OSError, csv.Error):
        pass
    return found
