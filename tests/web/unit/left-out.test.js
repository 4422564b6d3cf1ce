// Faces and letters that were left out of a mask.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at } from "./page.js";

const square = (left, top, side) => [
  [left, top],
  [left + side, top],
  [left + side, top + side],
  [left, top + side],
];
const face = (box) => ({ kind: "face", box, why: "A face. Nobody can promise who this is." });
const text = (box) => ({ kind: "text", box, why: "Text that nobody reads." });

test("answers of before have nothing that was left out", async () => {
  const { leftOutOf } = await at("upscale/left-out.js");
  assert.deepEqual(leftOutOf({}), []);
  assert.deepEqual(leftOutOf({ left_out: null }), []);
  assert.equal(leftOutOf({ left_out: [face(square(0, 0, 9))] }).length, 1);
});

test("what was left out is counted by kind", async () => {
  const { counted } = await at("upscale/left-out.js");
  const box = square(0, 0, 9);
  assert.equal(counted([]), "");
  assert.equal(counted([face(box)]), "1 face");
  assert.equal(counted([face(box), face(box), text(box)]), "2 faces and 1 piece of text");
});

test("a tap finds the thing around it, whichever way its corners go", async () => {
  const { thingAt } = await at("upscale/left-out.js");
  const turned = [
    [20, 0],
    [30, 10],
    [20, 20],
    [10, 10],
  ];
  const things = [text(turned), face(square(40, 40, 8).reverse())];
  assert.equal(thingAt(things, { x: 20, y: 9 }), things[0]);
  assert.equal(thingAt(things, { x: 12, y: 2 }), undefined);
  assert.equal(thingAt(things, { x: 44, y: 47 }), things[1]);
  assert.equal(thingAt(things, { x: 44, y: 48 }), undefined);
});
