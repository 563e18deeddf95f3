"""Loki's clients: the logging handler of python-logging-loki, and pushes as agents send them."""

import gzip
import json
import logging
import time
import unittest

try:
    import logging_loki
    import requests
except ImportError as error:
    raise unittest.SkipTest(f"python-logging-loki is missing: {error}")

from harness import WithServer, eventually


class Loki(WithServer):
    def test_logging_handler(self):
        handler = logging_loki.LokiHandler(
            url=self.server.url + "/loki/api/v1/push", tags={"app": "shop"}, version="1",
        )
        logger = logging.getLogger("loki-client")
        logger.propagate = False
        logger.addHandler(handler)
        logger.error("cannot pay", extra={"tags": {"order": "4711"}})
        logger.warning("slow")
        found = eventually(lambda: self.server.lines('{app="shop"}')[1:] and self.server.lines('{app="shop"}'))
        self.assertEqual([line[2] for line in found], ["cannot pay", "slow"])
        self.assertEqual(found[0][0]["order"], "4711")
        self.assertEqual(found[0][0]["severity"], "error")

    def test_push_with_structured_metadata(self):
        now = time.time_ns()
        values = [[str(now + number), f"line {number}", {"user": f"u{number % 3}"}] for number in range(100)]
        body = json.dumps({"streams": [{"stream": {"job": "agent"}, "values": values}]})
        answer = requests.post(
            self.server.url + "/loki/api/v1/push", data=gzip.compress(body.encode()), timeout=20,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        self.assertEqual((answer.status_code, answer.text), (204, ""))
        found = eventually(lambda: self.server.lines('{job="agent"} | user="u1"'))
        self.assertEqual([line[2] for line in found], [f"line {n}" for n in range(1, 100, 3)])
        self.assertEqual(found[0][1], now + 1)


if __name__ == "__main__":
    unittest.main()
