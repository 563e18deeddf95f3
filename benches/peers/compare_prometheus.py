#!/usr/bin/env python3
"""Compares our answers with a real Prometheus over the same live data.

A Prometheus scrapes itself and a node_exporter every few seconds and remote-writes into a fresh
Chronolith. After the given time 20 queries are asked of both, as instant and as range queries at
the same times, and compared value by value within a relative 1e-9.

    python3 benches/peers/compare_prometheus.py --prometheus BIN --node-exporter BIN \\
        --chronolith target/release/chronolith --minutes 3

Debian's packages `prometheus` and `prometheus-node-exporter` serve (unpack them with `dpkg -x`).
Standard library only. All servers listen on 127.0.0.1 and are ended by pid. Exit status 1 when an
answer differs.
"""
import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

QUERIES = [
    "up",
    "node_load1",
    "rate(node_cpu_seconds_total[1m])",
    "sum by (mode) (rate(node_cpu_seconds_total[1m]))",
    "100 - avg by (instance) (irate(node_cpu_seconds_total{mode=\"idle\"}[1m])) * 100",
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "increase(node_network_receive_bytes_total{device=~\"lo|eth.*\"}[2m])",
    "topk(3, sum by (__name__) ({__name__=~\"node_disk_.*_total\"}))",
    "histogram_quantile(0.9, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[1m])))",
    "histogram_quantile(0.5, rate(prometheus_tsdb_compaction_chunk_size_bytes_bucket[2m]))",
    "avg_over_time(go_goroutines[1m])",
    "max_over_time(rate(process_cpu_seconds_total[30s])[1m:10s])",
    "count by (job) ({__name__!=\"\"})",
    "delta(process_resident_memory_bytes[1m])",
    "deriv(go_memstats_heap_alloc_bytes[1m])",
    "predict_linear(node_filesystem_avail_bytes[1m], 3600)",
    "quantile_over_time(0.75, go_memstats_alloc_bytes[1m])",
    "node_filesystem_size_bytes - on (device, mountpoint, instance, job, fstype) node_filesystem_avail_bytes",
    "go_goroutines offset 30s > bool go_threads",
    "changes(process_open_fds[1m]) + resets(go_memstats_frees_total[1m])",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command, log):
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def stop(processes):
    for p in processes:
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
    for p in processes:
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()


def get(url, timeout=30):
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read()


def wait_ready(url, process, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            get(url, 2)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{url} did not get ready")


def ask(port, kind, **params):
    url = f"http://127.0.0.1:{port}/api/v1/{kind}?" + urllib.parse.urlencode(params)
    return json.loads(get(url))["data"]["result"]


def points(result):
    """{labels: {time: value}} of a vector or matrix."""
    out = {}
    for element in result:
        key = json.dumps(element["metric"], sort_keys=True)
        values = element.get("values") or [element["value"]]
        out[key] = {float(t): float(v) for t, v in values}
    return out


def same(a, b):
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def compare(theirs, ours):
    """Number of values compared and the differences found."""
    a, b = points(theirs), points(ours)
    count, wrong = 0, []
    for key in sorted(a.keys() | b.keys()):
        if key not in a or key not in b:
            wrong.append(f"series only in {'ours' if key in b else 'Prometheus'}: {key}")
            continue
        for t in sorted(a[key].keys() | b[key].keys()):
            x, y = a[key].get(t), b[key].get(t)
            count += 1
            if x is None or y is None or not same(x, y):
                wrong.append(f"{key} at {t}: Prometheus {x}, ours {y}")
    return count, wrong


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--prometheus", required=True)
    ap.add_argument("--node-exporter", required=True)
    ap.add_argument("--chronolith", required=True)
    ap.add_argument("--minutes", type=float, default=3)
    ap.add_argument("--interval", default="5s")
    a = ap.parse_args()
    ports = {name: free_port() for name in ("prometheus", "node", "chronolith")}
    processes = []
    with tempfile.TemporaryDirectory() as work:
        try:
            def run(name, command):
                log = open(os.path.join(work, name + ".log"), "wb")
                processes.append(start(command, log))
                return processes[-1]

            ours = run("chronolith", [
                a.chronolith, "serve", "--data-dir", os.path.join(work, "store"),
                "--listen", f"127.0.0.1:{ports['chronolith']}", "--self-scrape", "off",
                "--otlp-grpc-listen", "off", "--otlp-http-listen", "off",
                "--flight-listen", "off", "--pg-listen", "off"])
            wait_ready(f"http://127.0.0.1:{ports['chronolith']}/-/ready", ours)
            node = run("node", [a.node_exporter, f"--web.listen-address=127.0.0.1:{ports['node']}"])
            wait_ready(f"http://127.0.0.1:{ports['node']}/metrics", node)
            config = os.path.join(work, "prometheus.yml")
            with open(config, "w") as f:
                f.write(f"""
global: {{scrape_interval: {a.interval}, scrape_timeout: {a.interval}}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{ports['prometheus']}"]}}]
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{ports['node']}"]}}]
remote_write:
  - url: http://127.0.0.1:{ports['chronolith']}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
""")
            theirs = run("prometheus", [
                a.prometheus, f"--config.file={config}", f"--storage.tsdb.path={work}/tsdb",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}"])
            wait_ready(f"http://127.0.0.1:{ports['prometheus']}/-/ready", theirs)

            end = time.monotonic() + a.minutes * 60
            while time.monotonic() < end:
                left = int(end - time.monotonic())
                if sys.stderr.isatty():
                    print(f"\rcollecting, {left} s to go ", end="", file=sys.stderr)
                time.sleep(1)
                for p in processes:
                    if p.poll() is not None:
                        sys.exit(f"{p.args[0]} ended with {p.returncode}")
            # What both surely have: samples in flight arrive within the send deadline.
            at = int(time.time()) - 15
            failed = 0
            print(f"{'query':100} {'instant':>8} {'range':>8}  verdict")
            for query in QUERIES:
                total, wrong, counts = 0, [], []
                for kind, params in (
                    ("query", dict(query=query, time=at)),
                    ("query_range", dict(query=query, start=at - int(a.minutes * 60) + 30, end=at, step=7)),
                ):
                    got = compare(ask(ports["prometheus"], kind, **params), ask(ports["chronolith"], kind, **params))
                    counts.append(got[0])
                    wrong += got[1]
                failed += bool(wrong)
                print(f"{query[:100]:100} {counts[0]:>8} {counts[1]:>8}  {'same' if not wrong else 'DIFFERENT'}")
                for line in wrong[:3]:
                    print("    " + line)
                if len(wrong) > 3:
                    print(f"    … {len(wrong) - 3} more")
            print(f"{len(QUERIES) - failed} of {len(QUERIES)} queries: same within 1e-9")
            return 1 if failed else 0
        finally:
            stop(processes)


if __name__ == "__main__":
    sys.exit(main())
