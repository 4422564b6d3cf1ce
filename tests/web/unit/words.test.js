// What the page says about a picture and its promise, word for word.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { at } from "./page.js";

const words = await at("upscale/words.js");

const range = { kind: "post_hoc", between: [0.03, 0.07], promised: true, unit: "spot", error_unit: "lab" };
const plain =
  "In 9 of 10 spots of 128×128 pixels of such pictures the colours around every trusted point, averaged about 9 pixels " +
  "across, are right within 17 of the 100 steps of lightness; fine detail may still be invented, though α is chosen after looking.";
const guarantee = { ...range, plain, alpha: 0.05, bound: 0.5 };
const usual = { trusted_fraction: 0.5, warnings: [], typicality: 0.5, out_of_distribution: false };
const result = { ...usual, guarantee, alpha: 0.05, input_class: { name: "jpeg-30", title: "JPEG", n: 40 } };
const told = (changes, more = {}) => ({ ...result, ...more, guarantee: { ...guarantee, ...changes } });

test("the promise is a sentence and two greys; of an α chosen after looking another one holds", () => {
  assert.deepEqual(words.promise(result, 0.05, false), {
    text: "In 9 of 10 spots of such pictures, the colours around every trusted point are right within this",
    error: 17,
  });
  assert.match(words.promise(told({ unit: "picture" }), 0.05, false).text, /^In 9 of 10 such pictures/);
  assert.match(words.promise(result, 0.07, true).text, /^On average over spots/);
  assert.equal(Math.round(words.promise(result, 0.07, true).error), 7);
  const labelled = told({
    plain: "In 19 of 20 such pictures nobody marks it, though α is chosen after looking.",
  });
  assert.deepEqual(words.promise(labelled, 0.05, true), {
    text: "In 19 of 20 such pictures nobody marks it.",
    error: null,
  });
});

test("where nothing is promised that is said in place of the promise, without a statistician's word", () => {
  const none = {
    promised: false,
    plain: "No promise. At most 1 in 50 pictures like those that were calibrated look as strange.",
  };
  for (const [changes, wanted] of [
    [{ out_of_distribution: true }, /unlike the pictures that the promise was measured on/],
    [{ input_class: { title: "GIF", n: 0 } }, /Too few files like this one were measured: GIF/],
    [{}, /Nothing is promised/],
  ]) {
    const { text, error } = words.promise(told(none, changes), 0.05, false);
    assert.match(text, wanted);
    assert.ok(words.isPlain(text) && error === null);
  }
  assert.equal(words.hasPromise(told(none)), false);
  for (const text of ["alpha=0.1 is", "the score σ", "calibrate again", "a mask", "pairs"])
    assert.equal(words.isPlain(text), false, text);
  assert.ok(words.isPlain("An alphabet on paired socks, windowless, in a masked ball"));
});

test("a level is asked for by its name, to be changed after looking where that may be", () => {
  const levels = [
    { name: "strict", alpha: 0.03 },
    { name: "balanced", alpha: 0.05 },
    { name: "lenient", alpha: 0.07 },
  ];
  for (const [upscaler, name, group, wanted] of [
    [{ levels }, "strict", "", { alpha: "0.03", guarantee: "post_hoc" }],
    [{ levels }, "balanced", "", { alpha: "", guarantee: "post_hoc" }],
    [{ levels }, "lenient", "faces", { alpha: "0.07", guarantee: "" }],
    [{ levels: levels.slice(1, 2) }, "strict", "", { alpha: "", guarantee: "" }],
    [{}, "balanced", "", { alpha: "", guarantee: "" }],
  ])
    assert.deepEqual(words.levelFields(upscaler, name, group), wanted);
});

test("what may be chosen after looking is a range, or the ends of a menu, or nothing", () => {
  const of = (changes) => words.promised({ guarantee: { ...guarantee, ...changes } });
  assert.deepEqual(of({}), [0.03, 0.07]);
  assert.deepEqual(of({ between: null, menu: [0.1, 0.12, 0.2] }), [0.1, 0.2]);
  assert.equal(of({ kind: "expectation" }), null);
});

test("what is unlike the calibration images is grave; what was done to it has a name", () => {
  const grave = { ...result, warnings: ["Unlike."], out_of_distribution: true };
  assert.deepEqual(words.alertsOf(grave), { lines: ["Unlike."], grave: true });
  assert.deepEqual(words.alertsOf(result), { lines: [], grave: false });
  assert.equal(words.done({ scale: 1 }), "restored");
});

test("sizes are told as people ask for them", () => {
  const fields = (name) => words.SIZES[name][1];
  assert.deepEqual(["", "x2", "4k"].map(fields), [{}, { scale: "2" }, { to: "3840" }]);
});

