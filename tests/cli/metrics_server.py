"""A /metrics that says what a test wants, and a gateway's list of campaigns beside it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def metrics_server(
    text: Callable[[], str], campaigns: Callable[[], str] | None = None
) -> Iterator[str]:
    """Its address, until the block ends; `text` is called for every request but those for
    /v1/campaigns, where `campaigns` is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            public = campaigns is not None and self.path == "/v1/campaigns"
            body = (campaigns() if campaigns and public else text()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
