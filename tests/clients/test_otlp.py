"""OpenTelemetry's own SDK and exporters: all three signals over gRPC and HTTP."""

import logging
import unittest

try:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:
    raise unittest.SkipTest(f"OpenTelemetry is missing: {error}")

from harness import WithServer, eventually


class Otlp(WithServer):
    def exporters(self, way):
        """Of logs, spans and metrics."""
        transport, compression = way.split("-")
        if transport == "grpc":
            endpoint = f"127.0.0.1:{self.server.ports['otlp-grpc-listen']}"
            named = {"gzip": grpc.Compression.Gzip, "plain": grpc.Compression.NoCompression}
            settings = {"endpoint": endpoint, "insecure": True, "compression": named[compression]}
            return GrpcLogs(**settings), GrpcSpans(**settings), GrpcMetrics(**settings)
        base = f"http://127.0.0.1:{self.server.ports['otlp-http-listen']}/v1/"
        named = {"gzip": Compression.Gzip, "plain": Compression.NoCompression}
        kinds = [(HttpLogs, "logs"), (HttpSpans, "traces"), (HttpMetrics, "metrics")]
        return [kind(endpoint=base + path, compression=named[compression]) for kind, path in kinds]

    def round_trip(self, way):
        service = f"shop-{way}"
        resource = Resource.create({"service.name": service, "service.instance.id": "one"})
        log_exporter, span_exporter, metric_exporter = self.exporters(way)

        spans = TracerProvider(resource=resource)
        spans.add_span_processor(BatchSpanProcessor(span_exporter))
        tracer = spans.get_tracer("clients", "1.0")
        logs = LoggerProvider(resource=resource)
        logs.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
        logger = logging.getLogger(service)
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(LoggingHandler(logger_provider=logs))
        with tracer.start_as_current_span("checkout", kind=SpanKind.SERVER) as root:
            root.set_attribute("http.response.status_code", 503)
            root.add_event("retry", {"attempt": 2})
            logger.warning("payment of %s refused", "7 EUR", extra={"order.id": 4711})
            with tracer.start_as_current_span("charge") as child:
                child.set_status(StatusCode.ERROR, "card expired")
                logger.error("card expired")
        spans.shutdown()
        logs.shutdown()

        reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=3_600_000)
        metrics = MeterProvider(resource=resource, metric_readers=[reader])
        meter = metrics.get_meter("clients", "1.0")
        meter.create_counter("orders", unit="1").add(3, {"kind": "web"})
        meter.create_up_down_counter("carts").add(5)
        for seconds in (0.1, 0.2, 0.9):
            meter.create_histogram("wait", unit="s").record(seconds)
        metrics.shutdown()

        trace_id = format(root.get_span_context().trace_id, "032x")
        found = eventually(lambda: [
            line for line in self.server.lines(f'{{service_name="{service}"}}')
        ][1:] and self.server.lines(f'{{service_name="{service}"}}'))
        self.assertEqual([line[2] for line in found], ["payment of 7 EUR refused", "card expired"])
        by_trace = self.server.lines(f'{{service_name="{service}"}} | trace_id = "{trace_id}"')
        self.assertEqual(len(by_trace), 2)
        by_order = self.server.lines(f'{{service_name="{service}"}} | order_id = 4711')
        self.assertEqual([line[2] for line in by_order], ["payment of 7 EUR refused"])

        orders = eventually(lambda: self.server.promql(f'orders_total{{job="{service}"}}'))
        self.assertEqual(orders[0][1], 3)
        self.assertEqual(orders[0][0]["kind"], "web")
        self.assertEqual(self.server.promql(f'carts{{job="{service}"}}')[0][1], 5)
        waits = self.server.promql(f'wait_seconds_count{{job="{service}"}}')
        waits = waits or self.server.promql(f'histogram_count(wait_seconds{{job="{service}"}})')
        self.assertEqual(waits[0][1], 3)

        spans_found = eventually(lambda: self.server.trace(trace_id))
        by_name = {span["operationName"]: span for span in spans_found}
        self.assertEqual(set(by_name), {"checkout", "charge"})
        tags = {tag["key"]: tag["value"] for tag in by_name["checkout"]["tags"]}
        self.assertEqual(tags["http.response.status_code"], 503)
        self.assertEqual(len(by_name["checkout"]["logs"]), 1)
        tags = {tag["key"]: tag["value"] for tag in by_name["charge"]["tags"]}
        self.assertEqual(tags["error"], True)
        references = by_name["charge"]["references"]
        self.assertEqual(references[0]["spanID"], by_name["checkout"]["spanID"])

    def test_grpc(self):
        self.round_trip("grpc-plain")

    def test_grpc_gzip(self):
        self.round_trip("grpc-gzip")

    def test_http(self):
        self.round_trip("http-plain")

    def test_http_gzip(self):
        self.round_trip("http-gzip")


if __name__ == "__main__":
    unittest.main()
