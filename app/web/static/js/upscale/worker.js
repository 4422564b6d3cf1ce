// Decodes a result away from the page, which stays responsive.

import { codePyramid, cumulative } from "./levels.js";
import { standingOut } from "./paint.js";
import { decodeGrey16 } from "./png16.js";

const LOOKED_AT = 128; // pixels per side are enough to see which colours a picture has

addEventListener("message", async ({ data: { image, trust } }) => {
  try {
    const [pictures, codes] = await Promise.all([picturePyramid(image), decodeGrey16(trust)]);
    const counts = cumulative(codes.data);
    const levels = codePyramid(codes);
    const colour = standingOut(sampled(pictures.at(-1)));
    const moved = [...pictures, counts.buffer, ...levels.map((level) => level.data.buffer)];
    postMessage({ pictures, levels, counts, colour }, { transfer: moved });
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
});

async function picturePyramid(blob) {
  const levels = [await createImageBitmap(blob)];
  for (let last = levels[0]; Math.max(last.width, last.height) > 512; levels.push(last)) {
    last = await createImageBitmap(last, {
      resizeWidth: (last.width + 1) >> 1,
      resizeHeight: (last.height + 1) >> 1,
      resizeQuality: "medium",
    });
  }
  return levels;
}

function sampled(bitmap) {
  const context = new OffscreenCanvas(LOOKED_AT, LOOKED_AT).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, LOOKED_AT, LOOKED_AT);
  return new Uint32Array(context.getImageData(0, 0, LOOKED_AT, LOOKED_AT).data.buffer);
}
