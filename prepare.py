"""Photographs -> a data set that main.py trains on: data/NAME.

    python prepare.py --source folder --images DIR --name myfaces
    python main.py --dataset_flag myfaces

Sources:
  folder         DIR/IDENTITY/*.jpg, png, webp, gif, tif, ... ; or any tree of photographs with
                 --labels FILE.csv, whose columns are file (below DIR) and identity. Faces are
                 found and aligned (--crop detect).
  lfw            Labeled Faces in the Wild, DIR/NAME/NAME_0001.jpg at 250x250; the face is cropped
                 to the box 68,70,182,184
  facescrub      the official lists (facescrub_actors.txt, facescrub_actresses.txt; --lists) and the
                 downloaded photographs in DIR/NAME/ (spaces or underscores); a file's name is the
                 image's sha256, NAME_IMAGEID_FACEID, IMAGEID_FACEID, NAME_IMAGEID or IMAGEID;
                 cropped to the list's box
  youtube_faces  the official tree aligned_images_DB, DIR/PERSON/VIDEO/*.jpg: 40 training and 5 test
                 frames a person, evenly spread over time, from different videos where there are
                 several; cropped to the central half. How the authors of DDH chose their frames is
                 not known.

The data set holds train/ and test/ (pickles as the release reads them), labels.txt (identities by
label), manifest.json (counts, crop, options), images.csv (every photograph: where it went or why it
was left out) and near_duplicates.csv; with --unseen also unseen_gallery/, unseen_queries/ and
unseen_labels.txt of people who are kept out of training. docs/data.md says more.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os
import signal
from pathlib import Path

from config import DATASET_NAME, DATASETS, IMAGE_SIZE, ROOT, find_dataset
from faces.cropping import CHOICES, CROPS
from faces.describe import describe, report_lines
from faces.duplicates import NEAR_BITS
from faces.outcomes import SPLITS, TEST, TRAIN
from faces.preparation import (
    DEFAULT_CROPS,
    DEFAULT_FRACTIONS,
    SOURCES,
    chosen_crop,
    prepare_dataset,
)
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError


def parse_command_line(arguments):
    """The options. Raises UserError for wrong ones."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, choices=SOURCES)
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--name", required=True, help="of the data set, for --dataset_flag")
    parser.add_argument("--labels", type=Path, metavar="FILE.csv",
                        help="who is on which photograph (columns file, identity)")
    parser.add_argument("--lists", nargs="+", type=Path, metavar="FILE", help="FaceScrub's lists")
    parser.add_argument("--verify_sha256", action="store_true",
                        help="skip photographs whose hash is not the list's")
    parser.add_argument("--crop", choices=CROPS, help=(
        "detect: find faces, align them by eyes, nose and mouth; box: the source's box or "
        "--crop_box; none: the whole image (default: %s)" % ", ".join(
            "%s %s" % pair for pair in sorted(DEFAULT_CROPS.items()))))
    parser.add_argument("--faces", choices=CHOICES, default=CHOICES[0],
                        help="with --crop detect, of several faces: the largest, all, or only "
                             "photographs that have just one (default: %(default)s)")
    parser.add_argument("--margin", type=float, default=0.0, metavar="F",
                        help="with --crop detect: added on each side, as a share of the template "
                             "(default: %(default)s)")
    parser.add_argument("--crop_box", metavar="X1,Y1,X2,Y2",
                        help="pixels to keep of every image, with --crop box")
    parser.add_argument("--crop_fraction", type=float, metavar="F",
                        help="share of width and height of the box to keep around its center, "
                             "with --crop box (default: 1; youtube_faces: 0.5)")
    parser.add_argument("--size", type=int, default=IMAGE_SIZE,
                        help="pixels a side; the network takes %d" % IMAGE_SIZE)
    parser.add_argument("--test_images", type=int, default=5, help="an identity (default: 5)")
    parser.add_argument("--min_images", type=int, metavar="N",
                        help="identities with fewer are left out (default: twice test_images)")
    parser.add_argument("--drop_near_duplicates", action="store_true",
                        help="of images of one identity whose perceptual hashes differ in %d of "
                             "64 bits or fewer, keep the first" % NEAR_BITS)
    parser.add_argument("--embedding", action="store_true",
                        help="also store 128 floats a face by dlib's network, for the methods "
                             "embedding, embedding_itq and embedding_dcbh")
    parser.add_argument("--unseen", type=float, default=0.0, metavar="F",
                        help="share of the people, such as 0.25, that is kept out of training, to "
                             "evaluate codes of people never seen (default: nobody)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the file order (0)")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", metavar="DIR",
                        help="where the data set goes (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (all cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set of this name")
    options = parser.parse_args(arguments)
    check_options(options)
    return options


