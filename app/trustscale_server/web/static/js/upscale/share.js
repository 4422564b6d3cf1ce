// A result as one HTML file that needs no service: its pictures, its promise, and the viewer.

/** @returns {Promise<string>} */
const dataUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

// In this order each needs only those before it.
const MODULES = [
  "../viewport/geometry.js",
  "../viewport/viewport.js",
  "./levels.js",
  "./doubts.js",
  "./paint.js",
  "./masked.js",
  "./alone.js",
];

/** The text of the viewer as one script: modules without what binds them. */
export async function viewerScript(
  read = async (path) => (await fetch(new URL(path, import.meta.url))).text(),
) {
  const texts = await Promise.all(MODULES.map(read));
  return texts.map((text) => text.replace(/^import [^;]*;$/gm, "").replace(/^export /gm, "")).join("\n");
}

const HATCH = "repeating-linear-gradient(135deg, #fff8 0 1px, #0005 1px 2px, #0000 2px 6px)";

/**
 * parts: blobs {made, mask, soft (or null)}; words: {name, trusted, sentence, origin}; rings: of the gravest doubts.
 *
 * @param {{made: Blob, mask: Blob, soft: Blob | null}} parts
 */
export async function shared(parts, { name, trusted, sentence, origin }, rings, script) {
  const entries = Object.entries(parts).filter(([, blob]) => blob);
  const dataUrls = await Promise.all(entries.map(async ([part, blob]) => [part, await dataUrl(blob)]));
  const pictures = dataUrls.map(([part, url]) => `<img id="${part}" src="${url}" alt="" hidden>`);
  const views = Object.entries({
    checked: "Checked",
    marked: "All doubts",
    ...(parts.soft && { original: "Original" }),
  });
  const button = ([view, words], k) =>
    `<button data-view="${view}" aria-pressed="${k === 0}">${words}</button>`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(name)} · Trustscale</title>
<style>
* { box-sizing: border-box; }
body { margin: 0; height: 100dvh; display: grid; grid-template-rows: auto minmax(0, 1fr) auto; background: #111; color: #f2f1ed; font: 15px/1.5 "Source Sans 3", system-ui, sans-serif; }
header, footer { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; padding: 8px 16px; }
h1 { flex: 1; min-width: 8rem; margin: 0; font-size: 17px; overflow-wrap: anywhere; }
header b { color: #62c6cf; }
button { min-height: 44px; padding: 0 16px; border: 0; border-radius: 10px; background: #2a2d31; color: inherit; font: inherit; cursor: pointer; }
button[aria-pressed="true"] { background: #f2f1ed; color: #16191c; }
.stage { position: relative; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: grab; }
.legend { position: absolute; left: 16px; bottom: 8px; margin: 0; padding: 2px 10px; border-radius: 6px; background: #111c; pointer-events: none; }
[data-shown="marked"] .legend i { display: inline-block; width: 1.6em; height: .8em; margin-right: 6px; background: linear-gradient(90deg, #777 10%, #7770), ${HATCH} #777; outline: 1px solid #ff3caa; }
footer p { margin: 0; max-width: 60ch; }
footer small { color: #b3b9c0; }
</style>
<header><b>Trustscale</b><h1>${escaped(name)}</h1><div role="group" aria-label="View">${views.map(button).join("")}</div></header>
<div class="stage" data-rings="${escaped(JSON.stringify(rings))}"><canvas tabindex="0" role="application" aria-label="The picture: arrows, plus and minus move and zoom it"></canvas>
<p class="legend"><i></i><span id="legend"></span></p>${pictures.join("")}</div>
<footer><p><b>${escaped(trusted)}</b> ${escaped(sentence)}</p><small>Hold the picture to see what was sent. ${escaped(origin)}</small></footer>
<script type="module">
${script}
</script></html>`;
}
