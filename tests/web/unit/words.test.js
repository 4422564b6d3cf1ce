// What the page says about a picture and its promise, word for word.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at } from "./page.js";

const words = await at("upscale/words.js");
const paint = await at("upscale/paint.js");

const guarantee = {
  kind: "post_hoc",
  between: [0.05, 0.15],
  sentence: "In 9 of 10 …",
  alpha: 0.1,
  bound: 0.5,
  applicability: "exact",
};
const result = { guarantee, alpha: 0.1, trusted_fraction: 0.5, warnings: [], typicality: 0.5, unusual: false };

test("the service's sentence is of the α asked for; of another the page says what holds", () => {
  const said = (alpha, isMoved, changes = {}) =>
    words.promise({ ...result, guarantee: { ...guarantee, ...changes } }, alpha, isMoved);
  for (const same of [said(0.1, false), said(0.3, true, { kind: "expectation" })])
    assert.equal(same, guarantee.sentence);
  assert.equal(said(0.07, true, { applicability: "unknown" }), guarantee.sentence);
  assert.match(said(0.07, true), /at most 1 time that level, here 0.07\.$/);
  assert.match(said(0.3, true), /here 0.15\.$/); // masks of larger α are that of the largest
  assert.match(said(0.3, true, { between: null, menu: [0.1, 0.2] }), /here 0.2\.$/);
  assert.match(said(0.07, true, { applicability: "per_window" }), /window placed at random/);
});

/** A table of t_α and these trusted areas. */
const rows = (...areas) =>
  [0.025, 0.05, 0.075, 0.1, 0.15, 0.2].map((alpha, k) => ({ alpha, threshold: 1, trusted_fraction: areas[k] }));

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
  const own = { table: [], default_alpha: 0.1, min_alpha: 0.01, looksFirst: true, classes: classesOf([easy, hard]) };
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
  const table = [0.025, 0.05, 0.075, 0.1, 0.15, 0.2].map((alpha) => ({ alpha, trusted_fraction: 2 * alpha }));
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
  const command = words.curl({ origin: "http://x", name: 'a"b', result: asked, needsKey: true });
  for (const part of ["group=faces'", "guarantee=post_hoc'", `image=@"a\\"b"'`, '"Authorization: Bearer $TRUSTSCALE_KEY"'])
    assert.ok(command.includes(part), part);
});

test("the marking is pink, unless the picture is full of it", () => {
  const [grey, pink] = [0xff808080, 0xff8c00e0];
  assert.deepEqual(paint.standingOut(Array(9).fill(grey)), [224, 0, 140]);
  assert.deepEqual(paint.standingOut(Array(9).fill(pink)), [255, 208, 0]);
});
