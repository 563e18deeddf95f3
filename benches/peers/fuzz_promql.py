#!/usr/bin/env python3
"""Asks random PromQL of us and of a real Prometheus over the same data and compares the answers.

Synthetic series (counters with resets, gauges with gaps, NaN, infinities and staleness markers, classic
histograms, series that begin and end, label sets that match one to one, many to one and not at all)
are written to both by remote write. Then random expressions are made by grammar and asked as instant
and as range queries. Values must be the same within a relative 1e-9; both must refuse or both must
answer. A difference is printed with its expression, shortened by replacing it by its parts as long as
these still differ.

    python3 benches/peers/fuzz_promql.py --prometheus BIN --chronolith BIN [--seed N] [--count N | --minutes M]

The grammar stays inside what Prometheus has answered the same way since 2.42 (Debian bookworm): no
window or lookback boundary falls on a sample or a subquery step (3.0 made windows left-open), no native
histograms, counters stay far from zero (extrapolation to zero was changed). Standard library only.
"""
import argparse
import collections
import json
import math
import os
import random
import struct
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from compare_prometheus import free_port, same, start, stop, wait_ready

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


# --- data, written as remote write 1.0 -------------------------------------------------------

def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(data):
    """A snappy block of literals only."""
    out = bytearray(varint(len(data)))
    for i in range(0, len(data), 60000):
        part = data[i:i + 60000]
        out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


def write_request(series):
    body = b""
    for labels, samples in series:
        one = b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in sorted(labels.items()))
        for t, bits in samples:
            one += field(2, b"\x09" + bits + b"\x10" + varint(t))
        body += field(1, one)
    return snappy(body)


def make_series(rng):
    """[(labels, value function of step, first step, last step, probability of a gap)]"""
    out = []

    def add(labels, value, first=0, last=10**9, gap=0.02):
        out.append((labels, value, first, last, gap))

    def walk(scale, special=0.0):
        state = [rng.uniform(-scale, scale)]

        def value(_):
            state[0] += rng.gauss(0, scale / 10)
            if rng.random() < special:
                return rng.choice([math.nan, math.inf, -math.inf, 0.0, STALE])
            return rng.choice([state[0], round(state[0], 1)])
        return value

    def counter(per_step, reset=0.004):
        state = [rng.uniform(1e5, 2e5)]

        def value(_):
            state[0] += rng.expovariate(1 / per_step)
            if rng.random() < reset:
                state[0] *= 0.4
            return round(state[0], 2)
        return value

    for job in ("api", "db", "cache"):
        for n in range(4):
            ids = {"job": job, "instance": f"{job}-{n}", "zone": "ab"[n % 2]}
            add({"__name__": "requests_total", "code": "200", **ids}, counter(50))
            add({"__name__": "requests_total", "code": "500", **ids}, counter(2))
            add({"__name__": "errors_total", "code": "500", **ids}, counter(1, 0.01), gap=0.3)
            add({"__name__": "temperature", **ids}, walk(20))
            add({"__name__": "odd", **ids}, walk(5, 0.15), gap=0.2)
            add({"__name__": "limit", "job": job, "instance": f"{job}-{n}"}, lambda i, n=n: 10.0 + n)
            if n < 3:
                add({"__name__": "brief", **ids}, walk(3), first=100 * n, last=100 * n + 130)
            total = 0.0
            for le in ("0.1", "0.5", "1", "5", "+Inf"):
                c = counter(5, 0)
                base = total
                add({"__name__": "latency_seconds_bucket", "le": le, **ids},
                    (lambda c, base: lambda i: c(i) + base)(c, base), gap=0)
                total += 2e5
        add({"__name__": "job_info", "job": job, "team": job + "-team", "version": "1.2"}, lambda i: 1.0)
    add({"__name__": "quota", "zone": "a"}, lambda i: 40.0)
    add({"__name__": "quota", "zone": "b"}, lambda i: 60.0)
    return out


def load(rng, ports, start_ms, steps, interval_ms):
    series = make_series(rng)
    offsets = [rng.randrange(0, interval_ms) for _ in series]
    for block in range(0, steps, 20):
        parts = []
        for (labels, value, first, last, gap), offset in zip(series, offsets):
            samples = []
            for i in range(block, min(block + 20, steps)):
                v = value(i)
                # Odd milliseconds: no boundary of a query falls on a sample.
                t = start_ms + i * interval_ms + offset + rng.randrange(0, 200)
                if first <= i <= last and rng.random() >= gap:
                    samples.append((t // 10 * 10 + 3, struct.pack("<d", STALE if i == last else v)))
            if samples:
                parts.append((labels, samples))
        body = write_request(parts)
        for port in ports:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/v1/write", data=body, method="POST",
                headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
                         "X-Prometheus-Remote-Write-Version": "0.1.0"})
            urllib.request.urlopen(request, timeout=30).read()