def check_options(options):
    """Raises UserError for options that make no sense; fills in what was left open."""
    if not DATASET_NAME.match(options.name):
        raise UserError("--name %r: begin with a letter; at most 63 letters, digits, _ and - may "
                        "follow" % options.name)
    if options.name in {str(name) for dataset in DATASETS.values() for name in (
            dataset.name, dataset.train_folder, dataset.test_folder)}:
        raise UserError("--name %s is taken by a data set of the paper" % options.name)
    for name in ("size", "test_images", "workers"):
        if getattr(options, name) < 1:
            raise UserError("--%s must be at least 1" % name)
    for name, most in (("size", 1024), ("workers", 256)):
        if getattr(options, name) > most:
            raise UserError("--%s must be at most %d" % (name, most))
    if options.min_images is None:
        options.min_images = 2 * options.test_images
    if options.min_images <= options.test_images:
        raise UserError("--min_images must be above --test_images (%d), so that something is left "
                        "to train on" % options.test_images)
    if not 0 <= options.unseen < 1:
        raise UserError("--unseen is %g; it is a share of the people, at least 0 and below 1"
                        % options.unseen)
    if (options.source == "facescrub") != bool(options.lists):
        raise UserError("--lists goes with --source facescrub, which needs it")
    if options.labels and options.source != "folder":
        raise UserError("--labels goes with --source folder")
    check_crop_options(options)
    if options.embedding and chosen_crop(options)["method"] == "none":
        raise UserError("--embedding needs to know where the face is: --crop detect, or --crop box "
                        "with a box of the source or --crop_box")


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
        try:
            left, top, right, bottom = [int(corner) for corner in options.crop_box.split(",")]
        except ValueError:
            raise UserError("--crop_box takes four whole numbers X1,Y1,X2,Y2, not %r"
                            % options.crop_box)
        if not (0 <= left < right and 0 <= top < bottom):
            raise UserError("--crop_box %s is empty or outside: X1 < X2 and Y1 < Y2 are needed"
                            % options.crop_box)
        options.crop_box = (left, top, right, bottom)


def main(arguments):
    """Prepares one data set."""
    options = parse_command_line(arguments)
    # Both: a process that a shell starts in the background inherits a deaf ear to SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print_summary(options, prepare_dataset(options))


def print_summary(options, made):
    """Says what became of the photographs, and whether the data set is ready to train."""
    counts = made.manifest
    print("%s: %d identities, %d training and %d test images of %d" % (
        made.folder, counts["num_identities"], counts["num_" + TRAIN], counts["num_" + TEST],
        len(made.outcomes)))
    if options.unseen:
        print("  kept out of training: %d identities, %d gallery images and %d queries" % tuple(
            counts["num_" + name] for name in ("unseen_identities",) + SPLITS[1]))
    for note in made.notes:
        print("  note: %s" % note)
    print("  what became of every image: %s" % (made.folder / "images.csv"))
    if options.size != IMAGE_SIZE:
        print("\n".join(made.problems))
        return
    dataset = find_dataset(options.name, options.data_dir)
    description, _, _ = describe(dataset)
    print("\n".join(report_lines(description._replace(
        problems=description.problems + made.problems))))
    if made.manifest["protocol"]:
        print("This follows %s's protocol: main.py trains %d epochs by default; --epochs asks for "
              "fewer." % (made.manifest["protocol"], dataset.epochs))
    print("See who is who:  python describe.py %s%s" % (options.name, _data_dir(options)))
    print("Train:           python main.py --dataset_flag %s%s" % (options.name,
                                                                    _data_dir(options)))


def _data_dir(options):
    default = options.data_dir.resolve() == (ROOT / "data").resolve()
    return "" if default else " --data_dir %s" % options.data_dir


def _interrupt(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_command(main)
