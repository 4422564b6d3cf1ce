// What the page says about a picture and its promise, word for word.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { at } from "./page.js";

const words = await at("upscale/words.js");

const range = { kind: "post_hoc", between: [0.03, 0.07], promised: true, unit: "spot", error_unit: "lab" };
const plain =
  "In 9 of 10 spots of pictures like those measured, mean colours around trusted points are right within 10 of 100 steps of " +
  "lightness, even if this α was chosen after looking. Fine detail may be invented.";
const guarantee = { ...range, plain, alpha: 0.05, bound: 0.5 };
const usual = { trusted_fraction: 0.5, warnings: [] };
const result = { ...usual, guarantee, alpha: 0.05, input_class: { name: "jpeg-30", title: "JPEG", n: 40 } };
const told = (changes, more = {}) => ({ ...result, ...more, guarantee: { ...guarantee, ...changes } });

test("the promise is a sentence and two greys; of an α chosen after looking another one holds", () => {
  assert.deepEqual(words.promise(result, 0.05, false), {
    text: "In 9 of 10 spots of pictures like those measured, mean colours around trusted points are right within this",
    error: 10,
  });
  assert.match(words.promise(told({ unit: "picture" }), 0.05, false).text, /^In 9 of 10 pictures like/);
  for (const [alpha, steps] of [
    [0.07, 14],
    [0.03, 6],
    [0.2, 14],
  ]) {
    const { text, error } = words.promise(result, alpha, true);
    assert.match(text, /^In 9 of 10 spots/);
    assert.equal(Math.round(error), steps);
  }
  const labelled = told({
    plain: "In 19 of 20 pictures, nobody marks it, even if α was chosen after looking.",
  });
  assert.deepEqual(words.promise(labelled, 0.05, true), {
    text: "In 19 of 20 pictures, nobody marks it.",
    error: null,
  });
});

test("where nothing is promised that is said in place of the promise, without a statistician's word", () => {
  const none = {
    promised: false,
    plain: "No promise. The calibration has too few uploads like this one.",
  };
  for (const [changes, wanted] of [
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

test("a picture without a promise is grave; what was done to it has a name", () => {
  const grave = told({ promised: false }, { warnings: ["None."] });
  assert.deepEqual(words.alertsOf(grave), { lines: ["None."], grave: true });
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
  assert.deepEqual(plan, { seconds: 1080, longest: 4000, width: 16000, height: 12000 });
  assert.match(words.planWords(plan), /about 18 min, and gives 16,000 × 12,000 pixels$/);
  // Half a minute would give less than was sent.
  assert.deepEqual(words.reduced(plan, 4, 30), { fit: 2000, seconds: 270, side: 8000 });
  const small = words.planOf(models, usual, 1200, 900);
  assert.deepEqual(words.reduced(small, 4, 30).fit, 600);
  assert.equal(words.reduced({ ...plan, longest: 4000, width: 4000, height: 3000 }, 1, 30), null);
  const limited = models.map((one) => ({ ...one, max_pixels: 24e6 }));
  const large = words.planOf(limited, usual, 9000, 9000);
  assert.equal(large.most, 4800);
  assert.equal(words.reduced(large, 4, 30).fit, 4500);
  assert.match(
    words.stateWords({ state: "asking", plan: large }),
    /larger than the service takes: at most 4,800 px/,
  );
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
  assert.match(words.stateWords({ state: "away", left: 4 }), /^Offline. Retrying in 4 s/);
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
    readFileSync(
      new URL(`../../../app/trustscale_server/web/static/js/upscale/${path}`, import.meta.url),
      "utf8",
    ),
  );
  assert.ok(!/^(import|export) /m.test(script));
  new Function(`async () => {${script}}`); // no name is declared twice
  const name = '<img src=x onerror="alert(1)">';
  const said = { name, trusted: "9 %", sentence: "In 9 of 10 …", origin: "res-1" };
  const page = (soft) => shared({ made: "a", mask: "b", soft }, said, [{ x: 1, y: 2, radius: 3 }], script);
  const text = await page("c");
  for (const part of ['id="soft" src="data:c"', "&#60;img src=x", "In 9 of 10 …", 'data-view="original"'])
    assert.ok(text.includes(part), part);
  assert.ok(!/https?:|<img src=x/.test(text));
  assert.ok(!(await page(null)).includes('data-view="original"'));
});

test("why here: the cause that the pixels show, and nothing that was not compared", async () => {
  const { measured, neighbourhood, reason } = await at("upscale/why.js");
  const side = 64;
  const painted = (value) =>
    Uint8ClampedArray.from({ length: 4 * side * side }, (_, k) => value((k >> 2) % side, (k >> 2) >> 6));
  const where = { side, block: 32, left: 0, top: 0 };
  const flat = painted(() => 90);
  const softEdge = painted((x) => 90 + 60 / (1 + Math.exp((32 - x) / 6)));
  let seed = 1;
  const noise = () => 60 + ((seed = (seed * 48_271) % 2_147_483_647) % 61);
  const blocks = painted((x, y) => 90 + 20 * (((x >> 5) + (y >> 5)) & 1));
  const plain = { isText: false, isJpeg: false };
  for (const [made, sent, more, wanted] of [
    [flat, flat, plain, /added little/],
    [painted(() => 101), flat, plain, /tone was changed: your file is darker/],
    [painted((x) => (x < 32 ? 90 : 150)), softEdge, plain, /An edge was rebuilt/],
    [painted(noise), flat, plain, /Texture was invented/],
    [painted(noise), blocks, { ...plain, isJpeg: true }, /blocks of its compression/],
    [painted(noise), blocks, plain, /Texture was invented/],
    [painted(noise), flat, { ...plain, isText: true }, /Letters were redrawn/],
  ])
    assert.match(reason(measured(made, sent, where), more), wanted);
  assert.equal(neighbourhood({ guarantee: { theorem: "Gaussian neighbourhood of 4 px" } }), 4);
});

test("the number says what it is about; the error grows with every step towards lenience", () => {
  assert.equal(words.reliedOn(0.62, result), "62 % of it can be relied on for colour");
  assert.match(words.reliedOn(0.62, told({ error_unit: "ssim" })), /for structure$/);
  const of = (added) =>
    words.stateWords({ state: "done", result: { ...result, trusted_fraction: 0.9, added } });
  assert.equal(of({ held: 0.31 }), "31 % of the added detail holds up");
  assert.equal(of({ held: 0.04 }), "Nothing here can be relied on beyond your own file");
  assert.equal(of(null), "90 % of it can be relied on for colour");
  const errors = [0.03, 0.04, 0.05, 0.06, 0.07].map(
    (alpha) => words.promise(result, alpha, alpha !== 0.05).error,
  );
  assert.deepEqual(
    errors,
    [...errors].sort((a, b) => a - b),
  );
  const said = [0.03, 0.05, 0.07].map((alpha) => words.promise(result, alpha, alpha !== 0.05).text);
  assert.equal(new Set(said).size, 1);
});

test("the wall begins with what needs a look most", () => {
  const one = (id, result) => ({ id, result });
  const pictures = [
    one("waits"),
    one("real", { added: { held: 0.4 }, trusted_fraction: 0.1 }),
    one("colours", { added: { held: 0 }, trusted_fraction: 0.9 }),
    one("invented", { added: { held: 0 }, trusted_fraction: 0.2 }),
    one("no promise", { added: { held: null }, trusted_fraction: null }),
  ];
  const order = words.leastRealFirst(pictures).map(({ id }) => id);
  assert.deepEqual(order, ["no promise", "invented", "colours", "real", "waits"]);
});
