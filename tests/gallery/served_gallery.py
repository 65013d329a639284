"""A gallery served by a thread of the tests' process, and an encoder that needs no weights."""

import http.client
import json
import threading

import numpy as np
from tiny_gallery import metadata

from gallery import server as web_server
from gallery.answers import Judge
from gallery.gallery import Gallery
from gallery.searcher import Searcher


class PixelEncoder:
    """Stands for an exported encoder: a bit is whether a pixel is bright. Whole images are faces.
    """

    metadata = metadata(dataset="tiny")

    def encode(self, images):
        assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
        return np.where(images.reshape(len(images), -1)[:, :48 * 64:64] > 127, 1, -1)

    def warm_up(self):
        pass

    def close(self):
        pass


class Client:
    """Asks a server that runs in a thread of this process."""

    def __init__(self, gallery, token=None):
        self.searcher = Searcher(gallery, Gallery.index, Judge)
        access = web_server.Access(token)
        self._server = web_server.make_server(
            web_server.create_app(self.searcher, access), "127.0.0.1", 0)
        self.port = web_server.port_of(self._server)
        access.allow("127.0.0.1", self.port)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def close(self):
        self._server.trigger.pull_trigger(self._server._map.clear)  # which ends its loop
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._server.task_dispatcher.shutdown()
        self._server.close()

    def ask(self, path, method="GET", body=None, **headers):
        """(status, headers, value): the value is read as JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.getheader("Content-Type") == "application/json":
            data = json.loads(data.decode())
        return answer.status, answer.headers, data

    def upload(self, data):
        return self.ask("/api/query", "POST", data, **{"Content-Type": web_server.UPLOAD_TYPE})
