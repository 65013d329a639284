"""A data set's faces -> their embeddings, by several processes, each computed once and kept.

dlib holds Python's lock while it works, so that threads would wait for one another.
"""

import base64
import contextlib
import multiprocessing
import os
import queue
import signal
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from config import EMBEDDING_SIZE
from faces import photographs
from faces.embedding import FaceEmbedder, embedding_description
from faces.kept_lines import KeptLines
from runtime.errors import Failed, UserError


class EmbeddingCache(KeptLines):
    """The embeddings of one network in one folder, by file hash and box; see KeptLines.

    Args:
        folder: Path.
    """

    def __init__(self, folder):
        # dlib 19.24.6 and 20.0.1 give the same floats, bit by bit.
        super().__init__(folder, "face_embeddings", {
            name: value for name, value in embedding_description().items() if name != "dlib"})

    def get(self, sha256, box):
        """The embedding of a face, float32 [128], or None if it is not known."""
        try:
            values = np.frombuffer(base64.b64decode(self.get_line(_key(sha256, box))), "<f4")
        except (ValueError, TypeError):  # not known, or damaged
            return None
        whole = values.shape == (EMBEDDING_SIZE,) and np.isfinite(values).all()
        return values if whole else None

    def put(self, sha256, box, embedding):
        """Keeps the embedding of a face; where that fails it is computed again next time."""
        self.put_line(_key(sha256, box),
                      base64.b64encode(embedding.astype("<f4").tobytes()).decode())


def _key(sha256, box):
    return "%s:%s" % (sha256, ",".join("%.1f" % edge for edge in box))


def embed_faces(photos, faces, chosen, folder, workers=None):
    """The embeddings of a data set's faces, with a bar that shows rate and remaining time.

    Args:
        photos, faces: a faces.sources.Photo and a faces.detection.Face an item.
        chosen: indices of the items that are wanted.
        folder: Path, where embeddings are kept.
        workers: processes; as many as there are cores by default and at most.

    Returns:
        float32 [len(photos), 128]; zeros where the item is not wanted.

    Raises:
        UserError: a package is missing, or a photograph has changed or is gone.
    """
    found = np.zeros((len(photos), EMBEDDING_SIZE), np.float32)
    cache = EmbeddingCache(folder)
    missing = OrderedDict()  # path -> indices of its faces
    for index in chosen:
        known = cache.get(faces[index].sha256, faces[index].box)
        if known is None:
            missing.setdefault(photos[index].path, []).append(index)
        else:
            found[index] = known
    tasks = [(path, faces[indices[0]].sha256, [faces[index].box for index in indices],
              faces[indices[0]].turned)
             for path, indices in missing.items()]
    try:
        workers = min(workers or os.cpu_count(), os.cpu_count(), len(tasks))
        with _embedding_processes(workers) as results_of, \
                contextlib.closing(results_of(tasks)) as results, \
                tqdm(total=sum(map(len, missing.values())), unit=" faces", desc="embedding",
                     disable=None) as bar:
            for indices, values in zip(missing.values(), results):
                for index, value in zip(indices, values):
                    found[index] = value
                    cache.put(faces[index].sha256, faces[index].box, value)
                bar.update(len(indices))
    finally:
        cache.close()
    return found


def embed_photograph(embedder, path, sha256, boxes, turned=0):
    """The embeddings of some faces of a photograph, float32 [n, 128].

    Args:
        embedder: a FaceEmbedder, or what stands for one.
        path, sha256: of the photograph, and of its file when the faces were found.
        boxes: of the faces.
        turned: of the faces, see faces.detection.Face.
    """
    with photographs.quiet_pillow():
        photograph = photographs.open_photograph(path)
    if photograph.sha256 != sha256:
        raise UserError("%s has changed since its faces were found; prepare again" % path)
    return embedder.embed(np.asarray(photograph.turned_image(turned)),
                          [photograph.turned_box(box, turned) for box in boxes])


@contextlib.contextmanager
def _embedding_processes(count):
    """Processes that embed, for a while: gives a function of tasks to a generator of results.

    They end with this process, however it ends: a pipe that closes ends them.
    """
    context = multiprocessing.get_context("spawn")  # forked ones would share locks of threads
    processes, free = [], queue.Queue()
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs,), daemon=True))
            processes[-1].start()
            theirs.close()
            free.put(ours)

        def ask(task):
            connection = free.get()
            try:
                connection.send(task)
                result = connection.recv()
            except (EOFError, OSError):
                raise Failed("a process that computes embeddings ended; was memory short? Start "
                             "again with fewer --workers: what is done is kept")
            finally:
                free.put(connection)
            if isinstance(result, str):
                raise UserError(result)
            return result

        with ThreadPoolExecutor(max(count, 1)) as pool:
            yield lambda tasks: _in_order(pool, ask, tasks)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _in_order(pool, ask, tasks):
    """Results of tasks in order; after an interruption, those that are not begun never are."""
    results = pool.map(ask, tasks)
    try:
        yield from results
    finally:
        results.close()


def _serve(connection):
    """What a process does: answers tasks with embeddings, or a text that says what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    embedder = None
    try:
        while True:
            task = connection.recv()
            try:
                embedder = embedder or FaceEmbedder()
                answer = embed_photograph(embedder, *task)
            except UserError as error:
                answer = str(error)
            connection.send(answer)
    except (EOFError, OSError):
        pass  # the other end is gone
