"""A receiver of OpenTelemetry's protocol (OTLP over HTTP) in this process, which decodes what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.helpers.gate import GUARD


class OtlpReceiver:
    """Listens on the loopback interface.

    Args:
        answers: Whether it answers; otherwise it accepts requests and says nothing until it is closed.

    Attributes:
        endpoint: Its address.
        spans: The spans received, in order.
        resources: The attributes of the resource of each request for spans.
        metrics: The last value received of each metric, by its name.
    """

    def __init__(self, *, answers: bool = True) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.requests: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._is_closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver._take(self.path, body)
                if not answers:
                    receiver._is_closing.wait(GUARD)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass  # the sender has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="otlp-receiver")

    def __enter__(self) -> OtlpReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, n: int) -> list[Any]:
        """Wait until so many spans have come; return all of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.spans) >= n, GUARD), f"only {len(self.spans)} of {n} came"
            return list(self.spans)

    def wait_for_request(self, path: str) -> None:
        """Wait until there was a request for this path."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests[path], GUARD), f"no request for {path} came"

    def _take(self, path: str, body: bytes) -> None:
        with self._changed:
            if path == "/v1/traces":
                for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append(values(part.resource.attributes))
                    for scope in part.scope_spans:
                        self.spans += scope.spans
            elif path == "/v1/metrics":
                for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in metrics.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
            self.requests[path] += 1
            self._changed.notify_all()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {one.key: _value(one.value) for one in attributes}


def _value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return tuple(map(_value, any_value.array_value.values))
    return getattr(any_value, kind)
