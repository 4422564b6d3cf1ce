// What the page says about a picture and its promise, word for word.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { at } from "./page.js";

const words = await at("upscale/words.js");

const range = { kind: "post_hoc", between: [0.05, 0.15], applicability: "exact" };
const guarantee = { ...range, plain: "In 9 of 10 …", alpha: 0.1, bound: 0.5 };
const usual = { trusted_fraction: 0.5, warnings: [], typicality: 0.5, out_of_distribution: false };
const result = { ...usual, guarantee, alpha: 0.1 };

test("the promise is a sentence and two greys; of an α chosen after looking another one holds", () => {
  const sentence =
    "In 9 of 10 such pictures nothing … is off by more than 0.16: 16 of the 100 steps of lightness.";
  const said = (alpha, isMoved, changes = {}) =>
    words.promise(
      { ...result, guarantee: { ...guarantee, unit: "lab", plain: sentence, ...changes } },
      alpha,
      isMoved,
    );
  assert.deepEqual(said(0.1, false), {
    text: "In 9 of 10 such pictures, no trusted spot is off by more than this",
    error: 16,
  });
  assert.match(said(0.1, false, { applicability: "per_window" }).text, /such parts of pictures/);
  assert.deepEqual(said(0.1, false, { plain: "Else." }), { text: "Else.", error: null });
  assert.match(said(0.07, true).text, /^On average/);
  assert.equal(Math.round(said(0.07, true).error), 7);
  assert.equal(said(0.07, true, { unit: "label" }).error, null);
  const none = { ...result, guarantee: { ...guarantee, applicability: "unknown" } };
  assert.equal(words.promise(none, 0.07, true).text, guarantee.plain);
  const warnings = ["… speaks about is 512×512: send a picture of at least 128×128 pixels, or calibrate …"];
  assert.match(
    words.promise({ ...none, warnings }, 0.1, false).text,
    /Too small for a promise: send at least 128×128/,
  );
});

test("what may be chosen after looking is a range, or the ends of a menu, or nothing", () => {
  const of = (changes) => words.promised({ guarantee: { ...guarantee, ...changes } });
  assert.deepEqual(of({}), [0.05, 0.15]);
  assert.deepEqual(of({ between: null, menu: [0.1, 0.12, 0.2] }), [0.1, 0.2]);
  assert.equal(of({ kind: "expectation" }), null);
});

const ALPHAS = [0.025, 0.05, 0.075, 0.1, 0.15, 0.2];

/** A table of t_α and these trusted areas. */
const rows = (...areas) => ALPHAS.map((alpha, k) => ({ alpha, threshold: 1, trusted_fraction: areas[k] }));

test("α after looking is asked for where every class can hold it, and only between its ends", () => {
  const [easy, hard] = [rows(0, 0.5, 0.6, 0.7, 0.8, 0.8), rows(0, 0.1, 0.2, 0.3, 0.4, 0.4)];
  const few = hard.map((row) => ({ ...row, threshold: "-inf" }));
  const classesOf = (tables) => tables.map((table) => ({ tables: { post_hoc: table } }));
  for (const [tables, answered, wanted] of [
    [[easy, hard], "jpeg-80", true],
    [[easy, few], "jpeg-80", false],
    [[easy, hard], "*", false],
    [[], "*", false],
  ]) {
    const given = { classes: classesOf(tables), calibrations: [{ classes: [answered] }] };
    assert.equal(words.looksFirst(given), wanted);
  }
  const usual = { table: [], default_alpha: 0.1, min_alpha: 0.01 };
  const own = { ...usual, looksFirst: true, classes: classesOf([easy, hard]) };
  assert.deepEqual(
    words.choices(own).map(({ name: _, ...one }) => one),
    [
      { alpha: 0.05, low: 0.1, high: 0.5 },
      { alpha: 0.1, low: 0.3, high: 0.7 },
      { alpha: 0.15, low: 0.4, high: 0.8 },
    ],
  );
  for (const [alpha, group, wanted] of [
    [null, "", "post_hoc"],
    [0.15, "", "post_hoc"],
    [0.2, "", ""],
    [0.02, "", ""],
    [0.1, "faces", ""],
  ])
    assert.equal(words.guaranteeFor(own, alpha, group), wanted);
});

