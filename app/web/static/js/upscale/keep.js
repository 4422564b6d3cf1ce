// The pictures of this browser, kept through reloads and crashes: IndexedDB, on this machine only.
// Where it is switched off (private windows of some browsers) pictures live as long as the page.

const NAME = "trustscale";
const PICTURES = "pictures";
const LONGEST_MS = 7 * 86_400_000;

let opened = null;

/** What a request of IndexedDB is answered. */
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

/** Keep a picture {id, created, …} as it is now. */
export const keep = (picture) => run("readwrite", (store) => store.put(picture));

export const forget = (id) => run("readwrite", (store) => store.delete(id));

/** All that is kept, the oldest first; what nobody came back to for a week is forgotten. */
export async function kept() {
  const all = (await run("readonly", (store) => store.getAll())) ?? [];
  const isOld = ({ created }) => Date.now() - created > LONGEST_MS;
  for (const { id } of all.filter(isOld)) forget(id);
  return all.filter((one) => !isOld(one)).sort((a, b) => a.created - b.created);
}
