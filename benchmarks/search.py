"""Measures search: engines on codes by the million, photographs, the page under load, Milvus.

    python -m benchmarks.search engines 1e6 1e7        build, memory, queries a second, recall
    python -m benchmarks.search gallery 1e6 1e7        opening and changing; bytes a face
    python -m benchmarks.search photographs RUN        photographs a second; how long a query takes
    python -m benchmarks.search load RUN               50 browsers at once, for a minute
    python -m benchmarks.search milvus 1e6 --uri HOST:PORT

Codes: 10,000 centers, each bit flipped with a chance of 5 %; queries likewise. Engines are measured
on one core, in seconds of processor time, so that other work on the machine counts little.
Recall: the share of the nearest 50 that lie no farther than the exact search's last.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.argv[1:2] in (["engines"], ["gallery"]):
    os.environ["OMP_NUM_THREADS"] = "1"  # before OpenMP starts

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from data_loader import orl_folder  # noqa: E402
from evaluation import packing  # noqa: E402
from faces import cropping  # noqa: E402
from gallery import engines  # noqa: E402
from gallery.engines import SAMPLE_TOP  # noqa: E402
from runtime.command_line import ArgumentParser, run_command  # noqa: E402

CENTERS, FLIP = 10000, 0.05
PHOTOGRAPH = 1600, 1200  # pixels
BROWSERS = 50
SECONDS = 2.0  # that a rate is measured for, at least


def clustered(count, num_bits, seed):
    """Codes around centers: uint64 [count]."""
    rng = np.random.RandomState(0)
    centers = packing.pack(np.where(rng.rand(CENTERS, num_bits) < 0.5, 1, -1))
    rng = np.random.RandomState(seed)
    codes = centers[rng.randint(CENTERS, size=count)]
    for start in range(0, count, 1 << 18):
        part = slice(start, min(start + (1 << 18), count))
        flips = rng.random_sample((part.stop - start, num_bits)).astype(np.float32) < FLIP
        codes[part] ^= packing.pack(np.where(flips, 1, -1))
    return codes


def resident_mib():
    """Memory of this process now, in MiB."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2 ** 20


