"""How many photographs a face is found in, and how fast; sampling of frames; near duplicates.

    python -m benchmarks.detection DIR                  photographs of DIR/IDENTITY/*
    python -m benchmarks.detection DIR --longest 640    the same, scaled to that many pixels
    python -m benchmarks.detection --frames 100000      a made tree of YouTube Faces' form
    python -m benchmarks.detection --hashes 100000      made hashes, 4,000 of them equal

One line of JSON is printed.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from config import IMAGE_SIZE
from faces.cropping import Cropper, box_crop, detect_crop
from faces.detection import Face
from faces.outcomes import Rejected
from faces.photographs import photograph_of
from faces.reading import read_faces
from faces.sources import Photo, find_photos
from faces.splits import read_sampled, split_faces

LINKS_A_FILE = 10000  # file systems allow some 60,000


class ScalingCropper(Cropper):
    """A Cropper that scales photographs first, so that their longer side has so many pixels."""

    def __init__(self, crop, longest):
        super().__init__(crop)
        self._longest = longest

    def crop(self, photograph, box=None):
        if self._longest:
            image = photograph.image
            factor = self._longest / max(image.size)
            photograph = photograph_of(image.resize(
                [round(side * factor) for side in image.size], Image.BICUBIC))
        return super().crop(photograph, box)


def measure_detection(folder, longest, workers):
    """Detection rate and speed on the photographs of a folder: dict."""
    photos = find_photos("folder", folder).photos
    cropper = ScalingCropper(detect_crop(IMAGE_SIZE), longest)
    start = time.time()
    _, faces = read_faces(photos, cropper, workers=workers)
    seconds = time.time() - start
    without = [str(photo.path.relative_to(folder)) for photo, face in zip(photos, faces)
               if isinstance(face, Rejected)]
    return {"photographs": len(photos), "longest_side": longest, "workers": workers,
            "detection_rate": round(1 - len(without) / len(photos), 5), "no_face": without[:20],
            "seconds": round(seconds, 1), "photographs_per_second": round(len(photos) / seconds, 1),
            "cpu_seconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 1)}


def measure_sampling(number, workers):
    """Time and memory of sampling a tree of video frames, about 390 a person as there: dict."""
    people = max(1, number // 390)
    frame = Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 200, 3), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        for index in range(number):
            if index % LINKS_A_FILE == 0:
                first = Path(folder) / f"frame{index}.jpg"
                frame.save(first)
            video = Path(folder) / "db" / ("person%d" % (index % people)) / ("video%d" % (
                index // people % 2))
            video.mkdir(parents=True, exist_ok=True)
            # Hard links to few files make the tree fast, and reading no cheaper.
            os.link(first, video / f"0.{index // (2 * people)}.jpg")
        start = time.time()
        photos = find_photos("youtube_faces", Path(folder) / "db").photos
        listed = time.time() - start
        cropper = Cropper(box_crop(IMAGE_SIZE, fraction=0.5))
        sampled, _, _ = read_sampled(photos, 0, 5, lambda some: read_faces(some, cropper,
                                                                           workers=workers))
    return {"frames": len(photos), "people": people, "frames_read": len(sampled),
            "seconds_to_list": round(listed, 1), "seconds": round(time.time() - start, 1),
            "peak_megabytes": peak_megabytes()}


def measure_duplicates(number):
    """Time and memory of splitting photographs of 1,000 people, near duplicates dropped: dict.

    The bits of the made hashes depend on one another, as those of faces do; 4,000 are equal.
    """
    rng = np.random.RandomState(0)
    values = rng.randn(number, 12).dot(rng.randn(12, 64)) + 0.7 * rng.randn(number, 64)
    bits = values > np.median(values, axis=1)[:, None]
    hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]
    pixels = rng.randint(0, 256, (number, 2, 2, 3)).astype(np.uint8)
    equal = rng.permutation(number)[:4000]
    hashes[equal], pixels[equal] = hashes[equal[0]], pixels[equal[0]]
    photos = [Photo(Path(str(index)), "person%d" % (index % 1000)) for index in range(number)]
    faces = [Face((0, 0, 1, 1), pixels=face, hash=value)
             for face, value in zip(pixels, hashes)]
    start, cpu = time.time(), time.process_time()
    outcomes, _, near = split_faces(photos, faces, 0, 5, 10, drop_near_duplicates=True)
    return {"photographs": number, "pairs": len(near), "dropped": sum(
        outcome.reason == "near_duplicate" for outcome in outcomes),
        "seconds": round(time.time() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1), "peak_megabytes": peak_megabytes()}


def peak_megabytes():
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--longest", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--hashes", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.frames:
        result = measure_sampling(options.frames, options.workers)
    elif options.hashes:
        result = measure_duplicates(options.hashes)
    elif options.folder:
        result = measure_detection(options.folder, options.longest, options.workers)
    else:
        parser.error("name a folder of photographs, or --frames or --hashes")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