test("Strict, Balanced and Lenient come from the calibration's table, as far as it has them", () => {
  const table = ALPHAS.map((alpha) => ({ alpha, trusted_fraction: 2 * alpha }));
  const own = { table, default_alpha: 0.1, min_alpha: 0.01 };
  for (const [changes, wanted] of [
    [{}, [0.05, 0.1, 0.15]],
    [{ min_alpha: 0.06 }, [0.075, 0.1, 0.15]],
    [{ min_alpha: 0.1 }, [0.1, 0.15]],
    [{ table: [] }, [0.1]],
  ])
    assert.deepEqual(
      words.choices({ ...own, ...changes }).map(({ alpha }) => alpha),
      wanted,
    );
});

test("what is unlike the calibration images is grave; what was done to it has a name", () => {
  const grave = { ...result, warnings: ["Unlike."], out_of_distribution: true };
  assert.deepEqual(words.alertsOf(grave), { lines: ["Unlike."], grave: true });
  assert.deepEqual(words.alertsOf(result), { lines: [], grave: false });
  assert.equal(words.done({ scale: 1 }), "restored");
});

test("the command repeats the request: group, quoted name, and the key by its variable", () => {
  const asked = { ...result, upscaler: "span-x4", seed: 7, group: "faces" };
  assert.match(words.curl({ origin: "", name: null, result: asked }), /YOUR-IMAGE.png/);
  const command = words.curl({ origin: "http://x", name: `a"b'c`, result: asked, needsKey: true });
  for (const part of [
    "group=faces'",
    "guarantee=post_hoc'",
    `image=@"a\\"b'\\''c"'`,
    "alpha=0.1'",
    '"Authorization: Bearer $TRUSTSCALE_KEY"',
  ])
    assert.ok(command.includes(part), part);
});

test("a typed α may have a comma; nothing is the calibration's own", async () => {
  const { fault, numberOf } = await at("upscale/intake.js");
  assert.deepEqual(["0,06", " 0.1 ", "", "−1"].map(numberOf), [0.06, 0.1, null, -1]);
  assert.deepEqual(
    ["0,06", "", "much", "−1"].map((text) => fault(text) === ""),
    [true, true, false, false],
  );
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

test("why not here: what was added and the fine detail, against the trusted places; then the file", async () => {
  const { energies, neighbourhood, reasons } = await at("upscale/why.js");
  const flat = new Float32Array(256).fill(90);
  const rough = flat.map((_, i) => (i % 2 ? 120 : 60));
  assert.deepEqual(energies(flat, flat, 16), { detail: 0, added: 0 });
  assert.deepEqual(energies(rough, flat, 16), { detail: 900, added: 900 });
  assert.equal(energies(rough, null, 16).added, null);
  const jpeg = { input_class: { name: "jpeg-30", title: "JPEG of quality 30 to 49" }, samples: 1 };
  const [first, second, third] = reasons({ detail: 3, added: 12 }, jpeg);
  assert.equal(first, "Far more fine detail than your file contains.");
  assert.match(second, /Finer detail/);
  assert.match(third, /JPEG of quality 30/);
  assert.match(reasons({ detail: 1, added: 1 }, { ...jpeg, input_class: null })[0], /picture around it/);
  assert.equal(neighbourhood({ guarantee: { theorem: "Gaussian neighbourhood of 4 px" } }), 4);
});

test("what is usual of a kind of upload, at the error that was accepted", () => {
  const tables = { post_hoc: rows(0, 0.2, 0.3, 0.4, 0.5, 0.6) };
  const upscaler = { classes: [{ name: "jpeg-30", tables }], table: rows(9) };
  const asked = { ...result, input_class: { name: "jpeg-30" } };
  assert.equal(words.usualShare(upscaler, asked), 0.4);
  assert.equal(words.usualShare(upscaler, { ...asked, input_class: { name: "gif" } }), null);
});
