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

test("three sentences say who answers, whether promises hold, and what is unusual", async () => {
  const { sentences } = await at("calibrations/words.js");
  const live = (name, changes = {}) => ({
    name,
    title: name,
    calibration: "c",
    calibrations: [{ name }],
    ...changes,
  });
  const bare = live("Bare", { calibration: null, calibrations: [] });
  const feedback = { n: 50, within: 49, alpha: 0.1, mean_loss: 0.05 };
  const watched = (upscaler, changes = {}) => ({
    upscaler,
    calibration: {},
    requests: { seen: 90, counted: 90 },
    inputs: null,
    feedback,
    alarms: [],
    ...changes,
  });
  const said = (upscalers, report) => sentences(upscalers, { upscalers: report }).map(([, words]) => words);
  const two = [live("A"), live("B")];
  assert.deepEqual(said(two, [watched("A"), watched("B")]), [
    "Two models answer.",
    "Both promises hold.",
    "Nothing unusual today.",
  ]);
  const alarm = (kind) => [{ kind, severity: "page", message: "It changed." }];
  const changed = watched("B", { alarms: alarm("canary"), feedback: null });
  const none = { ...watched("Bare"), calibration: null, alarms: alarm("no-calibration") };
  assert.deepEqual(said([...two, bare], [watched("A"), changed, none]), [
    "Two of 3 models answer: nothing is promised of Bare yet.",
    "The promise holds; that of B was not checked yet.",
    "One thing to look at.",
  ]);
  const broken = watched("A", { alarms: alarm("feedback") });
  assert.deepEqual(said([live("A")], [broken]).slice(0, 2), [
    "One model answers.",
    "The promise of A is not kept.",
  ]);
});

test("one sentence says whether inputs look as usual and whether the promise holds", async () => {
  const { sentence } = await at("monitor/words.js");
  const inputs = (martingale) => ({ martingale, martingale_alarm_at: 100 });
  const feedback = (n, within, mean = 0.08) => ({ n, within, alpha: 0.1, mean_loss: mean });
  for (const [changes, wanted] of [
    [{ calibration: null }, /^No calibration is active/],
    [{ requests: { seen: 0 } }, /^No request yet; no checks against originals yet/],
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