# --- expressions ----------------------------------------------------------------------------

GAUGES = ["temperature", "odd", "limit", "brief", "job_info", "quota"]
COUNTERS = ["requests_total", "errors_total", "latency_seconds_bucket"]
RANGE_COUNTER = ["rate", "increase", "irate", "resets", "changes"]
RANGE_GAUGE = ["delta", "idelta", "deriv", "avg_over_time", "min_over_time", "max_over_time", "sum_over_time",
               "count_over_time", "stddev_over_time", "stdvar_over_time", "last_over_time", "present_over_time",
               "changes", "resets", "absent_over_time"]
MATH = ["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sgn", "sin", "cos", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad", "timestamp", "absent", "sort", "sort_desc",
        "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]
LABELS = ["job", "instance", "zone", "code", "le", "team"]
Node = collections.namedtuple("Node", "text parts")  # parts: vector expressions inside


class Grammar:
    def __init__(self, rng, at):
        self.rng, self.at = rng, at

    def pick(self, *choices):
        return self.rng.choice(choices)()

    def matchers(self):
        r = self.rng
        out = []
        for _ in range(r.choice([0, 0, 0, 1, 1, 2])):
            label = r.choice(LABELS)
            value = {"job": ["api", "db", "cache"], "instance": ["api-0", "db-1", "cache-3"], "zone": ["a", "b"],
                     "code": ["200", "500"], "le": ["0.5", "+Inf"], "team": ["api-team"]}[label]
            op = r.choice(["=", "!=", "=~", "!~"])
            v = r.choice(value + ["", "nothing"])
            if "~" in op:
                v = r.choice([v.replace("+", "\\\\+"), ".*", ".+", "a.*|d.*", "[a-c]+-[01]", "(?i)API.*", "|db"])
            out.append(f'{label}{op}"{v}"')
        return "{" + ",".join(out) + "}" if out else ""

    def modifiers(self):
        r = self.rng
        out = ""
        if r.random() < 0.15:
            out += f" offset {r.choice(['37s', '5m1s', '-43s', '13m'])}"
        if r.random() < 0.1:
            out += f" @ {r.choice([str(self.at - 601.5), 'start()', 'end()'])}"
        return out

    def selector(self, names):
        return Node(self.rng.choice(names) + self.matchers() + self.modifiers(), [])

    def window(self):
        return self.rng.choice(["41s500ms", "1m7s500ms", "3m500ms", "5m11s500ms", "17m500ms", "31m3s500ms"])

    def matrix(self, names, depth):
        r = self.rng
        if depth > 0 and r.random() < 0.25:
            inner = self.vector(depth - 1)
            step = r.choice(["13s", "30s", "1m", "47s", ""])
            return Node(f"({inner.text})[{self.window()}:{step}]{self.modifiers()}", [inner])
        return Node(r.choice(names) + self.matchers() + f"[{self.window()}]" + self.modifiers(), [])

    def scalar(self, depth):
        r = self.rng
        kind = r.random()
        if kind < 0.6 or depth <= 0:
            return Node(r.choice(["0", "1", "2", "-1.5", "0.5", "1e3", "NaN", "Inf", "-Inf", "7", "0x1f", "3.25"]), [])
        if kind < 0.7:
            return Node("time()", [])
        if kind < 0.8:
            return Node("pi()", [])
        if kind < 0.9:
            inner = self.vector(depth - 1)
            return Node(f"scalar({inner.text})", [inner])
        a, b = self.scalar(depth - 1), self.scalar(depth - 1)
        op = r.choice(["+", "-", "*", "/", "%", "^", "== bool", "> bool", "<= bool", "!= bool"])
        return Node(f"({a.text} {op} {b.text})", a.parts + b.parts)

    def function(self, depth):
        r = self.rng
        kind = r.random()
        if kind < 0.35:
            m = self.matrix(COUNTERS, depth)
            # Quantities of a subquery may be near zero.
            names = ["resets", "changes"] if m.parts else RANGE_COUNTER
            return Node(f"{r.choice(names)}({m.text})", m.parts)
        if kind < 0.6:
            m = self.matrix(GAUGES, depth)
            return Node(f"{r.choice(RANGE_GAUGE)}({m.text})", m.parts)
        if kind < 0.65:
            m = self.matrix(GAUGES, depth)
            return Node(f"quantile_over_time({self.scalar(0).text}, {m.text})", m.parts)
        if kind < 0.7:
            m = self.matrix(GAUGES, depth)
            if "@" in m.text or "odd" in m.text:
                return Node(f"deriv({m.text})", m.parts)
            return Node(f"predict_linear({m.text}, {r.choice(['60', '-300', '3600'])})", m.parts)
        v = self.vector(depth - 1)
        if kind < 0.85:
            return Node(f"{r.choice(MATH)}({v.text})", [v])
        if kind < 0.88:
            return Node(f"round({v.text}, {r.choice(['0.1', '5', '0.003', '1'])})", [v])
        if kind < 0.91:
            s, t = self.scalar(0), self.scalar(0)
            return Node(r.choice([f"clamp({v.text}, {s.text}, {t.text})", f"clamp_min({v.text}, {s.text})",
                                  f"clamp_max({v.text}, {s.text})"]), [v])
        if kind < 0.95:
            return Node(f'label_replace({v.text}, "{r.choice(["new", "job", "zone"])}", "{r.choice(["$1", "x-$1", "", "$2$1"])}", '
                        f'"{r.choice(LABELS)}", "{r.choice(["(.*)", "(.*)-(.*)", "([a-z]+).*", "a"])}")', [v])
        if kind < 0.97:
            return Node(f'label_join({v.text}, "{r.choice(["new", "job"])}", "-", "job", "zone")', [v])
        return Node(f"histogram_quantile({r.choice(['0.5', '0.9', '0', '1', '-1', '2', '0.999'])}, "
                    f"{r.choice(['', 'sum by (le) ', 'sum by (le, job) ', 'sum without (instance) '])}"
                    f"(rate(latency_seconds_bucket{self.matchers()}[{self.window()}])))", [])

    def grouping(self):
        r = self.rng
        if r.random() < 0.25:
            return " "
        return f" {r.choice(['by', 'without'])} ({', '.join(r.sample(LABELS, r.choice([0, 1, 1, 2, 3])))}) "

    def aggregation(self, depth):
        r = self.rng
        v = self.vector(depth - 1)
        op = r.choice(["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "count_values", "topk"])
        if op == "topk":
            # Of values that are never the same.
            v = self.selector(["requests_total"])
            return Node(f"{r.choice(['topk', 'bottomk'])}{self.grouping()}({r.choice(['1', '3', '0', '100'])}, {v.text})", [])
        if op == "quantile":
            return Node(f"quantile{self.grouping()}({r.choice(['0.5', '0.9', '0', '1', '-1', '2', 'NaN'])}, {v.text})", [v])
        if op == "count_values":
            return Node(f'count_values{self.grouping()}("zzz", round({v.text}))', [v])
        if op in ("stddev", "stdvar"):
            return Node(f"{op}{self.grouping()}({v.text} > -1e300 < 1e300)", [v])
        return Node(f"{op}{self.grouping()}({v.text})", [v])

    def binary(self, depth):
        r = self.rng
        a = self.vector(depth - 1)
        op = r.choice(["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<="])
        boolean = " bool" if op in ("==", "!=", ">", "<", ">=", "<=") and r.random() < 0.4 else ""
        if r.random() < 0.3:
            s = self.scalar(depth - 1)
            pair = [a.text, s.text]
            r.shuffle(pair)
            return Node(f"({pair[0]} {op}{boolean} {pair[1]})", [a] + s.parts)
        b = self.vector(depth - 1)
        if r.random() < 0.3:
            op, boolean = r.choice(["and", "or", "unless"]), ""
        matching = ""
        if r.random() < 0.5:
            matching = f" {r.choice(['on', 'ignoring'])} ({', '.join(r.sample(LABELS, r.choice([0, 1, 1, 2, 2, 3])))})"
            if op not in ("and", "or", "unless") and r.random() < 0.5:
                extra = ", ".join(r.sample(["team", "version", "zone"], r.choice([0, 1, 2])))
                matching += f" {r.choice(['group_left', 'group_right'])} ({extra})"
        return Node(f"({a.text} {op}{boolean}{matching} {b.text})", [a, b])

    def vector(self, depth):
        r = self.rng
        if depth <= 0:
            return self.selector(GAUGES + COUNTERS)
        kind = r.random()
        if kind < 0.15:
            return self.selector(GAUGES + COUNTERS)
        if kind < 0.2:
            s = self.scalar(depth - 1)
            return Node(f"vector({s.text})", s.parts)
        if kind < 0.25:
            v = self.vector(depth - 1)
            return Node(f"-({v.text})", [v])
        if kind < 0.5:
            return self.function(depth)
        if kind < 0.75:
            return self.aggregation(depth)
        return self.binary(depth)


# --- asking and comparing -------------------------------------------------------------------

def ask(port, kind, params):
    data = urllib.parse.urlencode(params).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{kind}", data=data, timeout=60) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as e:
        return json.loads(e.read())


def points(answer):
    data = answer["data"]
    if data["resultType"] == "scalar":
        return {("", float(data["result"][0])): float(data["result"][1])}
    out = {}
    for series in data["result"]:
        key = json.dumps(series["metric"], sort_keys=True)
        for t, v in series.get("values") or [series["value"]]:
            out[(key, float(t))] = float(v)
    return out


def near(a, b, scale):
    """The same, or both nothing but rounding beside the largest value of the answer's parts."""
    return same(a, b) or abs(a - b) <= 1e-12 * scale


def difference(ports, kind, params):
    """None, or a line that says how the two answers differ."""
    theirs, ours = (ask(port, kind, params) for port in ports)
    if theirs["status"] != ours["status"]:
        if "many-to-one matching must be explicit" in ours.get("error", ""):
            return None  # Later versions count the matches that a comparison filters out, too.
        return f"Prometheus {theirs.get('error', 'answers')}; ours {ours.get('error', 'answers')}"
    if theirs["status"] != "success":
        if theirs["errorType"] != ours["errorType"]:
            return f"errorType {theirs['errorType']} ({theirs['error']}), ours {ours['errorType']} ({ours['error']})"
        return None
    a, b = points(theirs), points(ours)
    for key in sorted(a.keys() | b.keys()):
        if key not in a or key not in b:
            return f"{key}: only in {'Prometheus' if key in a else 'ours'} ({a.get(key, b.get(key))})"
        if not near(a[key], b[key], 1e6):
            return f"{key}: Prometheus {a[key]!r}, ours {b[key]!r}"
    return None


def shorten(ports, kind, params, node, found):
    """The smallest part of the expression that still differs."""
    for part in node.parts:
        line = difference(ports, kind, dict(params, query=part.text))
        if line:
            return shorten(ports, kind, params, part, line)
    return node, found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--prometheus", required=True)
    ap.add_argument("--chronolith", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--count", type=int, default=2000, help="expressions, each asked as instant and as range query")
    ap.add_argument("--minutes", type=float, help="as many expressions as fit in this time")
    ap.add_argument("--show", type=int, default=20, help="differences printed")
    a = ap.parse_args()
    ports = [free_port(), free_port()]
    processes = []
    with tempfile.TemporaryDirectory() as work:
        try:
            config = os.path.join(work, "prometheus.yml")
            open(config, "w").write("global: {}\n")
            for name, command in (
                ("prometheus", [a.prometheus, f"--config.file={config}", f"--storage.tsdb.path={work}/tsdb",
                                f"--web.listen-address=127.0.0.1:{ports[0]}", "--web.enable-remote-write-receiver",
                                "--enable-feature=promql-negative-offset,promql-at-modifier"]),
                ("chronolith", [a.chronolith, "serve", "--data-dir", os.path.join(work, "store"),
                                "--listen", f"127.0.0.1:{ports[1]}", "--self-scrape", "off", "--otlp-grpc-listen", "off",
                                "--otlp-http-listen", "off", "--flight-listen", "off", "--pg-listen", "off"])):
                log = open(os.path.join(work, name + ".log"), "wb")
                processes.append(start(command, log))
            for port, process in zip(ports, processes):
                wait_ready(f"http://127.0.0.1:{port}/-/ready", process)
            rng = random.Random(a.seed)
            interval, steps = 15, 360
            # On a whole hour, so that the seed alone decides what is asked.
            begin = int(time.time() - interval * steps) // 3600 * 3600 - 1800
            load(rng, ports, begin * 1000, steps, interval * 1000)
            end = begin + interval * steps
            until = time.monotonic() + a.minutes * 60 if a.minutes else math.inf
            asked = errors = different = 0
            while time.monotonic() < until and (a.minutes or asked < a.count):
                asked += 1
                at = end - rng.randrange(0, 3000) + 0.25
                grammar = Grammar(rng, at)
                node = grammar.vector(rng.choice([1, 2, 2, 3, 3, 4]))
                for kind, params in (("query", {"time": at}),
                                     ("query_range", {"start": at - 1201, "end": at, "step": rng.choice([17, 60, 121])})):
                    line = difference(ports, kind, dict(params, query=node.text))
                    if line:
                        different += 1
                        if different <= a.show:
                            small, line = shorten(ports, kind, params, node, line)
                            print(f"{kind} {params}\n    {small.text}\n    {line}", flush=True)
                if asked % 100 == 0 and sys.stderr.isatty():
                    print(f"\r{asked} expressions, {different} differences ", end="", file=sys.stderr)
            print(f"{asked} expressions of seed {a.seed}, instant and range: {different} answers differ")
            return 1 if different else 0
        finally:
            stop(processes)


if __name__ == "__main__":
    sys.exit(main())
