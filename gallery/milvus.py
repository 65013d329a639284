"""Search on a Milvus server or cluster, by pymilvus' MilvusClient: galleries beyond one machine.

The gallery's folder stays what it is and holds names, photographs and thumbnails. The server holds
a copy of the codes, one collection a state of them: its name and description hold a hash of the
codes, so that a collection of other codes never passes for a copy.

BIN_FLAT compares every code and is exact; BIN_IVF_FLAT, from a few million codes on, compares a
part. Token and certificate are handed to the client and are neither printed nor stored.
"""

import contextlib
import hashlib
import logging
import re
from urllib.parse import urlsplit

import numpy as np

from evaluation import packing
from gallery.engines import (
    GOOD_RECALL,
    IVF_ITEMS,
    Index,
    measured_recall,
    num_lists_for,
)
from runtime.errors import Failed, UserError, one_line
from runtime.files import open_regular

CONNECT_SECONDS = 10
SECONDS = 30  # for one request
BUILD_SECONDS = 3600  # until all codes are indexed and loaded
INSERTED = 20000  # codes sent at once
SEARCHED = 1000  # queries sent at once
MOST_TOP = 16384  # the server's own limit


class Server:
    """A connection to a Milvus server.

    Args:
        uri: "HOST:PORT", "http://HOST:PORT" or "https://HOST:PORT".
        token: text, or None.
        ca: path of the certificate of the server's authority, or None.

    Raises:
        UserError: `uri` is not an address, or pymilvus is not installed.
        Failed: no server answers there, or it refuses.
    """

    def __init__(self, uri, token=None, ca=None):
        self._uri = check_uri(uri)
        if ca:
            open_regular(ca).close()  # gRPC would wait for a pipe
        self._pymilvus = _import_pymilvus()
        # Python 3.7's pymilvus takes no certificate without the name that it is of.
        options = dict(server_pem_path=ca, server_name=urlsplit(self._uri).hostname) if ca else {}
        with _refusals(f"the server at {self._uri} cannot be reached"):
            self._client = self._pymilvus.MilvusClient(
                uri=self._uri, token=token or "", timeout=CONNECT_SECONDS, **options)
            # The client may reuse an earlier connection, which says nothing of the server today.
            self._client.list_collections(timeout=CONNECT_SECONDS)

    def close(self):
        """Ends the connection."""
        self._client.close()

    def upload(self, gallery):
        """Copies a gallery's codes to the server, unless it has them; then drops older copies.

        Returns a MilvusIndex.
        """
        name = collection_name(gallery)
        if not len(gallery):
            raise UserError(f"{gallery.path} is empty; there is nothing to upload")
        with _refusals(f"uploading to {self._uri}"):
            if not self._is_complete(name, gallery):
                self._build(name, gallery.codes)
            for other in self._client.list_collections(timeout=SECONDS):
                if other.startswith(_name_start(gallery)) and other != name:
                    self._client.drop_collection(other)
        return self.open_index(gallery)

    def open_index(self, gallery):
        """A MilvusIndex of a gallery that was uploaded.

        Raises:
            UserError: the server holds no copy of the gallery as it is now.
        """
        name = collection_name(gallery)
        with _refusals(f"the server at {self._uri}"):
            if not self._is_complete(name, gallery):
                raise UserError(
                    f"the server at {self._uri} does not hold the current codes of {gallery.path}; "
                    f"run: python search.py add {gallery.path} --engine milvus --uri {self._uri}")
            # What was released is loaded again. Python 3.7's pymilvus has no public name for it.
            load = getattr(self._client, "load_collection", None) or self._client._load
            load(name, timeout=BUILD_SECONDS)
            return MilvusIndex(gallery.codes, gallery.num_bits, self._client, name, self._uri)

    def _is_complete(self, name, gallery):
        """Whether the server holds all of a gallery's codes."""
        if name not in self._client.list_collections(timeout=SECONDS):
            return False
        if self._client.describe_collection(name)["description"] != _digest(gallery.codes):
            return False
        if hasattr(self._client, "num_entities"):  # Python 3.7's pymilvus
            return self._client.num_entities(name) == len(gallery)
        return int(self._client.get_collection_stats(name)["row_count"]) == len(gallery)

    def _build(self, name, codes):
        """Makes a collection in place of an incomplete one; it is complete with its last code."""
        client, types = self._client, self._pymilvus.DataType
        if name in client.list_collections(timeout=SECONDS):
            client.drop_collection(name)
        schema = client.create_schema(auto_id=False, description=_digest(codes))
        schema.add_field("row", types.INT64, is_primary=True)
        schema.add_field("code", types.BINARY_VECTOR, dim=packing.MAX_BITS)
        index = dict(field_name="code", metric_type="HAMMING", index_type="BIN_FLAT", params={})
        if len(codes) >= IVF_ITEMS:
            index.update(index_type="BIN_IVF_FLAT", params={"nlist": num_lists_for(len(codes))})
        if hasattr(client, "create_collection_with_schema"):  # Python 3.7's pymilvus
            client.create_collection_with_schema(name, schema, index, timeout=SECONDS)
        else:
            indexes = client.prepare_index_params()
            indexes.add_index(**index)
            client.create_collection(name, schema=schema, index_params=indexes, timeout=SECONDS)
        for start in range(0, len(codes), INSERTED):
            part = packing.as_bytes(codes[start:start + INSERTED])
            client.insert(name, [{"row": row, "code": code.tobytes()}
                                 for row, code in enumerate(part, start)], timeout=BUILD_SECONDS)
        client.flush(name, timeout=BUILD_SECONDS)


