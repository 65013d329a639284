"""Search on a Milvus server or cluster, through pymilvus: galleries beyond one machine.

The gallery's folder stays what it is and holds names, photographs and thumbnails. The server holds
a copy of the codes: a collection for each state of the gallery, which queries compare against. Its
name and description say of which gallery, state, encoder, bits and crop it is.

BIN_FLAT compares every code and is exact; BIN_IVF_FLAT, from a few million codes on, a part.
Token and certificate are handed to the client and are neither printed nor stored.
"""

import hashlib
import json
import logging
import re
import socket
from urllib.parse import urlsplit

import numpy as np

from evaluation import packing
from gallery.engines import (
    GOOD_RECALL,
    IVF_ITEMS,
    Index,
    Neighbours,
    measured_recall,
    num_lists_for,
)
from runtime.errors import Failed, UserError, one_line

DEFAULT_PORT = 19530
CONNECT_TIMEOUT = 10  # seconds
TIMEOUT = 30  # seconds for one request
BUILD_TIMEOUT = 3600  # seconds until all codes are indexed and loaded
INSERTED = 100000  # codes sent at once
SEARCHED = 1000  # queries sent at once
MOST_TOP = 16384  # the server's own limit


class Server:
    """A connection to a Milvus server.

    Args:
        uri: "HOST:PORT", "http://HOST:PORT" or "https://HOST:PORT".
        token: text, or None.
        ca: path of the certificate of the server's authority, or None.

    Raises:
        UserError: no such server, or it refuses.
    """

    def __init__(self, uri, token=None, ca=None):
        self._pymilvus = _import_pymilvus()
        secure, self._address = _parse_uri(uri)
        self._alias = "dcbh"
        host, port = self._address.rsplit(":", 1)
        try:  # the client itself would try for half a minute
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
        except OSError as error:
            raise Failed("no server answers at %s (%s)" % (self._address, error))
        options = {"host": host.strip("[]"), "port": port, "timeout": TIMEOUT}
        if token:
            options["token"] = token
        if secure:
            options["secure"] = True
        if ca:
            options["server_pem_path"] = ca
        with _refusals("the server at %s cannot be reached" % self._address):
            self._pymilvus.connections.connect(self._alias, **options)
            self._pymilvus.utility.get_server_version(using=self._alias, timeout=TIMEOUT)

    def close(self):
        """Ends the connection."""
        self._pymilvus.connections.disconnect(self._alias)

    def upload(self, gallery):
        """Copies a gallery's codes to the server, unless it has them; then drops older copies.

        Args:
            gallery: gallery.store.Gallery.

        Returns:
            A MilvusIndex.
        """
        name, start = collection_name(gallery), _name_start(gallery)
        if not len(gallery):
            raise UserError("%s is empty; there is nothing to upload" % gallery.path)
        with _refusals("uploading to %s" % self._address):
            if not self._is_complete(name, gallery):
                self._build(name, gallery)
            for other in self._pymilvus.utility.list_collections(timeout=TIMEOUT,
                                                                 using=self._alias):
                if other.startswith(start) and other != name:
                    self._pymilvus.utility.drop_collection(other, timeout=TIMEOUT,
                                                           using=self._alias)
        return self.open_index(gallery)

    def open_index(self, gallery):
        """A MilvusIndex of a gallery that was uploaded.

        Raises:
            UserError: the server holds no copy of the gallery as it is now.
        """
        name = collection_name(gallery)
        with _refusals("the server at %s" % self._address):
            if not self._is_complete(name, gallery):
                raise UserError(
                    "the server at %s does not hold %s as it is now; run: python search.py add %s "
                    "--engine milvus --uri %s" % (self._address, gallery.path, gallery.path,
                                                  self._address))
            collection = self._collection(name)
            collection.load(timeout=BUILD_TIMEOUT)
            return MilvusIndex(gallery.codes, gallery.num_bits, collection,
                               self._address)

    def drop(self, gallery):
        """Removes all copies of a gallery from the server."""
        with _refusals("the server at %s" % self._address):
            for name in self._pymilvus.utility.list_collections(timeout=TIMEOUT,
                                                                using=self._alias):
                if name.startswith(_name_start(gallery)):
                    self._pymilvus.utility.drop_collection(name, timeout=TIMEOUT,
                                                           using=self._alias)

    def _collection(self, name):
        return self._pymilvus.Collection(name, using=self._alias)

    def _is_complete(self, name, gallery):
        """Whether the server holds all of the gallery's codes, by number and kind."""
        if not self._pymilvus.utility.has_collection(name, timeout=TIMEOUT, using=self._alias):
            return False
        collection = self._collection(name)
        return (collection.description == description(gallery)
                and collection.has_index(timeout=TIMEOUT)
                and collection.num_entities == len(gallery))

    def _build(self, name, gallery):
        """Makes a collection; only once it has its index does it count as complete."""
        milvus = self._pymilvus
        if milvus.utility.has_collection(name, timeout=TIMEOUT, using=self._alias):
            milvus.utility.drop_collection(name, timeout=TIMEOUT, using=self._alias)
        schema = milvus.CollectionSchema([
            milvus.FieldSchema("row", milvus.DataType.INT64, is_primary=True, auto_id=False),
            milvus.FieldSchema("code", milvus.DataType.BINARY_VECTOR, dim=packing.MAX_BITS)],
            description=description(gallery))
        collection = milvus.Collection(name, schema, using=self._alias, timeout=TIMEOUT)
        codes = gallery.codes
        for start in range(0, len(codes), INSERTED):
            part = packing.as_bytes(codes[start:start + INSERTED])
            collection.insert([list(range(start, start + len(part))),
                               [code.tobytes() for code in part]], timeout=BUILD_TIMEOUT)
        collection.flush(timeout=BUILD_TIMEOUT)
        collection.create_index("code", index_parameters(len(codes)), timeout=BUILD_TIMEOUT)


