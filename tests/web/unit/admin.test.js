// What the pages of an admin say of calibrations.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at, textOf } from "./page.js";

const named = (name) => ({ name, title: name.toUpperCase() });

test("before a switch: kinds that come, and those that only the others answer", async () => {
  const { coverage } = await at("calibrations/tryout.js");
  const calibration = (name, classes) => ({ id: name, name, classes: classes.map(named) });
  const [next, old] = [calibration("new", ["png", "jpeg"]), calibration("old", ["png", "webp"])];
  const view = coverage(next, [old], [{ id: "old", classes: ["png", "webp"] }]);
  const said = textOf(view).replaceAll(/\s+/g, " ");
  assert.match(said, /that it adds: JPEG\./);
  assert.match(said, /only the others answer, while they stay: WEBP\./);
  assert.match(said, /answers first, then old\./);
});

test("before and after shows a photograph of each plain kind, and no photograph twice", async () => {
  const { chosen } = await at("calibrations/tryout.js");
  const kinds = ["screen", "jpeg-85", "lossless"];
  const all = ["a", "b", "c"].flatMap((source) => kinds.map((kind) => `${source}~${kind}`));
  assert.deepEqual(chosen(all), [
    { name: "a~lossless", words: "a · saved without loss" },
    { name: "b~jpeg-85", words: "b · saved as JPEG 85" },
    { name: "c~lossless", words: "c · saved without loss" },
  ]);
  const names = (some) => chosen(some).map(({ name }) => name);
  assert.deepEqual(names(["a", "b"]), ["a", "b"]);
  assert.deepEqual(names(["a~screen", "a~art", "b~art"]), ["a~screen", "b~art"]);
  assert.deepEqual(names([]), []);
});

test("other settings go into the configuration as they were typed, beside those of the form", async () => {
  const { configOf } = await at("calibrations/settings.js");
  const form = (others) => ({
    elements: Object.entries({
      metric: "intensity",
      "guarantee.kind": "expectation",
      made: "usual",
      others,
    }).map(([name, value]) => ({ name, value })),
  });
  const typed = '{"stretch": "p1,p99", "fidelity": {"blur": 2}}';
  assert.deepEqual(configOf(form(typed), true), {
    stretch: "p1,p99",
    fidelity: { metric: "intensity", blur: 2 },
  });
  assert.deepEqual(configOf(form(""), true), { fidelity: { metric: "intensity" } });
});

test("a sentence says who answers", async () => {
  const { answers } = await at("calibrations/words.js");
  const live = (name, changes = {}) => ({
    name,
    title: name,
    calibration: "c",
    calibrations: [{ name }],
    ...changes,
  });
  const bare = live("Bare", { calibration: null, calibrations: [] });
  const said = (upscalers) => answers(upscalers).slice(0, 2);
  assert.deepEqual(said([live("A")]), ["good", "One model answers."]);
  assert.deepEqual(said([live("A"), live("B")]), ["good", "Two models answer."]);
  const words = "Two of 3 models answer: nothing is promised of Bare yet.";
  assert.deepEqual(said([live("A"), live("B"), bare]), ["warn", words]);
});
