"""py_zipkin: spans of client and server, as JSON over HTTP."""

import unittest

try:
    import requests
    from py_zipkin import Encoding, Kind
    from py_zipkin.zipkin import zipkin_client_span, zipkin_span
except ImportError as error:
    raise unittest.SkipTest(f"py_zipkin is missing: {error}")

from harness import WithServer, eventually


class Zipkin(WithServer):
    def test_spans(self):
        def transport(encoded):
            answer = requests.post(
                self.server.url + "/api/v2/spans", data=encoded,
                headers={"Content-Type": "application/json"}, timeout=20,
            )
            self.assertEqual(answer.status_code, 202, answer.text)

        with zipkin_span(
            service_name="shop", span_name="checkout", transport_handler=transport,
            sample_rate=100, encoding=Encoding.V2_JSON, port=8080,
            use_128bit_trace_id=True, kind=Kind.SERVER,
        ) as root:
            root.update_binary_annotations({"http.path": "/buy"})
            root.add_annotation("paid")
            with zipkin_client_span(service_name="shop", span_name="charge") as child:
                child.add_sa_binary_annotation(port=443, service_name="bank", host="10.0.0.9")
            trace_id = root.zipkin_attrs.trace_id

        counter = 'chronolith_ingest_rows_total{signal="spans",protocol="zipkin"}'
        self.assertEqual(eventually(lambda: self.server.metric(counter)), 2)
        found = eventually(lambda: self.server.trace(trace_id))
        by_name = {span["operationName"]: span for span in found}
        self.assertEqual(set(by_name), {"checkout", "charge"})
        tags = {tag["key"]: tag["value"] for tag in by_name["checkout"]["tags"]}
        self.assertEqual(tags["http.path"], "/buy")
        self.assertEqual(tags["span.kind"], "server")


if __name__ == "__main__":
    unittest.main()