test("a file that is broken says only that", () => {
  const error = { slug: "bad-image", message: "The image cannot be decoded: … (13 bytes not processed)." };
  assert.equal(words.faultOf(error), "This file is damaged or incomplete.");
  assert.equal(words.faultOf({ slug: "", message: "Full." }), "Full.");
});

test("what takes long is told, of the slowest model that may answer, with its mask", async () => {
  const { paces, ratio } = await at("upscale/state.js");
  const slow = { name: "slow", seconds_per_megapixel: 45, samples: 1, scale: 4, default: true };
  const models = [{ ...slow, name: "quick", seconds_per_megapixel: 3 }, slow];
  const listed = [{ ...slow, name: "auto" }, ...models];
  assert.deepEqual(words.answering(listed, "auto"), models);
  assert.deepEqual(words.answering(listed, "quick"), [models[0]]);
  const usual = { paces: {}, ratio: 2 };
  const plan = words.planOf(models, usual, 4000, 3000);
  assert.deepEqual(plan, { seconds: 1080, width: 16000, height: 12000 });
  assert.match(words.planWords(plan), /about 18 min, and gives 16,000 × 12,000 pixels$/);
  assert.equal(words.fitFor(plan, 4, 30), 600);
  assert.equal(words.planOf(models, usual, 4000, 3000, { fit: "400" }).seconds, 10.8);
  assert.equal(words.planOf(models, usual, 4000, 3000, { to: "8000" }).height, 6000);
  assert.equal(words.planOf(models, usual, 4000, 3000, { scale: "2" }).height, 6000);
  assert.equal(words.planOf([{ ...slow, seconds_per_megapixel: null }], usual, 9, 9), null);
  const timings_ms = { wait: 500, samples: 1000, sigma: 200, mask: 300 };
  const seen = { upscaler: "slow", scale: 4, width: 4000, height: 4000, timings_ms };
  const pictures = [{ state: "done", result: seen }, { state: "failed" }];
  assert.deepEqual([paces({ pictures }), ratio({ pictures })], [{ slow: 2 }, 1.5]);
  assert.equal(words.planOf([slow], { paces: { slow: 2 }, ratio: 2 }, 1000, 1000).seconds, 2);
});

test("a job that is far away says so, and nothing of any moment now", () => {
  const picture = { state: "running", isLost: true, progress: { done: 3, total: 4, unit: "tiles" } };
  assert.match(words.stateWords(picture), /connection is lost/);
  assert.match(words.stateWords({ state: "away", left: 4 }), /cannot be reached; again in 4 s/);
  assert.match(words.stateWords({ state: "queued", isAway: true }), /service tries again/);
  const cold = { state: "running", cold: 90, progress: { done: 0, total: 4, unit: "samples" } };
  assert.match(words.stateWords(cold), /cold start takes up to 90 s/);
});

test("the page that people share holds its pictures and its viewer, and names are text in it", async () => {
  globalThis.FileReader = class {
    readAsDataURL(blob) {
      this.result = `data:${blob}`;
      this.onload();
    }
  };
  const { shared, viewerScript } = await at("upscale/share.js");
  const script = await viewerScript((path) =>
    readFileSync(new URL(`../../../app/web/static/js/upscale/${path}`, import.meta.url), "utf8"),
  );
  assert.ok(!/^(import|export) /m.test(script));
  new Function(`async () => {${script}}`); // no name is declared twice
  const name = '<img src=x onerror="alert(1)">';
  const said = { name, trusted: "9 %", sentence: "In 9 of 10 …", origin: "res-1" };
  const page = (soft) => shared({ made: "a", mask: "b", soft }, said, script);
  const text = await page("c");
  for (const part of ['id="soft" src="data:c"', "&#60;img src=x", "In 9 of 10 …", 'data-view="believable"'])
    assert.ok(text.includes(part), part);
  assert.ok(!/https?:|<img src=x/.test(text));
  assert.ok(!(await page(null)).includes('data-view="believable"'));
});

test("why not here: what was added to the file, against the trusted places; else what else is known", async () => {
  const { added, neighbourhood, reason } = await at("upscale/why.js");
  const flat = new Uint8ClampedArray(4 * 256).fill(90);
  const rough = flat.map((_, i) => ((i >> 2) % 2 ? 120 : 60));
  assert.equal(added(flat, flat), 0);
  assert.ok(Math.abs(added(rough, flat) - 900) < 1e-6);
  const jpeg = { input_class: { name: "jpeg-30", title: "JPEG of quality 30 to 49" }, samples: 1 };
  assert.equal(reason(12, jpeg), "Far more fine detail than your file contains.");
  assert.match(reason(2, jpeg), /More detail/);
  assert.match(reason(1, jpeg), /JPEG of quality 30/);
  assert.match(reason(1, { ...jpeg, input_class: null }), /picture around it/);
  assert.equal(neighbourhood({ guarantee: { theorem: "Gaussian neighbourhood of 4 px" } }), 4);
});