class MilvusIndex(Index):
    """The codes of a gallery on a server.

    Args:
        codes, num_bits: see Index; the codes are the gallery's own, for radius and ties.
        client: pymilvus.MilvusClient.
        name: of a loaded collection.
        uri: of the server, for messages.
    """

    name = "milvus"

    def __init__(self, codes, num_bits, client, name, uri):
        super().__init__(codes, num_bits)
        self._client, self._collection, self._uri = client, name, uri
        self.exact = len(codes) < IVF_ITEMS
        self._parameters = {"metric_type": "HAMMING", "params": {}}
        if not self.exact:  # as many lists are searched as bring the recall on a sample
            most = num_lists_for(len(codes))
            probes, self.recall = max(1, most // 128), 0
            while self.recall < GOOD_RECALL and probes < most:
                probes = self._parameters["params"]["nprobe"] = min(2 * probes, most)
                self.recall = measured_recall(self)

    def candidates(self, code, activations, count):  # noqa: ARG002  the server compares codes
        """See Index; as many as the server gives at most."""
        return np.sort(self.search(np.array([code], np.uint64), min(count, MOST_TOP)).rows[0])

    def _search(self, queries, top):
        if top > MOST_TOP:
            raise UserError(f"the server gives at most {MOST_TOP} neighbours")
        distances = np.empty((len(queries), top), np.int32)
        rows, short = np.empty((len(queries), top), np.int64), []
        for start in range(0, len(queries), SEARCHED):
            part = [code.tobytes() for code in packing.as_bytes(queries[start:start + SEARCHED])]
            with _refusals(f"searching at {self._uri}"):
                # A complete collection never changes: there is no later state to wait for.
                found = self._client.search(
                    self._collection, part, limit=top, search_params=self._parameters,
                    timeout=SECONDS, consistency_level="Eventually")
            for place, hits in enumerate(found, start):
                if len(hits) < top:  # fewer codes in the lists that were searched
                    short.append(place)
                else:
                    distances[place] = [round(hit["distance"]) for hit in hits]
                    rows[place] = [hit["id"] for hit in hits]
        return self._completed(queries, distances, rows, short)


def collection_name(gallery):
    """Name of the collection that holds a gallery's codes as they are now."""
    return _name_start(gallery) + _digest(gallery.codes)[:16]


def check_uri(uri):
    """The address of a server as the client takes it. Raises UserError for what is none."""
    if not uri:
        raise UserError("--engine milvus needs --uri HOST:PORT")
    parts = urlsplit(uri if "://" in uri else "http://" + uri)
    if "@" in parts.netloc:
        raise UserError("--uri must not hold a password: set the variable MILVUS_TOKEN instead")
    try:
        port = parts.port or 19530
    except ValueError:
        port = 0
    if (parts.scheme not in ("http", "https") or not parts.hostname or not port
            or parts.path not in ("", "/") or parts.query):
        raise UserError(f"--uri is {uri[:80]!r}; it must be HOST:PORT, or https://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _name_start(gallery):
    return f"dcbh_{gallery.info['id']}_"


def _digest(codes):
    return hashlib.sha256(np.ascontiguousarray(codes)).hexdigest()


@contextlib.contextmanager
def _refusals(what):
    """Turns the client's errors into one line that holds no token."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the client's own, gRPC's, and the system's
        text = re.sub(r"(?i)(token|authorization|password)\S*\s*[:=]\s*\S+", r"\1", str(error))
        raise Failed(f"{what}: {one_line(text, 200)}") from None


def _import_pymilvus():
    try:
        import pymilvus
    except ImportError as error:
        raise UserError(f"the engine milvus needs the package pymilvus ({error}); run: pip install "
                        "-r requirements-milvus.txt")
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are ours to report
    return pymilvus
