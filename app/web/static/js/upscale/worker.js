// Decodes a result away from the page, which stays responsive.

import { cumulative } from "./levels.js";
import { decodeGrey16 } from "./png16.js";
import { codePyramid } from "./pyramid.js";

addEventListener("message", async ({ data: { id, image, trust } }) => {
  try {
    const [pictures, codes] = await Promise.all([picturePyramid(image), decodeGrey16(trust)]);
    const counts = cumulative(codes.data);
    const levels = codePyramid(codes);
    const moved = [...pictures, counts.buffer, ...levels.map((level) => level.data.buffer)];
    postMessage({ id, pictures, levels, counts }, moved);
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
});

/** The picture, then halves of halves, as bitmaps. */
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
