"""How many photographs a face is found in, and how fast; sampling of frames; near duplicates.

    python -m benchmarks.detection DIR                  photographs of DIR/IDENTITY/*
    python -m benchmarks.detection DIR --longest 640    the same, scaled to that many pixels
    python -m benchmarks.detection DIR --turned 400     400 of LFW's photographs, turned by quarters
    python -m benchmarks.detection DIR --turned 400 --face_side 48    LFW's box of the face alone
    python -m benchmarks.detection --frames 100000      a made tree of YouTube Faces' form
    python -m benchmarks.detection --hashes 100000      made hashes, 4,000 of them equal

One line of JSON is printed.
"""

import json
import os
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from config import IMAGE_SIZE
from faces.cropping import Cropper, box_crop, detect_crop
from faces.detection import Face, FaceDetector, Rejected
from faces.photographs import open_photograph, photograph_of, turn_image
from faces.reading import one_thread_a_call, read_faces
from faces.sources import LFW_BOX, Photo, find_photos
from faces.splits import read_sampled, split_faces
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError

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


def measure_turning(folder, number, face_side):
    """Faces found in photographs as they are and turned by quarters: dict.

    "before" is what the detector finds without a look at the other sides. Its time and that of the
    whole are measured in alternation.

    Args:
        folder: Path of photographs, DIR/IDENTITY/*, whose faces are all upright.
        number: of photographs, chosen by a seed.
        face_side: pixels of a side to which LFW's box of the face is scaled; None takes all of
            the photograph.
    """
    photos = find_photos("folder", folder).photos
    chosen = np.sort(np.random.RandomState(0).permutation(len(photos))[:number])
    detector, counts, seconds = FaceDetector(), Counter(), Counter()
    with one_thread_a_call():
        for photo in (photos[index] for index in chosen):
            image = open_photograph(photo.path).image
            if face_side:
                image = image.crop(LFW_BOX).resize((face_side, face_side), Image.BILINEAR)
            for degrees in (0, 90, 180, 270):
                pixels = np.asarray(turn_image(image, degrees))
                start = time.process_time()
                before = detector._detect_with_border(pixels)
                middle = time.process_time()
                found = detector.detect(pixels)
                end = time.process_time()
                seconds.update({("before", degrees): middle - start,
                                ("now", degrees): end - middle})
                right = (degrees + sum(face.turned for face in found[:1])) % 360 == 0
                counts.update({("before", degrees): bool(before), ("found", degrees): bool(found),
                               ("upright", degrees): bool(found) and right,
                               ("same", degrees): before == found})
    return {"photographs": len(chosen), "face_side": face_side, "turned": [
        {"degrees": degrees, "found_before": counts["before", degrees],
         "found": counts["found", degrees], "upright": counts["upright", degrees],
         "same_as_before": counts["same", degrees],
         "time_ratio": round(seconds["now", degrees] / seconds["before", degrees], 3)}
        for degrees in (0, 90, 180, 270)]}


def measure_sampling(number, workers):
    """Time and memory of sampling a tree of video frames, about 390 a person as there: dict."""
    people = max(1, number // 390)
    frame = Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 200, 3), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        for index in range(number):
            if index % LINKS_A_FILE == 0:
                first = Path(folder) / f"frame{index}.jpg"
                frame.save(first)
            video = (Path(folder) / "db" / f"person{index % people}"
                     / f"video{index // people % 2}")
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
    photos = [Photo(Path(str(index)), f"person{index % 1000}") for index in range(number)]
    faces = [Face((0, 0, 1, 1), pixels=face, hash=value)
             for face, value in zip(pixels, hashes)]
    start, cpu = time.time(), time.process_time()
    split = split_faces(photos, faces, 0, 5, 10, drop_near_duplicates=True)
    return {"photographs": number, "pairs": len(split.near), "dropped": sum(
        outcome.reason == "near_duplicate" for outcome in split.outcomes),
        "seconds": round(time.time() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1), "peak_megabytes": peak_megabytes()}


def peak_megabytes():
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--longest", type=int)
    parser.add_argument("--turned", type=int, metavar="N")
    parser.add_argument("--face_side", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--hashes", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    if options.frames:
        result = measure_sampling(options.frames, options.workers)
    elif options.hashes:
        result = measure_duplicates(options.hashes)
    elif options.folder and options.turned:
        result = measure_turning(options.folder, options.turned, options.face_side)
    elif options.folder:
        result = measure_detection(options.folder, options.longest, options.workers)
    else:
        raise UserError("name a folder of photographs, or --frames or --hashes")
    print(json.dumps(result))


if __name__ == "__main__":
    run_command(main)
