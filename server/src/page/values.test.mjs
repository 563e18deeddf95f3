// The Rust test `scripts_pass_their_own_tests` runs it where node is.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as values from "./values.mjs";

test("steps are round and leave about 250 of them", () => {
  assert.equal(values.roundStep(300), 2);
  assert.equal(values.roundStep(3600), 15);
  assert.equal(values.roundStep(21600), 120);
  assert.equal(values.roundStep(86400 * 365), 86400 * 2);
});

test("numbers are short", () => {
  assert.equal(values.shortNumber(0), "0");
  assert.equal(values.shortNumber(1234), "1234");
  assert.equal(values.shortNumber(12345), "12.35 k");
  assert.equal(values.shortNumber(-3.1e6), "-3.1 M");
  assert.equal(values.shortNumber(0.00001), "1.000e-5");
  assert.equal(values.shortNumber(Infinity), "+Inf");
  assert.equal(values.shortNumber(NaN), "NaN");
});

test("durations", () => {
  assert.equal(values.duration(12), "12 µs");
  assert.equal(values.duration(1500), "1.5 ms");
  assert.equal(values.duration(3661e6), "1 h 1 min 1 s");
});

test("nanoseconds keep their milliseconds", () => {
  assert.match(values.clockOfNanos("1763690000123456789"), /\.123$/);
});

test("series are written as PromQL has them", () => {
  assert.equal(values.seriesName({ __name__: "up" }), "up");
  assert.equal(values.seriesName({ __name__: "up", job: 'a"b' }), 'up{job="a\\"b"}');
  assert.equal(values.seriesName({}), "{}");
});

test("ticks are round and inside", () => {
  assert.deepEqual(values.ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(values.ticks(3, 3, 5), [3]);
});

test("a table with a time becomes lines", () => {
  const columns = [
    { name: "time", type: "timestamp(ns, UTC)" }, { name: "host", type: "utf8" }, { name: "load", type: "float64" },
  ];
  const rows = [["2026-01-01T00:00:10Z", "a", 2], ["2026-01-01T00:00:00Z", "a", 1], ["2026-01-01T00:00:00Z", "b", null]];
  const lines = values.linesOfTable({ columns, rows });
  assert.deepEqual(lines.map(({ metric }) => metric), [{ __name__: "load", host: "a" }]);
  assert.deepEqual(lines[0].points.map(([, value]) => value), [1, 2]);
  assert.equal(values.linesOfTable({ columns: columns.slice(1), rows: [["a", 1]] }), null);
});

test("spans form a tree, whatever their parents say", () => {
  const span = (spanID, parent, startTime) => ({
    spanID, startTime, references: parent ? [{ refType: "CHILD_OF", spanID: parent }] : [],
  });
  const spans = [span("c", "a", 3), span("b", "a", 2), span("a", "", 1), span("lost", "gone", 0), span("x", "y", 9), span("y", "x", 8), span("self", "self", 7)];
  const order = values.tree(spans).map(({ span, depth }) => `${depth}${span.spanID}`);
  assert.deepEqual(order, ["0lost", "0a", "1b", "1c", "0self", "0y", "1x"]);
});

test("trace ids", () => {
  assert.ok(values.isTraceId("4bf92f3577b34da6a3ce929d0e0e4736"));
  assert.ok(!values.isTraceId("{ status = error }"));
});
