"""InfluxDB's client, and lines as Telegraf sends them."""

import gzip
import time
import unittest

try:
    import requests
    from influxdb_client import InfluxDBClient, Point, WritePrecision
    from influxdb_client.client.write_api import SYNCHRONOUS
    from influxdb_client.rest import ApiException
except ImportError as error:
    raise unittest.SkipTest(f"influxdb-client is missing: {error}")

from harness import WithServer, eventually


class Influx(WithServer):
    def test_client(self):
        for base, gzipped in (("", False), ("", True), ("/influx", True)):
            with self.subTest(base=base, gzip=gzipped):
                bucket = f"home{base.replace('/', '-')}-{gzipped}"
                self.points(base, gzipped, bucket)

    def points(self, base, gzipped, bucket):
        now = time.time_ns()
        with InfluxDBClient(self.server.url + base, token="any", org="o", enable_gzip=gzipped) as client:
            self.assertTrue(client.ping())
            self.assertEqual(client.health().status, "pass")
            self.assertEqual(client.version(), "1.8.10")
            points = [
                Point("room").tag("name", "living room, west").field("temperature", 20.5 + n)
                .field("people", n).field("open", n == 2).field("note", "a \"b\"\\")
                .time(now + n * 1_000_000, WritePrecision.NS)
                for n in range(3)
            ]
            with client.write_api(write_options=SYNCHRONOUS) as api:
                api.write(bucket=bucket, record=points)
                with self.assertRaises(ApiException) as refused:
                    api.write(bucket=bucket, record=["room temperature=22.5", "room temperature="])
                self.assertEqual(refused.exception.status, 400)
                self.assertIn("partial write: line 2", refused.exception.body)
            # Batches from a thread of the client's own.
            with client.write_api() as api:
                api.write(bucket=bucket, record=Point("door").field("count", 7))
        of = f'{{db="{bucket}",name="living room, west"}}'
        self.assertEqual([value for _, value in self.server.promql("room_temperature" + of)], [22.5])
        self.assertEqual([value for _, value in self.server.promql("room_people" + of)], [2])
        self.assertEqual([value for _, value in self.server.promql("room_open" + of)], [1])
        self.assertEqual(len(self.server.promql(f'room_temperature{{db="{bucket}",name=""}}')), 1)
        door = eventually(lambda: self.server.promql(f'door_count{{db="{bucket}"}}'))
        self.assertEqual(door[0][1], 7)

    def test_as_telegraf_sends(self):
        made = requests.post(self.server.url + "/query", data={"q": 'CREATE DATABASE "telegraf"'}, timeout=20)
        self.assertEqual(made.status_code, 200)
        now = int(time.time())
        lines = "".join(
            f"cpu,cpu=cpu{core},host=web-1 usage_idle={90 + core}.25,usage_user={core}i {now}\n"
            for core in range(4)
        )
        answer = requests.post(
            self.server.url + "/write", params={"db": "telegraf", "precision": "s", "consistency": "any"},
            data=gzip.compress(lines.encode()), timeout=20,
            headers={"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip",
                     "User-Agent": "Telegraf/1.32"},
        )
        self.assertEqual(answer.status_code, 204, answer.text)
        self.assertEqual(sum(value for _, value in self.server.promql('cpu_usage_idle{db="telegraf"}')), 367)


if __name__ == "__main__":
    unittest.main()
