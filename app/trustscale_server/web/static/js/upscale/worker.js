// Decodes a result away from the page, which stays responsive.

import { strengthOf } from "./doubts.js";
import { codePyramid, cumulative, markLevels } from "./levels.js";
import { decodeGrey16 } from "./png16.js";

const MOST_SOFT = 2048; // pixels a side of the enlarged upload: it holds no more detail

addEventListener("message", async ({ data: { image, trust, upload } }) => {
  try {
    const [pictures, codes] = await Promise.all([picturePyramid(image), decodeGrey16(trust)]);
    const { width, height } = pictures[0];
    const soft = upload && (await enlarged(upload, width, height).catch(() => null));
    const counts = cumulative(codes.data);
    const strength = soft && strengthOf(pictures[0], soft, codes);
    const marks = markLevels(codePyramid(codes));
    const buffers = [counts, codes.data, ...marks.map(({ data }) => data)].map(({ buffer }) => buffer);
    const transfer = [...pictures, ...(soft ? [soft] : []), ...buffers];
    postMessage({ width, height, pictures, soft, codes, marks, counts, strength }, { transfer });
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

async function enlarged(blob, width, height) {
  const small = await createImageBitmap(blob);
  const scale = Math.max(small.width / width, Math.min(1, MOST_SOFT / Math.max(width, height)));
  return createImageBitmap(small, {
    resizeWidth: Math.round(scale * width),
    resizeHeight: Math.round(scale * height),
    resizeQuality: "high",
  });
}
