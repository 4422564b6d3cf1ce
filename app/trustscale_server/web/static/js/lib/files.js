// Files that are dropped, those of folders among them.

/** Each as {file, path}. To be called within the event: later the browser forgets what was dropped. */
export async function droppedFiles({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...files].map((file) => ({ file, path: file.name }));
  return (await Promise.all(entries.map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: (entry.fullPath ?? file.name).replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const files = [];
  // A folder tells of a hundred entries at a time.
  for (let some = null; some?.length !== 0;) {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    files.push(...(await Promise.all(some.map(inside))).flat());
  }
  return files;
}
