// Decodes trust.png. Browsers give 8 of its 16 bits, which would move the mask.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const BYTES = 2; // per pixel
const UP = 2; // the filter that takes away the row above (PNG, 9.2)

/** {width, height, data: Uint16Array} of 16-bit grey as the service writes it. bytes: ArrayBuffer. Throws Error. */
export async function decodeGrey16(bytes) {
  const { width, height, packed } = readChunks(bytes);
  const rows = await inflate(packed, height * (1 + BYTES * width));
  return { width, height, data: unfilter(rows, width, height) };
}

function readChunks(bytes) {
  const view = new DataView(bytes);
  if (bytes.byteLength < 33 || SIGNATURE.some((byte, i) => view.getUint8(i) !== byte)) {
    throw new Error("not a PNG file");
  }
  let header = null;
  const packed = [];
  for (let at = 8; at + 12 <= bytes.byteLength;) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...new Uint8Array(bytes, at + 4, 4));
    if (at + 12 + length > bytes.byteLength) throw new Error("the PNG file is cut off");
    if (type === "IHDR") {
      header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12) };
      const [depth, colour, , , interlace] = new Uint8Array(bytes, at + 16, 5);
      if (depth !== 16 || colour !== 0 || interlace !== 0) throw new Error("not 16-bit grey");
    } else if (type === "IDAT") {
      packed.push(new Uint8Array(bytes, at + 8, length));
    } else if (type === "IEND") {
      return { ...header, packed };
    }
    at += 12 + length;
  }
  throw new Error("the PNG file is cut off");
}

/** Inflate the parts, which must hold `size` bytes. */
async function inflate(parts, size) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  if (rows.length !== size) throw new Error("the PNG file does not hold what its header says");
  return rows;
}

/** Undo the filter of each row, in place; the service filters all rows by the row above. */
function unfilter(rows, width, height) {
  const stride = BYTES * width;
  const out = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const row = rows.subarray(start + 1, start + 1 + stride);
    if (rows[start] !== UP) throw new Error("not a file of the service");
    for (let i = 0; i < stride; i += 1) row[i] += above[i];
    for (let x = 0, i = 0; x < width; x += 1, i += 2) out[y * width + x] = (row[i] << 8) | row[i + 1];
    above = row;
  }
  return out;
}
