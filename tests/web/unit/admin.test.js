// What the pages of an admin say of calibrations.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at, textOf } from "./page.js";

const named = (name) => ({ name, title: name.toUpperCase() });
const calibration = (name, classes, sizes) => ({ id: name, name, classes: classes.map(named), sizes });

test("before a switch: kinds and sizes that come, and those that only the others answer", async () => {
  const { coverage } = await at("calibrations/activate.js");
  const next = calibration("new", ["png", "jpeg"], [[512, 512]]);
  const sizes = [512, 2048].map((side) => [side, 512]);
  const old = calibration("old", ["png", "webp"], sizes);
  const view = coverage(next, [old], [{ id: "old", classes: ["png", "webp"] }]);
  const said = textOf(view).replaceAll(/\s+/g, " ");
  assert.match(said, /that it adds: JPEG\./);
  assert.match(said, /only the others answer, while they stay active: WEBP\./);
  assert.match(said, /only the others have: 2,048 × 512\./);
  assert.match(said, /answers first, then old\./);
});

test("scenes fit the score, unless people mark the errors or there are too few", async () => {
  const [{ learners }, { options }] = await Promise.all([
    at("calibrations/create.js"),
    at("calibrations/service.js"),
  ]);
  const metric = (name) => ({ metric: name, unit: "lab", needs_label: name === "semantic" });
  options.metrics = [metric("semantic"), metric("structure")];
  for (const [name, n, changes, wanted] of [
    ["structure", 100, {}, 30],
    ["structure", 40, {}, 20],
    ["structure", 39, {}, 0],
    ["structure", 100, { indecision: {} }, 0],
    ["structure", 100, { fit_indecision: 0.5, indecision: {} }, 50],
    ["semantic", 100, {}, 0],
  ])
    assert.equal(learners(n, { fidelity: metric(name), ...changes }), wanted);
});

test("a stretch goes into the configuration as it was typed, and none is none", async () => {
  const { configOf } = await at("calibrations/settings.js");
  const { options } = await at("calibrations/service.js");
  options.metrics = [{ metric: "intensity", loss_clipped_at: 0.5 }];
  const chosen = { metric: "intensity", "guarantee.kind": "expectation", "indecision.estimator": "" };
  const numbers = { "indecision.size": "7", "fidelity.blur": "4" };
  const form = (stretch) => ({
    elements: Object.entries({ ...chosen, ...numbers, stretch }).map(([name, value]) => ({ name, value })),
  });
  assert.equal(configOf(form(" p1,p99 "), true).stretch, "p1,p99");
  assert.ok(!("stretch" in configOf(form(""), true)));
});

test("a promise with high probability needs as many pairs as the service says", async () => {
  const { minimalAlpha, minimalCount } = await at("calibrations/pairing.js");
  for (const [delta, alpha, n] of [
    [0.1, 0.2, 7],
    [0.1, 0.05, 25],
    [0.01, 0.01, 236],
  ]) {
    const asked = { bound: 0.5, guarantee: { kind: "high_probability", delta } };
    assert.equal(minimalCount({ alpha, ...asked }), n);
    assert.ok(minimalAlpha({ n, ...asked }) <= alpha && minimalAlpha({ n: n - 1, ...asked }) > alpha);
  }
});

test("one sentence says whether inputs look as usual and whether the promise holds", async () => {
  const { sentence } = await at("monitor/words.js");
  const inputs = (martingale) => ({ martingale, martingale_alarm_at: 100 });
  const feedback = (n, within, mean = 0.08) => ({ n, within, alpha: 0.1, mean_loss: mean });
  for (const [changes, wanted] of [
    [{ calibration: null }, /^No calibration is active/],
    [{ requests: { seen: 0 } }, /^No request yet; no truth is known yet/],
    [{ requests: { seen: 3, counted: 3 } }, /^3 requests so far, too few/],
    [{ inputs: inputs(1) }, /^Inputs look as usual/],
    [{ inputs: inputs(11) }, /^Inputs begin to look unusual/],
    [{ alarms: [{ kind: "inputs" }] }, /^Inputs do not look as usual any more/],
    [{ feedback: feedback(5, 5) }, /of 5 checked none exceeded the accepted error; too few to tell\.$/],
    [{ feedback: feedback(50, 49) }, /of 50 checked 1 exceeded .*, on average 0.08; not above it\.$/],
    [{ feedback: feedback(50, 40, 0.11) }, /on average 0.11; that is above it, but may be chance\.$/],
    [
      { feedback: feedback(50, 9, 0.2), alarms: [{ kind: "feedback" }] },
      /they lose 0.2, more than chance explains: if they are/,
    ],
  ])
    assert.match(
      sentence({ calibration: {}, requests: { seen: 90, counted: 90 }, alarms: [], ...changes }),
      wanted,
    );
});
