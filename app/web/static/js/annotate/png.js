// Labels as 1-bit grey PNG files, exact: a canvas gives altered pixels in browsers that guard against fingerprinting.

import { packed } from "./mask.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** white where data is 1, black where it is 0. */
export async function encoded({ width, height, data }) {
  const stride = 1 + Math.ceil(width / 8); // each row begins with its filter: 0, none
  const rows = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    rows.set(packed(data.subarray(y * width, (y + 1) * width)), y * stride + 1);
  }
  const deflated = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 1);
  const parts = [
    new Uint8Array(SIGNATURE),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", new Uint8Array(await new Response(deflated).arrayBuffer())),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let k = 0; k < 4; k += 1) bytes[4 + k] = name.charCodeAt(k);
  bytes.set(data, 8);
  let crc = 0xffffffff; // of name and data
  for (let k = 4; k < 8 + data.length; k += 1) crc = CRC_TABLE[(crc ^ bytes[k]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, (crc ^ 0xffffffff) >>> 0);
  return bytes;
}
