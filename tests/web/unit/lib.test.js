// Keys, times and charts: what the pages share.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { at } from "./page.js";

test("a key that has come while the old one was being refused is used, not thrown away", async () => {
  const [{ getJson }, { key, setKey }] = await Promise.all([at("lib/api.js"), at("lib/auth.js")]);
  setKey("client", "old");
  mock.method(globalThis, "fetch", async (_, { headers }) => {
    if (headers.Authorization === "Bearer new") return new Response("1");
    setKey("client", "new");
    return new Response("{}", { status: 401 });
  });
  assert.deepEqual([await getJson("/any"), key("client")], [1, "new"]);
  mock.restoreAll();
});

test("the time that is left: by the pace of steps that were seen, else by what is usual", async () => {
  const { Pace } = await at("lib/jobs.js");
  const pace = new Pace();
  for (const [now, done, usual, left] of [
    [0, 1, null, null],
    [0, null, 100, 400],
    [1000, null, 2000, 7000],
    [1000, 3, 2000, 1000],
    [1400, 3, null, 600],
    [2200, null, null, 0],
    [9000, null, null, null],
  ]) {
    mock.method(performance, "now", () => now);
    if (done !== null) pace.saw(done);
    assert.equal(pace.left(5, usual), left);
    mock.restoreAll();
  }
});

test("ticks are round and within the axis; the nearest point and the step before are found", async () => {
  const [{ roundTicks }, { nearest, pointAt }, { small }] = await Promise.all([
    at("charts/scale.js"),
    at("charts/data.js"),
    at("lib/format.js"),
  ]);
  for (const [low, high] of [
    [0, 1],
    [0.013, 0.171],
    [-3, 4000],
    [0, 1e-6],
  ]) {
    const ticks = roundTicks(low, high, 5);
    assert.ok(ticks.length >= 3 && ticks.length <= 8);
    assert.ok(ticks.every((tick) => tick >= low - 1e-12 && tick <= high * (1 + 1e-9)));
    assert.match((ticks[1] - ticks[0]).toPrecision(6), /^[0.]*[125]/);
  }
  const points = [1, 2, 4, 8].map((x) => ({ x, y: 10 * x }));
  assert.deepEqual(
    [0, 2.9, 3.1, 9].map((x) => nearest(points, x)),
    [0, 1, 2, 3],
  );
  assert.deepEqual(pointAt({ kind: "step", points }, 3.9), points[1]);
  assert.equal(pointAt({ kind: "step", points }, 0.5), null);
  assert.deepEqual([1e-12, 0.01234, 23456].map(small), ["10⁻¹²", "0.0123", "2.35·10⁴"]);
});

test("areas are steps, realised risks are apart, and left of the smallest α there is nothing", async () => {
  const { areaChart, backtestChart } = await at("calibrations/curves.js");
  const alphas = [0.05, 0.1, 0.12];
  const thresholds = alphas.map((alpha) => ({ alpha, trusted_fraction: alpha }));
  const found = { id: "cal-1", min_alpha: 0.09, thresholds };
  const spread = { risk: 0.1, risk_low: 0, risk_high: 0.2, trusted_low: 0, trusted_high: 1 };
  const rows = alphas.map((alpha) => ({ alpha, ...spread }));
  const area = areaChart(found, rows);
  assert.deepEqual(
    area.series.map(({ kind }) => kind),
    ["ranges", "step"],
  );
  for (const { points } of [...area.series, backtestChart(found, rows).series[0]])
    assert.deepEqual(
      points.map(({ x }) => x),
      [0.1, 0.12],
    );
});
