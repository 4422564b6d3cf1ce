// Keeps the pictures of this browser in IndexedDB; without it (some private windows) they last as long as the page.

const NAME = "trustscale";
const PICTURES = "pictures";
const LONGEST_MS = 7 * 86_400_000;

let opened = null;

const answer = (call) =>
  new Promise((resolve, reject) => {
    call.onsuccess = () => resolve(call.result);
    call.onerror = () => reject(call.error);
  });

function database() {
  const call = indexedDB.open(NAME, 1);
  call.onupgradeneeded = () => call.result.createObjectStore(PICTURES, { keyPath: "id" });
  return answer(call);
}

/** Run a request on the store of pictures; null where nothing can be kept. */
async function run(mode, ask) {
  try {
    opened ??= database();
    return await answer(ask((await opened).transaction(PICTURES, mode).objectStore(PICTURES)));
  } catch {
    return null; // switched off or full: then they last as long as the page
  }
}

export const keep = (picture) => run("readwrite", (store) => store.put(picture));

export const forget = (id) => run("readwrite", (store) => store.delete(id));

/** All pictures, the oldest first; after a week they are forgotten. */
export async function kept() {
  const all = (await run("readonly", (store) => store.getAll())) ?? [];
  const isOld = ({ created }) => Date.now() - created > LONGEST_MS;
  for (const { id } of all.filter(isOld)) forget(id);
  return all.filter((one) => !isOld(one)).sort((a, b) => a.created - b.created);
}
