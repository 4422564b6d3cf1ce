// What the pages of an admin say of calibrations.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at, textOf } from "./page.js";

const named = (name) => ({ name, title: name.toUpperCase() });
const calibration = (name, classes, sizes) => ({ id: name, name, classes: classes.map(named), sizes });

test("before a switch: kinds and sizes that come, and those that only the others answer", async () => {
  const { coverage } = await at("calibrations/activate.js");
  const next = calibration("new", ["png", "jpeg"], [[512, 512]]);
  const old = calibration(
    "old",
    ["png", "webp"],
    [
      [512, 512],
      [2048, 1024],
    ],
  );
  const said = textOf(coverage(next, [old], [{ id: "old", classes: ["png", "webp"] }])).replaceAll(
    /\s+/g,
    " ",
  );
  assert.match(said, /come with it: JPEG\./);
  assert.match(said, /only the others answer, as long as they stay: WEBP\./);
  assert.match(said, /only the others have: 2,048 × 1,024\./);
  assert.match(said, /asked first, behind it old\./);
});

test("a comparison ends with who is better for you, and by how much", async () => {
  const { verdict } = await at("calibrations/compare.js");
  const own = (area) => ({ default_alpha: 0.1, thresholds: [{ alpha: 0.1, trusted_fraction: area }] });
  assert.match(verdict([own(0.6), own(0.7)], ["a", "b"]), /^For you: b is better.*70.0 %.*a 60.0 %/);
  assert.match(verdict([own(0.6), own(0.601)], ["a", "b"]), /the same/);
  assert.equal(verdict([own(0.6), { ...own(0.7), default_alpha: 0.2 }], ["a", "b"]), "");
});

test("scenes fit the score, unless people mark the errors or there are too few", async () => {
  const [{ learners }, { options }] = await Promise.all([
    at("calibrations/create.js"),
    at("calibrations/service.js"),
  ]);
  const semantic = (labels) => ({
    metric: "semantic",
    labels,
    unit: "label",
    needs_label: labels === "people",
  });
  options.metrics = [semantic("people"), semantic("synthetic")];
  for (const [labels, n, changes, wanted] of [
    ["synthetic", 100, {}, 30],
    ["synthetic", 40, {}, 20],
    ["synthetic", 39, {}, 0],
    ["synthetic", 100, { indecision: {} }, 0],
    ["synthetic", 100, { fit_indecision: 0.5, indecision: {} }, 50],
    ["people", 100, {}, 0],
  ])
    assert.equal(learners(n, { fidelity: semantic(labels), ...changes }), wanted);
});

test("people's names of kinds of upload, also of those within a group", async () => {
  const { kindOf, nameOf } = await at("monitor/words.js");
  const titles = new Map([["jpeg-80", "JPEG of quality 80 to 89"]]);
  assert.equal(kindOf("jpeg-80", titles), "JPEG of quality 80 to 89");
  assert.equal(kindOf("faces, jpeg-80", titles), "faces, JPEG of quality 80 to 89");
  assert.equal(kindOf("faces", titles), "faces");
  assert.equal(nameOf({ upscaler: "x4", kind_title: "faces", under: "new" }), "x4: faces, under new");
});
