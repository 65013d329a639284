"""Makes a data set that main.py trains on, data/NAME, from photographs.

    python prepare.py --source folder --images DIR --name myfaces
    python main.py --dataset_flag myfaces

Sources:
  folder         DIR/PERSON/*.jpg, png, heic, webp, gif, tif, ..., also in folders below PERSON; or
                 any tree of photographs with --labels FILE.csv, whose columns are file (below DIR)
                 and identity. Faces are found and aligned (--crop detect).
  lfw            Labeled Faces in the Wild, DIR/NAME/NAME_0001.jpg at 250x250; the face is cropped
                 to the box 68,70,182,184
  facescrub      the official lists (facescrub_actors.txt, facescrub_actresses.txt; --lists) and the
                 downloaded photographs in DIR/NAME/ (blanks or underscores); a file's name is the
                 photograph's sha256, its address's sha1, NAME_IMAGEID_FACEID, IMAGEID_FACEID,
                 NAME_IMAGEID or IMAGEID; cropped to the list's box
  youtube_faces  the official tree aligned_images_DB, DIR/PERSON/VIDEO/*.jpg: 40 training and 5 test
                 frames a person, evenly spread over time, from different videos where there are
                 several; cropped to the central half. How the authors of DDH chose their frames is
                 not known.

It follows links once. It passes over hidden folders, folders of other programs (such as @eaDir) and
what this program wrote, and counts them.

The data set holds train/ and test/ (pickles as the release reads them), labels.txt (people by
label), manifest.json (counts, crop, options), images.csv (every photograph: where it went or why it
was left out) and near_duplicates.csv; with --unseen also unseen_gallery/, unseen_queries/ and
unseen_labels.txt, of people who are kept out of training. More: docs/data.md.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os
import re
import shlex
import signal
from pathlib import Path

from config import DATASET_NAME, DATASETS, IMAGE_SIZE, Config, find_dataset
from faces.cropping import CHOICES, CROPS
from faces.describe import describe, report_lines
from faces.duplicates import NEAR_BITS
from faces.preparation import (
    DEFAULT_CROPS,
    DEFAULT_FRACTIONS,
    PUBLISHED_TEST_IMAGES,
    SOURCES,
    chosen_crop,
    prepare_dataset,
)
from faces.splits import MOST_TEST_IMAGES, SPLITS
from runtime.command_line import ArgumentParser, counted, path, run_command
from runtime.errors import UserError

WHOLE_NUMBER = re.compile(r"[0-9]{1,9}\Z")


def parse_command_line(arguments):
    """The options. Raises UserError for wrong ones."""
    crops = ", ".join(f"{source} {crop}" for source, crop in sorted(DEFAULT_CROPS.items()))
    published = ", ".join(source for source in SOURCES if source != "folder")
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, choices=SOURCES, help="see above")
    parser.add_argument("--images", required=True, type=path, metavar="DIR",
                        help="folder of the photographs")
    parser.add_argument("--name", required=True, help="name of the data set, for --dataset_flag")
    parser.add_argument("--labels", type=path, metavar="FILE.csv",
                        help="who is in which photograph (columns file, identity; commas, "
                             "semicolons or tabs)")
    parser.add_argument("--lists", nargs="+", type=path, metavar="FILE", help="FaceScrub's lists")
    parser.add_argument("--verify_sha256", action="store_true",
                        help="leave out photographs whose hash is not the list's")
    parser.add_argument("--crop", choices=CROPS, help=(
        "detect: find faces, align them by eyes, nose and mouth; box: the source's box or "
        f"--crop_box; none: the whole photograph (default: {crops})"))
    parser.add_argument("--faces", choices=CHOICES, default=CHOICES[0],
                        help="with --crop detect, which faces to take: the largest, all, or only "
                             "those that are alone in a photograph (default: %(default)s)")
    parser.add_argument("--margin", type=float, default=0.0, metavar="F",
                        help="with --crop detect: margin on each side, as a share of the template "
                             "(default: %(default)s)")
    parser.add_argument("--crop_box", metavar="X1,Y1,X2,Y2",
                        help="pixels to keep of every photograph, with --crop box")
    parser.add_argument("--crop_fraction", type=float, metavar="F",
                        help="share of width and height of the box to keep around its center, "
                             "with --crop box (default: 1; youtube_faces: 0.5)")
    parser.add_argument("--size", type=int, default=IMAGE_SIZE,
                        help=f"pixels a side; the network takes {IMAGE_SIZE}")
    parser.add_argument("--test_images", type=int, metavar="N",
                        help="test images of each person (default: half of the person's, at most "
                             f"{MOST_TEST_IMAGES}; {published}: {PUBLISHED_TEST_IMAGES})")
    parser.add_argument("--min_images", type=int, metavar="N",
                        help="people with fewer are left out (default: one more than "
                             f"--test_images, or 2; {published}: twice --test_images)")
    parser.add_argument("--max_images", type=int, metavar="N",
                        help="take at most N of each person's usable photographs, spread evenly "
                             "over the order of their file names (default: all)")
    parser.add_argument("--drop_near_duplicates", action="store_true",
                        help="keep only the first of a person's images whose perceptual hashes "
                             f"differ in at most {NEAR_BITS} of 64 bits")
    parser.add_argument("--embedding", action="store_true",
                        help="also store 128 floats a face by dlib's network, for the methods "
                             "embedding, embedding_itq and embedding_dcbh")
    parser.add_argument("--unseen", type=float, default=0.0, metavar="F",
                        help="share of the people to keep out of training, such as 0.25, to "
                             "evaluate codes of people never seen (default: nobody)")
    parser.add_argument("--seed", type=int, default=0,
                        help="seed of the split and the file order (default: %(default)s)")
    parser.add_argument("--data_dir", type=path, default=Path(Config.data_dir), metavar="DIR",
                        help="where the data set goes (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(),
                        help="threads (default: as many as cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set of this name")
    options = parser.parse_args(arguments)
    check_options(options)
    return options


def check_options(options):
    """Raises UserError for options that make no sense; fills in what was left open."""
    if not DATASET_NAME.match(options.name):
        raise UserError(f"--name {options.name!r}: begin with a letter; at most 63 letters, "
                        "digits, _ and - may follow")
    if options.name in {str(name) for dataset in DATASETS.values() for name in (
            dataset.name, dataset.train_folder, dataset.test_folder)}:
        raise UserError(f"--name {options.name} is taken by a data set of the paper")
    check_counts(options)
    if not 0 <= options.unseen < 1:
        raise UserError(f"--unseen is {options.unseen:g}; it is a share of the people, at least 0 "
                        "and below 1")
    if (options.source == "facescrub") != bool(options.lists):
        raise UserError("--source facescrub needs --lists, and no other source takes it")
    if options.labels and options.source != "folder":
        raise UserError("--labels goes with --source folder")
    check_crop_options(options)
    if options.embedding and chosen_crop(options)["method"] == "none":
        raise UserError("--embedding needs to know where the face is: --crop detect, or --crop box "
                        "with a box of the source or --crop_box")


def check_counts(options):
    """The part of check_options that is about numbers of images, pixels and threads."""
    published = options.source != "folder"
    if options.test_images is None and published:
        options.test_images = PUBLISHED_TEST_IMAGES
    for name, most in (("size", 1024), ("test_images", 10 ** 9), ("workers", 256)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise UserError(f"--{name} must be from 1 to {most}")
    test_images = options.test_images or 1
    if options.min_images is None:
        options.min_images = 2 * test_images if published else test_images + 1
    if not test_images < options.min_images <= 10 ** 9 + 1:
        raise UserError(f"--min_images must be above --test_images ({test_images}), so that "
                        "something is left to train on")
    if options.max_images is not None:
        if options.source == "youtube_faces":
            raise UserError("--max_images does not go with --source youtube_faces, which takes a "
                            "fixed number of frames")
        if options.max_images < options.min_images:
            raise UserError(f"--max_images must be at least --min_images ({options.min_images})")


def check_crop_options(options):
    """The part of check_options that is about the crop."""
    by_box = options.crop_box is not None or options.crop_fraction is not None
    if options.crop is None:
        options.crop = "box" if by_box else DEFAULT_CROPS[options.source]
    if by_box and options.crop != "box":
        raise UserError("--crop_box and --crop_fraction go with --crop box")
    if options.crop != "detect" and (options.margin or options.faces != CHOICES[0]):
        raise UserError("--margin and --faces go with --crop detect")
    if options.crop_fraction is None:
        options.crop_fraction = DEFAULT_FRACTIONS.get(options.source, 1.0)
    if not 0 < options.crop_fraction <= 1:
        raise UserError("--crop_fraction must be above 0 and at most 1")
    if not -0.3 <= options.margin <= 2:
        raise UserError("--margin must be from -0.3 to 2")
    if options.crop_box is not None:
        corners = [corner.strip() for corner in options.crop_box.split(",")]
        if len(corners) != 4 or not all(WHOLE_NUMBER.match(corner) for corner in corners):
            raise UserError("--crop_box takes four whole numbers X1,Y1,X2,Y2 of at most 9 digits, "
                            f"not {options.crop_box[:60]!r}")
        left, top, right, bottom = [int(corner) for corner in corners]
        if not (left < right and top < bottom):
            raise UserError(f"--crop_box {options.crop_box} is empty: X1 < X2 and Y1 < Y2 are "
                            "needed")
        options.crop_box = (left, top, right, bottom)


def main(arguments):
    """Prepares one data set."""
    options = parse_command_line(arguments)
    # Both: a shell starts background jobs that ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print_summary(options, prepare_dataset(options))


def print_summary(options, made):
    """Says what happened to the photographs, and whether the data set is ready to train."""
    counts = made.manifest
    print(f"{made.folder}: {counted(counts['num_identities'], 'person', 'people')}, "
          f"{counts['num_train']} training and {counts['num_test']} test images of "
          f"{len(made.outcomes)}")
    if options.unseen:
        gallery, queries = [counts["num_" + name] for name in SPLITS[1]]
        print(f"  kept out of training: {counts['num_unseen_identities']} people, {gallery} "
              f"gallery images and {queries} queries")
    for note in made.notes:
        print(f"  note: {note}")
    print(f"  what happened to every photograph: {made.folder / 'images.csv'}")
    if options.size != IMAGE_SIZE:
        print("\n".join(made.problems))
        return
    dataset = find_dataset(options.name, options.data_dir)
    description, _, _ = describe(dataset)
    print("\n".join(report_lines(description._replace(
        problems=description.problems + made.problems))))
    if made.manifest["protocol"]:
        print(f"This follows {made.manifest['protocol']}'s protocol: main.py trains "
              f"{dataset.epochs} epochs by default; set --epochs for fewer.")
    default = options.data_dir.resolve() == Path(Config.data_dir).resolve()
    data_dir = "" if default else f" --data_dir {shlex.quote(str(options.data_dir))}"
    print(f"See who is who:  python describe.py {options.name}{data_dir}")
    print(f"Train:           python main.py --dataset_flag {options.name}{data_dir}")
    if options.source == "folder":
        print("Search it, with no training: python search.py find PHOTO "
              f"{shlex.quote(str(options.images))}{data_dir}")


if __name__ == "__main__":
    run_command(main)
