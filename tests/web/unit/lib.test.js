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

test("ticks are round, begin with 0 and end within the axis", async () => {
  const [{ ticks }, { small }] = await Promise.all([at("lib/chart.js"), at("lib/format.js")]);
  for (const most of [1, 0.171, 4000, 1e-6]) {
    const found = ticks(most, 5);
    assert.ok(found.length >= 3 && found.length <= 8);
    assert.ok(found[0] === 0 && found.at(-1) <= most * (1 + 1e-9));
    assert.match((found[1] - found[0]).toPrecision(6), /^[0.]*[125]/);
  }
  assert.deepEqual([1e-12, 0.01234, 23456].map(small), ["1.0e-12", "0.012", "23,500"]);
});

test("areas are steps, realised risks are apart, and left of the smallest α there is nothing", async () => {
  const { areaChart, backtestChart } = await at("calibrations/detail.js");
  const alphas = [0.05, 0.1, 0.12];
  const thresholds = alphas.map((alpha) => ({ alpha, trusted_fraction: alpha }));
  const found = { min_alpha: 0.09, thresholds };
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
