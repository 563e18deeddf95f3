"""The Elasticsearch client: handshake, then documents in bulk."""

import datetime
import unittest

try:
    from elasticsearch import Elasticsearch, helpers
except ImportError as error:
    raise unittest.SkipTest(f"elasticsearch is missing: {error}")

from harness import WithServer, eventually


class Elastic(WithServer):
    def test_bulk(self):
        for base in ("/elastic", "/insert/elasticsearch"):
            with self.subTest(base=base):
                self.bulk(base, http_compress=False)
        self.bulk("/elastic", http_compress=True)

    def bulk(self, base, http_compress):
        client = Elasticsearch(self.server.url + base, http_compress=http_compress, request_timeout=20)
        self.assertEqual(client.info()["tagline"], "You Know, for Search")
        now = datetime.datetime.now(datetime.timezone.utc)
        index = f"logs{base.replace('/', '-')}-{http_compress}".lower()
        actions = [
            {"_op_type": "create", "_index": index, "_source": {
                "@timestamp": now.isoformat(), "message": f"document {number}",
                "log.level": "error" if number % 10 == 0 else "info",
                "service.name": "shop", "number": number,
            }}
            for number in range(1_000)
        ]
        stored, errors = helpers.bulk(client, actions)
        self.assertEqual((stored, errors), (1_000, []))
        query = f'{{service_name="shop", index="{index}"}}'
        found = eventually(lambda: len(self.server.lines(query)) == 1_000 and self.server.lines(query))
        self.assertEqual(sorted(line[2] for line in found)[0], "document 0")
        few = self.server.lines(query + " | number >= 990")
        self.assertEqual(len(few), 10)

    def test_a_bad_document_is_named(self):
        client = Elasticsearch(self.server.url + "/elastic", request_timeout=20)
        actions = [
            {"_index": "mixed", "_source": {"message": "good"}},
            {"_index": "mixed", "_source": {"message": "bad", "@timestamp": "no time"}},
        ]
        stored, errors = helpers.bulk(client, actions, raise_on_error=False)
        self.assertEqual((stored, len(errors)), (1, 1))
        self.assertEqual(errors[0]["index"]["status"], 400)


if __name__ == "__main__":
    unittest.main()
