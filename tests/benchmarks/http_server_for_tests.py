"""A server of "embeddings" for tests, in the shape of the FastAPI contenders.

A text's vector holds its length and the code of its first character. Arguments: the port, and how
it behaves: "right", "wrong", "full" (every second request is refused), "breaks" (wrong JSON is a
500), "drops" (it closes connections at SIGTERM) or "dies".
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, behaviour = int(sys.argv[1]), sys.argv[2]
requests = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200, b"")

    def do_POST(self):
        global requests
        requests += 1
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            texts = json.loads(body)["inputs"]
            vectors = [[float(len(text)), float(ord(text[0]))] for text in texts]
        except (ValueError, TypeError, KeyError, IndexError):
            self.answer(500 if behaviour == "breaks" else 400, b"{}")
            return
        if behaviour == "full" and requests % 2 == 0:
            self.answer(429, b"{}")
            return
        if behaviour == "wrong":
            vectors = [vector[::-1] for vector in vectors]
        self.answer(200, json.dumps(vectors).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def stop(*_):
    if behaviour == "drops":
        os._exit(1)
    threading.Thread(target=server.shutdown).start()


if behaviour == "dies":
    sys.exit(3)
server = Server(("127.0.0.1", port), Handler)
signal.signal(signal.SIGTERM, stop)
server.serve_forever()
