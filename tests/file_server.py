"""A web server on the loopback interface that serves a folder, and misbehaves where told to."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Served:
    """A running server.

    Parameters
    ----------
    url
        Of the folder.
    requests
        Path, Range and bytes sent of every request, in order.
    ranges
        Whether parts of files are sent.
    answer
        Called with a path before anything else: a status in place of the file, 0 for an answer
        without an end, or None.
    closed
        Whether it has gone.
    """

    url: str = ""
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)
    ranges: bool = True
    answer: Callable[[str], int | None] = lambda path: None
    closed: bool = False


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Served]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if served.closed:  # over a connection that was kept
                self.close_connection = True
                return
            status = served.answer(self.path)
            file = folder / unquote(self.path.split("?")[0]).lstrip("/")
            if status == 0:  # an answer without an end
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b"{" * (1 << 20))
            if status is None and not file.is_file():
                status = 404
            if status is not None:
                code = b"AccessDenied" if status == 403 else b"NoSuchKey"
                self.reply(status, b"<Error><Code>" + code + b"</Code></Error>")
                return
            data, asked = file.read_bytes(), self.headers.get("Range")
            if asked is None or not served.ranges:
                self.reply(200, data)
                return
            start, stop = re.fullmatch(r"bytes=(\d*)-(\d*)", asked).groups()
            if start == "":
                part = data[-int(stop) :]
            else:
                part = data[int(start) : int(stop) + 1 if stop else None]
            self.reply(206, part)

        def reply(self, status: int, data: bytes) -> None:
            served.requests.append((self.path, self.headers.get("Range"), len(data)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            with contextlib.suppress(OSError):  # the reader has gone
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of readers that go away."""

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        served.closed = True
        server.shutdown()
        server.server_close()
        thread.join()
