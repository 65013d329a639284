"""What alignment gains: DCBH on the same photographs with fixed boxes and with faces aligned.

    python -m benchmarks.alignment --lfw DIR --out DIR      LFW, photographs rolled, scaled, shifted
    python -m benchmarks.alignment --crops DIR --out DIR    faces that somebody has cropped, as is

Of LFW, --people people with the most photographs take part, each with the first --most of theirs.
Each photograph is rolled by up to 20 degrees, scaled by 0.75 to 1.25 and shifted by up to 12
pixels, at random, from a seed. Data sets and runs go to --out. One line of JSON a training is
printed.
"""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from config import ROOT
from faces.sources import LFW_BOX, find_photos
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError

ROLL, SCALE, SHIFT = 20, (0.75, 1.25), 12


def perturb(pixels, rng):
    """A photograph rolled, scaled and shifted around its center; its edge pixels go on beyond it.

    Args:
        pixels: uint8 [height, width, 3].
        rng: RandomState.
    """
    import cv2

    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2),
                                     rng.uniform(-ROLL, ROLL), rng.uniform(*SCALE))
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def write_perturbed(source, target, people, most, seed):
    """Writes perturbed photographs of the people with the most, as target/NAME/*.png."""
    photos = find_photos("folder", source).photos
    by_person = {}
    for photo in photos:
        by_person.setdefault(photo.person, []).append(photo.path)
    chosen = sorted(by_person, key=lambda name: (-len(by_person[name]), name))[:people]
    for name in chosen:
        (target / name).mkdir(parents=True, exist_ok=True)
        for path in by_person[name][:most]:
            rng = np.random.RandomState(zlib.crc32(f"{seed} {name}/{path.name}".encode()))
            with Image.open(path) as image:
                moved = perturb(np.asarray(image.convert("RGB")), rng)
            Image.fromarray(moved).save(target / name / f"{path.stem}.png")


def train(images, name, crop, options):
    """Prepares a data set with a crop and trains on it; returns the results, a dict."""
    data = [sys.executable, ROOT / "prepare.py", "--source", "folder", "--images", images,
            "--name", name, "--data_dir", options.out / "data", "--overwrite"]
    subprocess.run(data + crop, check=True, stdout=subprocess.DEVNULL)
    run_dir = options.out / "runs" / f"{name}_seed{options.seed}"
    subprocess.run([sys.executable, ROOT / "main.py", "--dataset_flag", name, "--data_dir",
                    options.out / "data", "--run_dir", run_dir, "--overwrite", "--num_bits", "48",
                    "--epochs", str(options.epochs), "--seed", str(options.seed)], check=True,
                   stdout=subprocess.DEVNULL)
    results = json.loads((run_dir / "results.json").read_text())
    return {"data": name, "crop": " ".join(crop), "gallery": results["num_gallery"],
            "queries": results["num_queries"], "mAP": round(results["mAP"], 4)}


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--lfw", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--margins", type=float, nargs="*", default=[0.0])
    options = parser.parse_args(arguments)
    if bool(options.lfw) == bool(options.crops):
        raise UserError("either --lfw or --crops names the photographs")
    kind, images, fixed, others = "crops", options.crops, ["--crop", "none"], [
        "--drop_near_duplicates"]  # of which FaceScrub has many
    if options.lfw:
        kind, images, others = "lfw", options.out / "perturbed", []
        fixed = ["--crop", "box", "--crop_box", ",".join(map(str, LFW_BOX))]
        write_perturbed(options.lfw, images, options.people, options.most, options.seed)
    ways = [("fixed", fixed)]
    ways += [(f"aligned{round(100 * margin)}", ["--crop", "detect", "--margin", str(margin)])
             for margin in options.margins]
    for way, crop in ways:
        name = f"{kind}_{way}".replace("-", "m")
        print(json.dumps(train(images, name, crop + others, options)), flush=True)


if __name__ == "__main__":
    run_command(main)
