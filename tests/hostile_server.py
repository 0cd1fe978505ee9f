"""An HTTP server that does what servers on the web do wrong: it cuts, stalls, redirects, lies and knows no ranges."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves its content at any path, or of `files` what has the path's last part; what it does wrong is set by attributes."""

    def __init__(self, content: bytes = b""):
        self.content, self.cut, self.ranges, self.wait, self.redirect = content, 0, True, 0.0, ""
        self.files: dict[str, bytes] = {}
        self.kind = "application/octet-stream"
        self.statuses, self.tag, self.asked = [], '"one"', []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range", "")))
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"

    def answer(self, handler):
        if self.redirect and handler.path == "/file":
            handler.send_response(302)
            handler.send_header("Location", self.redirect)
            handler.end_headers()
            return
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        content = self.files.get(handler.path.rpartition("/")[2], self.content)
        asked = handler.headers.get("Range", "")
        same = handler.headers.get("If-Range") in (None, self.tag)
        first = int(asked[6:-1]) if asked and self.ranges and same else 0
        if first and first >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(content) - first))
        handler.end_headers()
        sent = content[first:][: self.cut or None]
        half = len(sent) // 2
        handler.wfile.write(sent[:half])
        handler.wfile.flush()
        time.sleep(self.wait)
        handler.wfile.write(sent[half:])


@contextmanager
def serving(content: bytes = b""):
    server = Server(content)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
