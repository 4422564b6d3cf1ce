// What the page says about a picture and its promise, word for word.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at } from "./page.js";

const words = await at("upscale/words.js");
const paint = await at("upscale/paint.js");

const range = { kind: "post_hoc", between: [0.05, 0.15], applicability: "exact" };
const guarantee = { ...range, sentence: "In 9 of 10 …", alpha: 0.1, bound: 0.5 };
const usual = { trusted_fraction: 0.5, warnings: [], typicality: 0.5, unusual: false };
const result = { ...usual, guarantee, alpha: 0.1 };

test("the service's sentence is of the α asked for; of another the page says what holds", () => {
  const said = (alpha, isMoved, changes = {}) =>
    words.promise({ ...result, guarantee: { ...guarantee, ...changes } }, alpha, isMoved);
  for (const same of [said(0.1, false), said(0.3, true, { kind: "expectation" })])
    assert.equal(same, guarantee.sentence);
  assert.equal(said(0.07, true, { applicability: "unknown" }), guarantee.sentence);
  assert.match(said(0.07, true), /at most that level, here 0.07\.$/);
  assert.match(said(0.3, true), /here 0.15\.$/); // masks of larger α are that of the largest
  assert.match(said(0.3, true, { between: null, menu: [0.1, 0.2] }), /here 0.2\.$/);
  assert.match(said(0.07, true, { applicability: "per_window" }), /window placed at random/);
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
  assert.deepEqual(words.apart(0.1, 0.10003), ["0.1", "0.10003"]);
});

test("what is unlike the calibration images is grave; what was done to it has a name", () => {
  const grave = { ...result, warnings: ["Unlike."], unusual: true };
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

test("the marking is pink, unless the picture is full of it", () => {
  const [grey, pink] = [0xff808080, 0xff8c00e0];
  assert.deepEqual(paint.standingOut(Array(9).fill(grey)), [224, 0, 140]);
  assert.deepEqual(paint.standingOut(Array(9).fill(pink)), [255, 208, 0]);
});

test("the veil lies on the untrusted side of the result, and is seen on black; the input has lines only", () => {
  const [colour, black] = [[224, 0, 140], 0xff000000];
  const pixels = new Uint32Array(16).fill(black);
  const untrusted = paint.untrustedLook("contour", pixels, 8, 0, colour);
  assert.ok((untrusted[0] & 255) > 100); // red, where the picture has none
  const codes = Uint16Array.from([9, 9, 9, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0, 9, 9, 9]);
  const shown = (given) => {
    const out = new Uint32Array(16);
    const view = { look: "contour", limit: 5, width: 8, edge: 4, outlines: true };
    paint.choose({ ...view, codes, pixels, untrusted, colour, out, ...given });
    const names = new Map([
      [black, "."],
      [0xffffffff, "w"],
      [untrusted[0], "v"],
    ]);
    return [...out.subarray(0, 8)].map((pixel) => names.get(pixel) ?? "c").join("");
  };
  assert.equal(shown({}), ".wc..cwv");
  assert.equal(shown({ outlines: false }), ".....cwv");
  assert.equal(shown({ look: "mask", untrusted: pixels }), "....w...");
});

test("transparent parts are a checkerboard that moves with the picture, and are not marked", () => {
  const pixels = new Uint32Array(32).fill(0);
  pixels[3] = 0xff112233;
  const codes = new Uint16Array(32).fill(65535);
  paint.checkered(pixels, codes, 32, 0, 0);
  assert.equal(pixels[3], 0xff112233);
  assert.deepEqual([codes[3], codes[4]], [65535, 0]);
  assert.deepEqual([pixels[0], pixels[8], pixels[16]], [0xffd0d0d0, 0xfff4f4f4, 0xffd0d0d0]);
  assert.match(words.pixel({ x: 1, y: 2, isClear: true }, {}), /transparent/);
});

test("what takes long is told in minutes and megapixels, and how small it would be quick", () => {
  const upscaler = { seconds_per_megapixel: 45, samples: 1, scale: 4 };
  const plan = words.planOf(upscaler, 4000, 3000);
  assert.deepEqual(plan, { seconds: 540, width: 16000, height: 12000 });
  assert.match(words.planWords(plan), /about 9 min, and gives 16,000 × 12,000 pixels, 190 megapixels$/);
  assert.equal(words.fitFor(plan, 4, 30), 900);
  assert.equal(words.planOf(upscaler, 4000, 3000, { fit: "400" }).seconds, 5.4);
  assert.equal(words.planOf(upscaler, 4000, 3000, { to: "8000" }).height, 6000);
  assert.equal(words.planOf({ ...upscaler, seconds_per_megapixel: null }, 9, 9), null);
});

test("a job that is far away says so, and nothing of any moment now", () => {
  const picture = { state: "running", isLost: true, progress: { done: 3, total: 4, unit: "tiles" } };
  assert.match(words.stateWords(picture), /connection is lost/);
  assert.match(words.stateWords({ state: "away", left: 4 }), /cannot be reached; again in 4 s/);
  assert.match(words.stateWords({ state: "queued", isAway: true }), /service tries again/);
  const cold = { state: "running", cold: 90, progress: { done: 0, total: 4, unit: "samples" } };
  assert.match(words.stateWords(cold), /cold start takes up to 90 s/);
});

test("a page for others holds all of its pictures, and names are text in it", async () => {
  globalThis.FileReader = class {
    readAsDataURL(blob) {
      this.result = `data:${blob}`;
      this.onload();
    }
  };
  const { shared } = await at("upscale/share.js");
  const name = '<img src=x onerror="alert(1)">';
  const said = { name, trusted: "9 %", sentence: "In 9 of 10 …", origin: "res-1" };
  const page = (input) => shared({ image: "a", marked: "b", input }, said, { width: 4, height: 3 });
  const text = await page("c");
  for (const part of ['class="input" src="data:c"', "&#60;img src=x", "In 9 of 10 …", 'type="range"'])
    assert.ok(text.includes(part));
  assert.ok(!/https?:|<img src=x/.test(text));
  assert.ok(!(await page(null)).includes('id="share"'));
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
  assert.match(first, /far more than your picture holds here: 12 times/);
  assert.match(second, /finer detail.*3.0 times/);
  assert.match(third, /JPEG of quality 30/);
  assert.match(reasons({ detail: 1, added: 1 }, { ...jpeg, input_class: null })[0], /picture around it/);
  assert.equal(neighbourhood({ guarantee: { statement: "Gaussian neighbourhood of 4 px" } }), 4);
});

test("what is usual of a kind of upload, at the error that was accepted", () => {
  const tables = { post_hoc: rows(0, 0.2, 0.3, 0.4, 0.5, 0.6) };
  const upscaler = { classes: [{ name: "jpeg-30", tables }], table: rows(9) };
  const asked = { ...result, input_class: { name: "jpeg-30" } };
  assert.equal(words.usualShare(upscaler, asked), 0.4);
  assert.equal(words.usualShare(upscaler, { ...asked, input_class: { name: "gif" } }), null);
});
