// A picture with its marking from a mask file, where no levels of trust are at hand.

import { strengthOf } from "./doubts.js";
import { codePyramid, markLevels } from "./levels.js";
import { CpuPainter } from "./paint.js";

/** A layer as the painters draw it; what is not white to its last pixel is not trusted. */
export function masked(mask, picture, soft = null) {
  const { width, height } = mask;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(mask, 0, 0);
  const { data: bytes } = context.getImageData(0, 0, width, height);
  const data = Uint16Array.from({ length: width * height }, (_, k) => (bytes[4 * k] < 255 ? 65535 : 0));
  const codes = { width, height, data, cell: 1 };
  const marks = markLevels(codePyramid(codes));
  const strength = soft && strengthOf(picture, soft, codes);
  return { width, height, pictures: [picture], soft, codes, marks, strength, limit: 0, isOpaque: true };
}

/** Draw all of a layer on a canvas that is `width` pixels wide. */
export const drawWhole = (canvas, layer, width, density = 1) =>
  drawBox(canvas, layer, [0, 0, layer.width, layer.height], width, density);

/** Draw a box of a layer, [left, top, right, bottom] in its pixels, on a canvas that is `width` pixels wide. */
export function drawBox(canvas, layer, [left, top, right, bottom], width, density = 1) {
  const scale = width / (right - left);
  const screen = { width: Math.round(width), height: Math.round((bottom - top) * scale) };
  Object.assign(canvas, screen);
  const parts = [{ layer, mode: "marked", left: 0, right: screen.width }];
  new CpuPainter(canvas).draw({ view: { scale, x: -left * scale, y: -top * scale }, screen, density, parts });
}
