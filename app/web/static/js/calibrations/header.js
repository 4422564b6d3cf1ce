// What a file says about itself in its header: the kind of image, and its size as a viewer shows it.

const SIDEWAYS = new Set([5, 6, 7, 8]);

/** {kind, width, height} of the bytes of a PNG, JPEG or WebP file; null if it is none or damaged. */
export function imageHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const found = png(view) ?? jpeg(view) ?? webp(view);
    if (!found || !(found.width > 0 && found.height > 0)) return null;
    const { kind, width, height, orientation } = found;
    return SIDEWAYS.has(orientation) ? { kind, width: height, height: width } : { kind, width, height };
  } catch (error) {
    if (error instanceof RangeError) return null; // the file ends within its header
    throw error;
  }
}

function png(view) {
  if (view.getUint32(0) !== 0x89504e47 || view.getUint32(4) !== 0x0d0a1a0a) return null;
  const found = { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20) };
  for (let place = 8; place + 12 <= view.byteLength;) {
    const length = view.getUint32(place);
    const name = tag(view, place + 4);
    if (name === "eXIf") found.orientation = orientation(view, place + 8);
    if (name === "IEND") break;
    place += 12 + length;
  }
  return found;
}

function jpeg(view) {
  if (view.getUint16(0) !== 0xffd8) return null;
  let turned;
  for (let place = 2; ;) {
    if (view.getUint8(place) !== 0xff) return null;
    const marker = view.getUint8(place + 1);
    if (marker === 0xff) {
      place += 1;
      continue;
    }
    const length = view.getUint16(place + 2);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      const [height, width] = [view.getUint16(place + 5), view.getUint16(place + 7)];
      return { kind: "JPEG", width, height, orientation: turned };
    }
    if (marker === 0xe1 && tag(view, place + 4) === "Exif") turned ??= orientation(view, place + 10);
    place += 2 + length;
  }
}

function webp(view) {
  if (tag(view, 0) !== "RIFF" || tag(view, 8) !== "WEBP") return null;
  const found = { kind: "WebP" };
  for (let place = 12; place + 8 <= view.byteLength;) {
    const name = tag(view, place);
    const length = view.getUint32(place + 4, true);
    const data = place + 8;
    if (name === "VP8 " && !found.width) {
      found.width = view.getUint16(data + 6, true) & 0x3fff;
      found.height = view.getUint16(data + 8, true) & 0x3fff;
    } else if (name === "VP8L" && !found.width) {
      const bits = view.getUint32(data + 1, true);
      found.width = (bits & 0x3fff) + 1;
      found.height = ((bits >>> 14) & 0x3fff) + 1;
    } else if (name === "VP8X") {
      found.width = 1 + (view.getUint16(data + 4, true) | (view.getUint8(data + 6) << 16));
      found.height = 1 + (view.getUint16(data + 7, true) | (view.getUint8(data + 9) << 16));
    } else if (name === "EXIF") {
      const prefixed = tag(view, data) === "Exif";
      found.orientation = orientation(view, prefixed ? data + 6 : data);
    }
    place = data + length + (length & 1);
  }
  return found;
}

/** The orientation in a block of Exif data (a TIFF header and its first directory), or undefined. */
function orientation(view, start) {
  try {
    const little = view.getUint16(start) === 0x4949;
    const directory = start + view.getUint32(start + 4, little);
    const entries = view.getUint16(directory, little);
    for (let k = 0; k < entries; k += 1) {
      const entry = directory + 2 + 12 * k;
      if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

function tag(view, place) {
  return String.fromCharCode(...[0, 1, 2, 3].map((k) => view.getUint8(place + k)));
}