class MilvusIndex(Index):
    """The codes of a gallery on a server.

    Args:
        codes, num_bits: see Index; the codes are the gallery's own, for radius and ties.
        collection: a loaded pymilvus.Collection.
        address: of the server, for messages.
    """

    name = "milvus"

    def __init__(self, codes, num_bits, collection, address):
        super().__init__(codes, num_bits)
        self._collection = collection
        self._address = address
        self.exact = len(codes) < IVF_ITEMS
        self._parameters = {"metric_type": "HAMMING"}
        if not self.exact:
            self._choose_probes(num_lists_for(len(codes)))

    def _choose_probes(self, num_lists):
        """Doubles the number of lists that are searched until the recall on a sample is good."""
        probes = max(1, num_lists // 64)
        self._parameters["params"] = {"nprobe": probes}
        while self.recall < GOOD_RECALL and probes < num_lists:
            probes = min(2 * probes, num_lists)
            self._parameters["params"] = {"nprobe": probes}

    def _search(self, queries, top):
        if top > MOST_TOP:
            raise UserError("the server gives at most %d neighbours" % MOST_TOP)
        distances = np.empty((len(queries), top), np.int32)
        rows = np.empty((len(queries), top), np.int64)
        for start in range(0, len(queries), SEARCHED):
            part = [code.tobytes() for code in packing.as_bytes(queries[start:start + SEARCHED])]
            with _refusals("searching at %s" % self._address):
                # A complete collection never changes: there is no later state to wait for.
                found = self._collection.search(part, "code", self._parameters, top,
                                                timeout=TIMEOUT, consistency_level="Eventually")
            for place, hits in enumerate(found, start):
                if len(hits) < top:  # fewer codes in the lists that were searched
                    self._fill(queries, place, distances, rows, top)
                    continue
                distances[place] = np.rint(hits.distances)
                rows[place] = hits.ids
        order = np.lexsort((rows, distances), axis=1)
        return Neighbours(np.take_along_axis(distances, order, axis=1),
                          np.take_along_axis(rows, order, axis=1))

    def _fill(self, queries, place, distances, rows, top):
        all_distances, all_rows = self.within(queries[place], self.num_bits)
        distances[place], rows[place] = all_distances[:top], all_rows[:top]

    @property
    def recall(self):
        """Recall against exact search; see gallery.engines.measured_recall."""
        return measured_recall(self)


def collection_name(gallery):
    """Name of the collection that holds a gallery as it is now."""
    return f"{_name_start(gallery)}{gallery.info['change']}"


def description(gallery):
    """What a collection is of: one of another encoder, other bits or another crop is no copy."""
    info = gallery.info
    crop = hashlib.sha256(json.dumps(info["crop"], sort_keys=True).encode()).hexdigest()[:16]
    codes = hashlib.sha256(packing.as_bytes(gallery.codes)).hexdigest()[:16]
    return (f"dcbh gallery {gallery.version}, codes {codes}, encoder {info['encoder_id']}, "
            f"{info['num_bits']} bits, crop {crop}")


def index_parameters(num_items):
    """How the server indexes so many codes."""
    if num_items < IVF_ITEMS:
        return {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}
    return {"index_type": "BIN_IVF_FLAT", "metric_type": "HAMMING",
            "params": {"nlist": num_lists_for(num_items)}}


def _name_start(gallery):
    return f"dcbh_{gallery.info['id']}_"


def _parse_uri(uri):
    """(secure, "HOST:PORT"). Raises UserError for what is no address."""
    if not uri:
        raise UserError("--engine milvus needs --uri HOST:PORT")
    parts = urlsplit(uri if "://" in uri else "http://" + uri)
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = 0
    if "@" in parts.netloc:
        raise UserError("--uri must not hold a password: set the variable MILVUS_TOKEN instead")
    if (parts.scheme not in ("http", "https") or not parts.hostname or not port
            or parts.path not in ("", "/") or parts.query):
        raise UserError("--uri is %.80r; it must be HOST:PORT, or https://HOST:PORT" % uri)
    host = "[%s]" % parts.hostname if ":" in parts.hostname else parts.hostname
    return parts.scheme == "https", "%s:%d" % (host, port)


class _refusals:  # noqa: N801  a context, named as it reads
    """Turns the client's errors into one line that holds no token."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is None or isinstance(error, UserError) or not issubclass(kind, Exception):
            return False
        text = re.sub(r"(?i)(token|authorization|password)\S*\s*[:=]\s*\S+", r"\1", str(error))
        raise Failed("%s: %s" % (self._what, one_line(text, 200))) from None


def _import_pymilvus():
    try:
        import pymilvus
    except ImportError as error:
        raise UserError("the engine milvus needs the package pymilvus (%s); run: pip install -r "
                        "requirements-milvus.txt" % error)
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are ours to report
    return pymilvus
