"""A reverse proxy on loopback, as nginx is: the paths under a prefix are another server's."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def proxied(port: int, prefix: str, keeps_prefix: bool) -> Iterator[str]:
    """The address at which the server of that port is found under the prefix, which the proxy hands on
    (`keeps_prefix`) or takes away; anything else is not found."""

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                return self.send_error(404)
            path = self.path if keeps_prefix else self.path.removeprefix(prefix)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_A_CONNECTION}
            asked = Request(
                f"http://127.0.0.1:{port}{path}", data=body or None, headers=headers, method=self.command
            )
            try:
                answer = urlopen(asked)
            except HTTPError as refusal:
                answer = refusal
            with answer:
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in OF_A_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            return None

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815, named by http.server

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
        server.shutdown()
