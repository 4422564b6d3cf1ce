// Which words of a picture the page calls right.

import assert from "node:assert/strict";
import { test } from "node:test";
import { at, textOf } from "./page.js";

const word = (text, trust_level) => ({
  text,
  trust_level,
  box: [
    [0, 0],
    [9, 0],
    [9, 4],
    [0, 4],
  ],
});
const words = [word("Exit", 0.02), word("42", 0.06), word("Zg", null)];

test("a word is trusted from its level on, and never without one", async () => {
  const { isTrusted } = await at("upscale/lettering.js");
  assert.deepEqual(
    words.map((one) => isTrusted(one, 0.05)),
    [true, false, false],
  );
  assert.deepEqual(
    words.map((one) => isTrusted(one, 1)),
    [true, true, false],
  );
});

test("what is said of words", async () => {
  const { said } = await at("upscale/lettering.js");
  assert.equal(said(words, 0.1), "“Exit 42” 1 word is not to be relied on.");
  assert.equal(said(words, 0), "3 words are not to be relied on.");
  assert.equal(said(words.slice(0, 1), 0.1), "“Exit”");
  assert.equal(said([], 0.1), "No text was found.");
});
