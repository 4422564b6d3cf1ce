// Pixels: files of 16 bits, the codes of α, and what is drawn on a label.

import assert from "node:assert/strict";
import { test } from "node:test";
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

/** Codes with a clump, a speck, a narrow gap and noise. */
function scene(width = 90, height = 70) {
  const data = Uint16Array.from({ length: width * height }, (_, k) => {
    const [x, y] = [k % width, Math.floor(k / width)];
    const isClump = Math.hypot(x - 30, y - 30) < 18 && Math.abs(x - 30) > 0;
    return isClump || (x === 80 && y === 60) ? 50_000 : (x * 7919 + y * 104_729) % 900;
  });
  return { width, height, data };
}

test("what is marked holds all that is not trusted, at every zoom; narrow trusted gaps are filled", async () => {
  const { codePyramid, markLevels } = await at("upscale/levels.js");
  const { drawMarks, gridOf, tableOf } = await at("upscale/paint.js");
  const codes = { ...scene(), cell: 1 };
  const layer = { ...codes, codes, marks: markLevels(codePyramid(codes)) };
  const table = Uint32Array.from({ length: 256 }, (_, f) => f);
  const draw = (scale, limit) => {
    const view = { scale, x: 3, y: -2 };
    const area = { x0: 0, y0: 0, x1: Math.ceil(90 * scale), y1: Math.ceil(70 * scale) };
    const out = new Uint32Array(area.x1 * area.y1);
    const grid = gridOf(layer, view, 1);
    drawMarks(out, grid, limit, { view, density: 1 }, area, table);
    return { out, width: area.x1, height: area.y1, view, grid };
  };
  for (const scale of [0.4, 0.9, 1, 2.3, 5]) {
    for (const limit of [400, 1000]) {
      const { out, width, height, view } = draw(scale, limit);
      let marked = 0;
      for (let y = 0; y < height; y += 1)
        for (let x = 0; x < width; x += 1) {
          const [px, py] = [Math.floor((x + 0.5 - view.x) / scale), Math.floor((y + 0.5 - view.y) / scale)];
          const f = out[y * width + x] / 255;
          if (codes.data[py * 90 + px] > limit) assert.ok(f > 0.5, `${scale} ${limit} ${px} ${py} ${f}`);
          marked += f > 0.5 ? 1 : 0;
        }
      assert.ok(limit === 400 || (marked > 0 && marked < 0.6 * out.length));
    }
  }
  const { out, width, view } = draw(2.3, 1000);
  const shown = (x, y) =>
    out[Math.round(view.y + (y + 0.5) * 2.3) * width + Math.round(view.x + (x + 0.5) * 2.3)];
  assert.equal(shown(30, 30), 255); // the gap
  assert.equal(shown(70, 20), 0);

  // Near by it is the mask itself, with its border inside.
  const near = draw(7, 1000);
  assert.ok(near.grid.isExact);
  for (let y = 14; y < near.height; y += 1)
    for (let x = 0; x < near.width; x += 1) {
      const [px, py] = [Math.floor((x + 0.5 - 3) / 7), Math.floor((y + 0.5 + 2) / 7)];
      if (px >= 0 && px < 90 && py < 70)
        assert.equal(near.out[y * near.width + x] > 0, codes.data[py * 90 + px] > 1000);
    }
  const marks = tableOf(near.grid, { view: { scale: 7 }, density: 1 });
  assert.deepEqual([marks[0], marks[254] >>> 24 > 190, marks[255] >>> 24 < 190], [0, true, true]);
});

