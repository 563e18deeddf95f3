#!/usr/bin/env python3
"""Says why rates of a Prometheus 2.x and ours differ, sample by sample.

Prometheus 3 changed the order of two rules in the extrapolation of counters: a gap at the beginning of
the window is compared with the threshold before it is limited by the time at which the counter would
have been zero; 2.x does it afterwards. So both answer differently for counters that began shortly before.
This asks both servers, which hold the same samples, for the rate of a selector; where they differ it
computes both rules from the raw samples and counts the differences that they explain.

    python3 benches/peers/compare_rates.py --old http://127.0.0.1:PORT --new http://127.0.0.1:PORT \\
        --selector 'http_request_duration_seconds_bucket{pod=~"svc-00.*"}' --start T --end T --step 15

Standard library only. Exit status 1 if a difference stays unexplained.
"""
import argparse
import json
import sys
import urllib.parse
import urllib.request

from compare_prometheus import same


def ask(url, kind, **params):
    data = urllib.parse.urlencode(params).encode()
    with urllib.request.urlopen(f"{url}/api/v1/{kind}", data=data, timeout=120) as response:
        return json.loads(response.read())["data"]["result"]


def rates(samples, end, window):
    """The rate by the rule of 2.x and that of 3.x; None of fewer than two samples. Times are whole ms."""
    samples = [(t, v) for t, v in samples if end - window < t <= end]
    if len(samples) < 2:
        return None, None
    values = [v for _, v in samples]
    increase = values[-1] - values[0] + sum(a for a, b in zip(values, values[1:]) if b < a)
    sampled = samples[-1][0] - samples[0][0]
    mean = sampled / (len(samples) - 1)
    at_start, at_end = samples[0][0] - (end - window), end - samples[-1][0]
    to_zero = sampled * (values[0] / increase) if increase > 0 and values[0] >= 0 else at_start
    limited = min(at_start, to_zero)

    def near(gap):
        return gap if gap < mean * 1.1 else mean / 2

    old = sampled + near(limited) + near(at_end)
    new = sampled + min(near(at_start), to_zero if increase > 0 else near(at_start)) + near(at_end)
    return (increase * (x / sampled) / (window / 1000) for x in (old, new))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--old", required=True)
    ap.add_argument("--new", required=True)
    ap.add_argument("--selector", required=True)
    ap.add_argument("--start", type=int, required=True)
    ap.add_argument("--end", type=int, required=True)
    ap.add_argument("--step", type=int, default=15)
    ap.add_argument("--window", type=int, default=300, help="seconds")
    a = ap.parse_args()
    query = dict(query=f"rate({a.selector}[{a.window}s])", start=a.start, end=a.end, step=a.step)
    old, new = ({json.dumps(s["metric"], sort_keys=True): {float(t): float(v) for t, v in s["values"]}
                 for s in ask(url, "query_range", **query)} for url in (a.old, a.new))
    raw = {}
    for s in ask(a.new, "query", query=f"{a.selector}[{a.end - a.start + a.window}s]", time=a.end):
        s["metric"].pop("__name__")
        raw[json.dumps(s["metric"], sort_keys=True)] = [(round(float(t) * 1000), float(v)) for t, v in s["values"]]
    compared = explained = 0
    unexplained = []
    for key in sorted(old.keys() | new.keys()):
        one, two = old.get(key, {}), new.get(key, {})
        for t in sorted(one.keys() | two.keys()):
            compared += 1
            x, y = one.get(t), two.get(t)
            if x is not None and y is not None and same(x, y):
                continue
            by_old, by_new = rates(raw.get(key, []), round(t * 1000), a.window * 1000)
            if None not in (x, y, by_old) and same(x, by_old) and same(y, by_new):
                explained += 1
            else:
                unexplained.append(f"{key} at {t}: {x} (rule: {by_old}), {y} (rule: {by_new})")
    print(f"{compared} rates of {len(old.keys() | new.keys())} series; {explained} differ by the changed rule, "
          f"{len(unexplained)} for another reason")
    for line in unexplained[:10]:
        print("    " + line)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