def rates(index, queries, clock):
    """Queries a second, (one by one, all at once): medians of what two seconds give room for."""
    found = []
    for size in (1, len(queries)):
        parts, times = itertools.cycle(np.array_split(queries, len(queries) // size)), []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times) < 3:
            part, started = next(parts), clock()
            index.search(part, SAMPLE_TOP)
            times.append(clock() - started)
        found.append(size / statistics.median(times[len(times) > 3:]))
    return tuple(found)


def measure_engines(sizes, num_bits, names):
    """A line an engine and size."""
    print("bits engine        codes  build s  memory MiB  queries/s one by one  batched  recall")
    for size in sizes:
        codes, queries = clustered(size, num_bits, 1), clustered(1000, num_bits, 2)
        exact = None
        for name in names:
            before, started = resident_mib(), time.process_time()
            index = engines.build_index(name, codes, num_bits)
            built, memory = time.process_time() - started, resident_mib() - before
            found = index.search(queries[:200], SAMPLE_TOP).distances
            exact = found if exact is None else exact
            recall = np.mean(found <= exact[:, -1:])
            alone, at_once = rates(index, queries, time.process_time)
            lists = f"  ({index.probes} of {len(index.centers)} lists)" if name == "ivf" else ""
            print(f"{num_bits:4} {name:8} {size:10} {built:8.1f} {memory:11.0f} {alone:21.0f} "
                  f"{at_once:8.0f}  {recall:.4f}{lists}", flush=True)
            del index


def measure_galleries(sizes):
    """A line a size: how long a gallery takes to open, to answer and to change; bytes a face.

    Faces have embeddings that are drawn at random. Thumbnails have 100 bytes, which do not count:
    they are read one by one. A face has a photograph of its own, of one of 10,000 people.
    """
    print("   faces  bytes a face  open s  first query s  query ms  fit again s  add one "
          "photograph s  rename s  remove one face s")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            values = zip(_measure_gallery(Path(folder), size), (
                "12.0f", "6.2f", "13.2f", "8.1f", "11.1f", "20.2f", "8.2f", "17.2f"))
            print(f"{size:8}", *(f" {value:{form}}" for value, form in values), flush=True)


def _measure_gallery(folder, size):
    from gallery import indexing, people
    from gallery.answers import Judge
    from gallery.store import Gallery

    path, data = folder / "gallery", folder / "data"
    for number in range(3):
        write_photographs(folder / f"new{number}", 1, seed=number)
    indexing.index_photographs(path, [str(folder / "new0")], data_dir=data)
    fill_gallery(path, size)
    stored = (path / "gallery.db").stat().st_size / size - 100
    _, fitting = timed(lambda: indexing.add(path, [str(folder / "new1")], data_dir=data))
    opened, opening = timed(lambda: Gallery.open(path))
    with opened:
        judge, index = Judge(opened), engines.open_index(opened)
        code, embedding = opened.codes[7], opened.vector_of(opened.ids[7])

        def query():
            return judge.answer(index, code, 10, vector=embedding)

        first, queries = timed(query)[1], [timed(query)[1] for _ in range(5)]
    changes = [timed(change)[1] for change in (
        lambda: indexing.add(path, [str(folder / "new2")], data_dir=data),
        lambda: people.rename(path, "person 7", "somebody"),
        lambda: people.remove(path, ids=[7]))]
    return (stored, opening, first, 1000 * statistics.median(queries), fitting, *changes)


def timed(work):
    """(what a function gives, seconds of processor time that it took)."""
    started = time.process_time()
    return work(), time.process_time() - started


def fill_gallery(path, size):
    """Adds so many faces with random embeddings to a gallery without a run."""
    from gallery.store import Writer

    rng, at_once = np.random.RandomState(1), 1 << 16
    with contextlib.closing(sqlite3.connect(str(path / "gallery.db"))) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        first = 1 + connection.execute("SELECT max(id) FROM photographs").fetchone()[0]
        for table in ("people", "labels"):
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [
                (number + 1000, f"person {number}")[::1 if table == "people" else -1]
                for number in range(CENTERS)])
        for start in range(first, first + size, at_once):
            rows = range(start, min(start + at_once, first + size))
            connection.executemany(
                "INSERT INTO photographs VALUES (?, ?, ?, ?, ?, ?, 0, 1, '', '')",
                ((row, f"/photographs/person {row % CENTERS}/photograph {row}.jpg".encode(),
                  f"{row:032}".encode(), 10 ** 6 + row, 10 ** 18 + row, f"person {row % CENTERS}")
                 for row in rows))
            connection.executemany(
                "INSERT INTO faces VALUES (?, ?, 0, ?, 0, 0, ?, 1.5, 2.5, 3.5, 4.5)",
                ((row, row, 1000 + row % CENTERS, row * 7919) for row in rows))
            connection.executemany("INSERT INTO face_images VALUES (?, ?)", (
                (row, b"\xff\xd8" + b"x" * 98) for row in rows))
            embeddings = rng.standard_normal((len(rows), 128)).astype("<f2")
            connection.executemany("INSERT INTO embeddings VALUES (?, ?)", (
                (row, embedding.tobytes()) for row, embedding in zip(rows, embeddings)))
            connection.commit()
    with Writer(path) as writer:
        writer.faces_changed(size)
        writer.run("INSERT INTO sources VALUES (?)", b"/photographs")
        writer.commit()


def write_photographs(folder, count, seed=0):
    """Writes photographs with one face of ORL each, on a background of smooth colours."""
    faces = sorted(orl_folder().glob("s*/*.pgm"))
    folder.mkdir()
    for number in range(seed, seed + count):
        rng = np.random.RandomState(number)
        coarse = Image.fromarray(rng.randint(60, 200, (6, 8, 3)).astype(np.uint8))
        picture = coarse.resize(PHOTOGRAPH, Image.BICUBIC)
        with Image.open(faces[number % len(faces)]) as face:
            scale = rng.uniform(3, 7)
            large = face.convert("RGB").resize([int(edge * scale) for edge in face.size],
                                               Image.BICUBIC)
        picture.paste(large, (int(rng.randint(0, 800)), int(rng.randint(0, 400))))
        picture.save(folder / f"{number:05}.jpg", quality=90)


@contextlib.contextmanager
def detecting_gallery(run, count):
    """A gallery of photographs whose faces are sought, with a run's encoder.

    ORL's own faces are taken whole; here the encoder says that they were detected.

    Yields:
        (Gallery, photographs a second, photographs with a face, list of photographs' bytes).
    """
    from gallery.following import Follower, Report
    from gallery.store import Gallery, Writer
    from methods.export import Encoder, export_encoder
    from methods.run import open_run
    from runtime.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photographs"
        write_photographs(folder, count)
        path, report = Path(temporary) / "gallery", Report()
        with Writer(path, make=True) as writer:
            place = writer.path / "encoder"
            metadata = export_encoder(open_run(RunFolder.open(run)), place)
            metadata.update(crop=cropping.detect_crop(32), dataset="photographs")
            (place / "encoder.json").write_text(json.dumps(metadata))
            with Encoder.open(place) as encoder:
                encoder.encode(np.zeros((256, 32, 32, 3), np.uint8))  # the first time takes longer
                writer.start(metadata, place.name)
                started = time.perf_counter()
                Follower(writer, report, lambda: encoder).follow([os.path.realpath(folder)])
                writer.commit()
                per_second = count / (time.perf_counter() - started)
        with Gallery.open(path) as gallery:
            yield gallery, per_second, report.counts["faces"], [
                path.read_bytes() for path in sorted(folder.iterdir())]


def measure_photographs(run, count):
    """Photographs a second, and how long one query takes once all is loaded."""
    from gallery.answers import Judge
    from gallery.searcher import Searcher

    with detecting_gallery(run, count) as (gallery, per_second, faces, data):
        width, height = PHOTOGRAPH
        print(f"{count} photographs of {width}x{height}: {per_second:.1f} photographs/s on "
              f"{os.cpu_count()} cores, {faces} faces found")
        searcher = Searcher(gallery, engines.open_index, Judge)
        times = []
        for photograph in data[:5] + data[:60]:
            started = time.perf_counter()
            searcher.query(photograph)
            times.append(1000 * (time.perf_counter() - started))
        times = sorted(times[5:])
        print("one query, from a photograph's bytes to the answer: median "
              f"{statistics.median(times):.0f} ms, 95 % within {times[int(0.95 * len(times))]:.0f} "
              f"ms, longest {times[-1]:.0f} ms")


def measure_load(run, seconds):
    """Browsers at once: answers a second, how long they take, and whether any goes wrong."""
    import http.client

    from gallery import server as web_server
    from gallery.answers import Judge
    from gallery.searcher import Searcher

    with detecting_gallery(run, 40) as (gallery, _, _, data):
        searcher, sockets = Searcher(gallery, engines.open_index, Judge), web_server.listen(
            "127.0.0.1", 0)
        port = sockets[0].getsockname()[1]
        access = web_server.Access("127.0.0.1", port)
        threading.Thread(target=lambda: asyncio.run(web_server.serve_forever(
            searcher, access, sockets)), daemon=True).start()
        end, times, wrong = time.perf_counter() + seconds, [], []

        def browser(number):
            while time.perf_counter() < end:
                started = time.perf_counter()
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                    connection.request("POST", "/api/query", data[number % len(data)],
                                       {"Content-Type": web_server.UPLOAD_TYPE})
                    answer = connection.getresponse()
                    found = json.loads(answer.read().decode())
                    connection.close()
                    if answer.status != 200 or not found["faces"]:
                        wrong.append(answer.status)
                except Exception as error:
                    wrong.append(repr(error))
                times.append(time.perf_counter() - started)

        memory = resident_mib()
        with ThreadPoolExecutor(BROWSERS) as pool:
            list(pool.map(browser, range(BROWSERS)))
        times.sort()
        print(f"{BROWSERS} browsers for {seconds:g} s: {len(times)} photographs searched, "
              f"{len(times) / seconds:.1f} a second; half within {times[len(times) // 2]:.1f} s, "
              f"95 % within {times[int(0.95 * len(times))]:.1f} s, longest {times[-1]:.1f} s; "
              f"memory {resident_mib():.0f} MiB, {memory:.0f} before; wrong: {len(wrong)}"
              + (f" ({wrong[0]})" if wrong else ""))


class _Uploaded:
    """What gallery.milvus asks of a gallery, without a folder."""

    def __init__(self, codes, num_bits):
        self.path, self.num_bits = Path("benchmark"), num_bits
        self.info, self.codes = {"id": "benchmark"}, codes

    def __len__(self):
        return len(self.codes)


def measure_milvus(sizes, num_bits, uri):
    """A line a size, through a server."""
    from gallery import milvus

    print("bits      codes  upload s  queries/s one by one  batched  recall")
    server = milvus.Server(uri, os.environ.get("MILVUS_TOKEN"))
    for size in sizes:
        gallery = _Uploaded(clustered(size, num_bits, 1), num_bits)
        queries = clustered(1000, num_bits, 2)
        started = time.perf_counter()
        index = server.upload(gallery)
        uploaded = time.perf_counter() - started
        alone, at_once = rates(index, queries, time.perf_counter)
        print(f"{num_bits:4} {size:10} {uploaded:9.1f} {alone:21.0f} {at_once:8.0f}  "
              f"{index.recall:.4f}", flush=True)
        server._client.drop_collection(milvus.collection_name(gallery))


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("engines", "gallery", "photographs", "load", "milvus"))
    parser.add_argument("values", nargs="+", help="numbers of codes, or a run")
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--engines", nargs="+", default=["flat", "ivf"])
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--uri")
    options = parser.parse_args(arguments)
    if options.what == "engines":
        measure_engines([int(float(value)) for value in options.values], options.bits,
                        options.engines)
    elif options.what == "gallery":
        measure_galleries([int(float(value)) for value in options.values])
    elif options.what == "milvus":
        measure_milvus([int(float(value)) for value in options.values], options.bits, options.uri)
    elif options.what == "photographs":
        measure_photographs(options.values[0], options.photographs)
    else:
        measure_load(options.values[0], options.seconds)


if __name__ == "__main__":
    run_command(main)
