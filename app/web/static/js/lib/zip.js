// Zip files of parts that are compressed already: stored as they are.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of a Uint8Array, as zip and PNG define it. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A zip Blob of [{name, data: Blob}]; names in UTF-8, in all below 4 GiB. */
export async function zipped(files, date = new Date()) {
  const stamp = dosTime(date);
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, data } of files) {
    const bytes = new Uint8Array(await data.arrayBuffer());
    const label = new TextEncoder().encode(name);
    const facts = { crc: crc32(bytes), size: bytes.length, label, stamp };
    const head = record(0x04034b50, facts);
    parts.push(head, label, bytes);
    directory.push(record(0x02014b50, facts, offset), label);
    offset += head.length + label.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** The header before a file, or with an offset its entry in the directory at the end. */
function record(signature, { crc, size, label, stamp }, offset = null) {
  const entry = offset !== null;
  const view = new DataView(new ArrayBuffer(entry ? 46 : 30));
  let at = 0;
  const u16 = (value) => view.setUint16((at += 2) - 2, value, true);
  const u32 = (value) => view.setUint32((at += 4) - 4, value, true);
  u32(signature);
  if (entry) u16(20);
  u16(20);
  u16(0x0800); // names are UTF-8
  u16(0); // stored
  u16(stamp.time);
  u16(stamp.date);
  u32(crc);
  u32(size);
  u32(size);
  u16(label.length);
  u16(0);
  if (entry) {
    u16(0);
    u16(0);
    u16(0);
    u32(0);
    u32(offset);
  }
  return new Uint8Array(view.buffer);
}

function dosTime(date) {
  return {
    time: (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    date: ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
  };
}
