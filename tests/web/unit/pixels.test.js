// Pixels: files of 16 bits, the codes of α, and what is drawn on a label.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import { at } from "./page.js";

test("all 16 bits come back of rows as the service packs them, from data in two parts", async () => {
  const { decodeGrey16 } = await at("upscale/png16.js");
  const [width, height] = [7, 10];
  const bytes = Buffer.alloc(2 * width * height).map((_, k) => (k + 1) ** 3 % 251);
  const chunk = (name, data) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    return Buffer.concat([length, Buffer.from(name), data, Buffer.alloc(4)]); // no checksum is read
  };
  const file = (filter) => {
    const rows = Array.from({ length: height }, (_, y) => {
      const at = (k) => bytes[k] - (bytes[k - 2 * width] ?? 0);
      return [filter, ...Array.from({ length: 2 * width }, (_, x) => at(2 * width * y + x))];
    });
    const packed = deflateSync(Uint8Array.from(rows.flat()));
    const parts = [
      chunk("IHDR", Buffer.from([0, 0, 0, width, 0, 0, 0, height, 16, 0, 0, 0, 0])),
      ...[packed.subarray(0, 50), packed.subarray(50)].map((part) => chunk("IDAT", part)),
      chunk("IEND", Buffer.alloc(0)),
    ];
    return new Uint8Array(Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts])).buffer;
  };
  const found = await decodeGrey16(file(2));
  const wanted = Array.from({ length: width * height }, (_, k) => bytes.readUInt16BE(2 * k));
  assert.deepEqual([found.width, found.height, [...found.data]], [width, height, wanted]);
  await assert.rejects(decodeGrey16(file(2).slice(0, -30)), /cut off/);
  await assert.rejects(decodeGrey16(file(1)), /not a file of the service/);
  const own = readFileSync(new URL("../../../app/web/static/img/first/trust.png", import.meta.url));
  assert.equal((await decodeGrey16(new Uint8Array(own).buffer)).width, own.readUInt32BE(16));
});

test("a code is ⌊α/B·65534⌋ for any α, and that of a multiple of B/65534 is the multiple's", async () => {
  const { alphaOf, codeOf } = await at("upscale/levels.js");
  for (const bound of [Math.sqrt(3), 3, 1]) {
    for (let code = 0; code < 65535; code += 1) assert.equal(codeOf(alphaOf(code, bound), bound), code);
    for (let k = 0; k < 500; k += 1) {
      const alpha = (k * 0.0073 + 0.0001234) % bound;
      assert.equal(codeOf(alpha, bound), Math.trunc((alpha / bound) * 65534));
    }
    assert.deepEqual([codeOf(-1, bound), codeOf(2 * bound, bound)], [0, 65534]);
  }
});

test("strokes and polygons set the pixels whose centres they cover, and are undone exactly", async () => {
  const { Mask } = await at("annotate/mask.js");
  const corners = [
    [2, 20],
    [36, 22],
    [15, 45],
  ].map(([x, y]) => ({ x, y }));
  const pixels = (inside) =>
    Array.from({ length: 40 * 30 }, (_, k) => Number(inside((k % 40) + 0.5, Math.floor(k / 40) + 0.5)));
  const onLine = (x, y) => {
    const way = Math.min(Math.max(((x - 10) * 15 + (y - 10) * 8) / (15 ** 2 + 8 ** 2), 0), 1);
    return Math.hypot(x - 10 - 15 * way, y - 10 - 8 * way) <= 3.45;
  };
  const inPolygon = (x, y) =>
    corners.every((a, k) => {
      const b = corners[(k + 1) % 3];
      return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x) > 0;
    });
  const line = pixels(onLine);
  const both = pixels((x, y) => onLine(x, y) || inPolygon(x, y));
  assert.ok(line.includes(1) && both.join() !== line.join());

  const mask = new Mask(40, 30);
  const step = (draw) => {
    mask.begin();
    draw();
    assert.ok(mask.end());
    return [...mask.data];
  };
  const drawn = step(() => mask.line({ x: 10, y: 10 }, { x: 25, y: 18 }, 6.9, 1));
  assert.deepEqual(drawn, line);
  const filled = step(() => mask.polygon(corners, 1));
  assert.deepEqual(filled, both);
  for (const [way, wanted] of [
    ["undo", line],
    ["undo", line.map(() => 0)],
    ["redo", line],
  ]) {
    mask[way]();
    assert.deepEqual([...mask.data], wanted);
  }
});
