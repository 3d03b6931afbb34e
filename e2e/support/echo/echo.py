# An application in Python: tells in `X-Seen` how a program in this language reads the request, in several usual ways.
import base64
import json
import posixpath
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def echo(self):
        raw = self.path
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = raw.partition("?")[0]
        try:
            url = urlsplit(raw).path
        except ValueError:
            url = raw
        readings = {
            "urlsplit": url,
            "wsgi": unquote(path, "iso-8859-1"),  # PATH_INFO, as wsgiref and gunicorn make it
            "unquote": unquote(url),
            "normpath": posixpath.normpath(unquote(path)),
            "params": unquote(path.partition(";")[0]),  # RFC 2396's parameters cut off, as urlparse does
            "twice": posixpath.normpath(unquote(unquote(path))),
        }
        # As WSGI has them: dashes and underscores are one.
        environ = {}
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key] = environ[key] + "," + value if key in environ else value
        # Headers that take a part of the path away: gunicorn's, the one of Flask's usual middleware, Daphne's.
        for name in ("SCRIPT_NAME", "X_SCRIPT_NAME", "DAPHNE_ROOT_PATH", "X_FORWARDED_PREFIX"):
            prefix = environ.get(name, "").rstrip("/")
            if prefix and path.startswith(prefix):
                readings[name.lower()] = unquote(path[len(prefix):]) or "/"
        method = self.command
        if method == "POST":  # as werkzeug's recipe and Django's middlewares do
            method = environ.get("X_HTTP_METHOD_OVERRIDE", method)
        seen = {
            "method": method, "raw": raw, "readings": readings,
            "organization": environ.get("DOORWARD_ORGANIZATION", ""), "role": environ.get("DOORWARD_ROLE", ""),
            "user": environ.get("REMOTE_USER", ""), "cookie": environ.get("COOKIE", ""), "upgrade": environ.get("UPGRADE", ""),
            "all": str(self.headers), "hosts": [environ.get("HOST", ""), environ.get("X_FORWARDED_HOST", "")],
        }
        self.send_response(200)
        self.send_header("X-Seen", base64.b64encode(json.dumps(seen).encode()).decode())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.echo
        raise AttributeError(name)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


server = Server(("127.0.0.1", 0), Echo)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