test("at most five doubts, apart and inside: faces, letters, then where most was added", async () => {
  const { gravest } = await at("upscale/doubts.js");
  const [width, height, cell] = [400, 240, 8];
  const strength = { width: 50, height: 30, cell, data: new Uint8Array(1500) };
  const put = (x, y, value) => {
    for (let dy = -2; dy <= 2; dy += 1)
      for (let dx = -2; dx <= 2; dx += 1) strength.data[(y + dy) * 50 + x + dx] = value;
  };
  const all = [
    [6, 6, 40],
    [30, 12, 90],
    [44, 24, 60],
    [10, 24, 5],
  ];
  for (const [x, y, value] of all) put(x, y, value);
  const codes = { width, height, data: new Uint16Array(width * height).fill(50_000) };
  const layer = { codes, strength, limit: 1000 };
  const near = ({ x, y }, [u, v]) => Math.hypot(x - (u + 0.5) * cell, y - (v + 0.5) * cell) < 3 * cell;
  const rings = gravest(layer);
  assert.equal(rings.length, 3); // what is far less than the gravest is none of them
  assert.ok(near(rings[0], all[1]) && near(rings[1], all[2]) && near(rings[2], all[0]));
  for (const { x, y, radius } of rings)
    assert.ok(x >= radius && y >= radius && x <= width - radius && y <= height - radius);
  assert.deepEqual(gravest({ ...layer, limit: 60_000 }), []); // trusted everywhere

  const square = (left, side) =>
    [0, 1, 2, 3].map((k) => [left + side * Number(k === 1 || k === 2), 80 + side * (k >> 1)]);
  const things = [20, 60, 100, 140, 180].map((left) => ({ kind: "text", box: square(left, 12) }));
  const face = { kind: "face", box: square(300, 30) };
  const found = gravest(layer, [...things, face]);
  assert.deepEqual([found.length, found[0].thing, found[1].thing.kind], [5, face, "text"]);
});

test("a doubt is drawn as strongly as was added there times how grave it is; flat places are not marked", async () => {
  const { inkOf } = await at("upscale/doubts.js");
  const { codePyramid, markLevels } = await at("upscale/levels.js");
  const { drawMarks, inkFor, tableOf } = await at("upscale/paint.js");
  const of = (added, codes, limit) => {
    const grid = { width: added.length, height: 1, cell: 8, data: new Uint8Array(added) };
    return [...inkOf({ ...grid, added: new Float32Array(added), codes: new Uint16Array(codes) }, limit).data];
  };
  const [flat, little, more, most] = of([2.9, 4, 10, 250], [65535, 9000, 9000, 65535], 1000);
  assert.ok(flat === 0 && 0 < little && little < more && more < most && most === 255);
  const [mild, grave] = of([10, 10], [1200, 9000], 1000);
  assert.ok(0 < mild && mild < grave);
  assert.ok(of([10], [9000], 8000)[0] < grave); // less strict, so less grave

  // Doubted everywhere; in the left half nothing was added, in the right one much.
  const codes = { width: 128, height: 64, cell: 1, data: new Uint16Array(128 * 64).fill(65535) };
  const added = Float32Array.from({ length: 16 * 8 }, (_, k) => (k % 16 < 8 ? 0 : 200));
  const strength = { width: 16, height: 8, cell: 8, added, codes: new Uint16Array(128).fill(65535) };
  const layer = { ...codes, codes, strength, marks: markLevels(codePyramid(codes)), limit: 1000 };
  const scene = { view: { scale: 1, x: 0, y: 0 }, density: 1 };
  const draw = (ink, levels) => {
    const out = new Uint32Array(128 * 64);
    const table = tableOf(layer.marks[0], scene, levels);
    drawMarks(out, layer.marks[0], 1000, scene, { x0: 0, y0: 0, x1: 128, y1: 64 }, table, ink);
    return (from, to) =>
      out.filter((_, k) => k % 128 >= from && k % 128 < to).reduce((sum, one) => sum + (one >>> 24), 0);
  };
  const opacity = draw(inkFor(layer), 16);
  const alike = draw(null, 1);
  assert.equal(opacity(0, 56), 0);
  assert.equal(opacity(72, 128), alike(72, 128)); // full ink
  assert.ok(alike(0, 56) > 0); // what was added is not known
  assert.ok(0 < opacity(60, 68) && opacity(60, 68) < alike(60, 68)); // no step between cells
});

test("the slider covers the promised range, from end to end", async () => {
  const { alphaOf, axis, codeAt, placeOf } = await at("upscale/levels.js");
  const own = axis([0.05, 0.15], 0.5);
  for (const [place, alpha] of [
    [0, 0.05],
    [1, 0.15],
  ]) {
    assert.ok(Math.abs(alphaOf(codeAt(own, place), 0.5) - alpha) < 0.5 / 65_534);
    assert.equal(placeOf(own, codeAt(own, place)), place);
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
