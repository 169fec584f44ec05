"""A web server on this machine that serves files well or, told so, badly: one fault a request, in the given order."""

import contextlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultServer:
    """``files``: name -> bytes. ``faults``: consumed one a request; when none is left, requests are answered well.

    A fault is a status number, ``("status", headers)`` as ``(429, {"Retry-After": "0"})``, or a word with a number:
    ``("drop", n)`` resets the connection after n bytes of the body, ``("truncate", n)`` closes it politely,
    ``("wrong", n)`` alters byte n, ``("whole",)`` ignores the Range header, ``("stall", n)`` falls silent after n.
    """

    def __init__(self, files):
        self.files, self.faults, self.requests = dict(files), [], []
        self.etag = '"v1"'
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, name):
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def answer(self, request):
        self.requests.append(request.headers.get("Range"))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            fault = (fault, {})
        if fault and isinstance(fault[0], int):
            request.send_response(fault[0])
            for key, value in {"Content-Length": "0", **fault[1]}.items():
                request.send_header(key, value)
            request.end_headers()
            return
        content = self.files.get(request.path.lstrip("/").partition("?")[0])
        if content is None:
            return request.send_error(404)
        start = 0
        asked = request.headers.get("Range")
        if asked and fault != ("whole",) and request.headers.get("If-Range") in (None, self.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if self.etag:
            request.send_header("ETag", self.etag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        kind, amount = fault if fault and len(fault) == 2 else (None, len(body))
        if kind == "wrong":
            body, amount = body[:amount] + bytes([body[amount] ^ 255]) + body[amount + 1 :], len(body)
        with contextlib.suppress(ConnectionError):
            request.wfile.write(body[:amount])
            request.wfile.flush()
        if kind == "stall":
            self._over.wait(10)
        if kind:
            request.close_connection = True
        if kind == "drop":
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
